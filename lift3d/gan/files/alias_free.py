"""Alias-free StyleGAN3 generators in the pickles of the stylegan3 repository.

Tensors already bear our names. The settings are read from the attributes of the stored modules, except for
the two stopbands, which are only among the arguments if they are not the published ones. Then the design that
follows from them is compared with what every layer says, and its filters with the stored ones. Errors are
predicates ("has ..."); ``load.py`` puts the file's name before them.
"""

import torch

from lift3d.errors import CheckpointError
from lift3d.gan.alias_free import AliasFreeConfig, LayerDesign, bands, layer_designs
from lift3d.gan.config import MAX_RESOLUTION
from lift3d.gan.files.records import Module, Tensors, mapping_settings, shared_clamp
from lift3d.gan.pickle.tensors import StoredTensor
from lift3d.gan.stylegan3 import design_filters

_STOPBANDS = ("first_stopband", "last_stopband_rel")


def generator(network: Module) -> tuple[AliasFreeConfig, Tensors]:
    """Settings and tensors of a generator."""
    synthesis = network.child("synthesis", "SynthesisNetwork")
    layers = [_layer(synthesis, i) for i in range(synthesis.integer("num_layers", 2, 64) + 1)]
    config = _config(network, synthesis, layers)
    band, source = bands(config)[0], synthesis.child("input", "SynthesisInput")
    source.expect(channels=band.channels, sampling_rate=band.rate, bandwidth=band.cutoff).linear("affine")
    network.expect(num_ws=config.n_ws)
    tensors = network.tensors()
    for layer, design in zip(layers, layer_designs(config), strict=True):
        _check_layer(layer, design)
        for name, taps in zip(("up_filter", "down_filter"), design_filters(design), strict=True):
            _check_filter(layer, name, tensors.pop(layer.full(name), None), taps)
    return config, tensors


def _layer(synthesis: Module, i: int) -> Module:
    """Layer i, whose name goes on with its size and its channels."""
    names = [name for name in synthesis.get("_modules") if str(name).startswith(f"L{i}_")]
    return synthesis.child(names[0] if len(names) == 1 else f"L{i}", "SynthesisLayer")


def _config(network: Module, synthesis: Module, layers: list[Module]) -> AliasFreeConfig:
    """What the attributes say, not yet compared with each other."""
    first, c_dim = layers[0], network.integer("c_dim")
    n_layers, lr = mapping_settings(network, c_dim)
    rates = [first.integer(f"{name}_sampling_rate", 1) for name in ("tmp", "in", "out")]
    filtered = next((layer for layer in layers if layer.get("up_taps") != 1), first)
    given = synthesis.get("_init_kwargs")
    stated = {name: given[name] for name in _STOPBANDS if name in given} if type(given) is dict else {}
    return AliasFreeConfig(
        channels=tuple(layer.shape("weight", 4)[0] for layer in layers[:-1]),
        resolution=network.integer("img_resolution", 8, MAX_RESOLUTION),
        z_dim=network.integer("z_dim", 1),
        w_dim=network.integer("w_dim", 1),
        c_dim=c_dim,
        n_mapping_layers=n_layers,
        mapping_lr=lr,
        n_critical=synthesis.integer("num_critical"),
        first_cutoff=synthesis.child("input", "SynthesisInput").positive("bandwidth"),
        margin=synthesis.integer("margin_size"),
        conv_size=first.integer("conv_kernel", 1),
        filter_size=filtered.integer("up_taps", 1) // filtered.integer("up_factor", 1),
        oversampling=rates[0] // max(rates[1:]),
        radial=any(layer.get("down_radial") is True for layer in layers),
        conv_clamp=shared_clamp(layers),
        output_scale=synthesis.positive("output_scale"),
        image_channels=network.integer("img_channels", 1, 16),
        **stated,
    )


def _check_layer(layer: Module, design: LayerDesign) -> None:
    """The layer must be what the settings make of it."""
    before, after = design.input, design.output
    layer.expect(
        is_torgb=design.is_image,
        in_sampling_rate=before.rate,
        out_sampling_rate=after.rate,
        tmp_sampling_rate=design.rate,
        in_cutoff=before.cutoff,
        out_cutoff=after.cutoff,
        in_half_width=before.half_width,
        out_half_width=after.half_width,
        conv_kernel=design.conv_size,
        up_factor=design.up,
        down_factor=design.down,
        up_taps=design.up_taps,
        down_taps=design.down_taps,
        down_radial=design.radial,
        padding=[*design.padding, *design.padding],
    ).linear("affine")


def _check_filter(layer: Module, name: str, stored: StoredTensor | None, taps: torch.Tensor | None) -> None:
    """A stored filter must be the one that we design."""
    same = (stored is None) == (taps is None)
    if same and stored is not None:
        same = stored.shape == taps.shape and torch.allclose(stored.tensor(), taps, atol=1e-6)
    if not same:
        raise CheckpointError(
            f"has another filter ({layer.full(name)}) than its settings give: give an unmodified StyleGAN3"
        )
