"""StyleGAN2 networks in the pickles of stylegan2-ada-pytorch and of the stylegan3 repository.

Tensors already bear our names. All attributes that change the arithmetic are checked; half precision inside
the original networks (``use_fp16``) only makes them faster and is ignored. Errors are predicates ("has ...");
``load.py`` puts the file's name before them.
"""

import math
from dataclasses import replace

from lift3d.errors import CheckpointError
from lift3d.gan.config import MAX_RESOLUTION, Architecture, DiscriminatorConfig, GeneratorConfig, shown
from lift3d.gan.files import alias_free
from lift3d.gan.files.records import Module, Tensors, mapping_settings, shared_clamp
from lift3d.gan.kinds import AnyGeneratorConfig
from lift3d.gan.ops import SQRT2
from lift3d.gan.pickle.allowlist import Persistent


def networks(value: object, average: bool) -> tuple[Module, Module | None]:
    """Generator (averaged, or as of the last step) and discriminator, if any, in what a pickle holds."""
    if isinstance(value, Persistent):
        value = {"G_ema": value}
    if type(value) is not dict or not {"G", "D", "G_ema"} & value.keys():
        raise CheckpointError("is a pickle of something else than a GAN: give a StyleGAN2 network pickle")
    key = "G_ema" if average else "G"
    found, critic = value.get(key), value.get("D")
    if not isinstance(found, Persistent):
        raise CheckpointError(
            f"has no {key}, the generator: give a complete snapshot (network-snapshot-*.pkl)"
        )
    if found.class_name != "Generator":
        raise CheckpointError(
            f"is a {shown(found.class_name)}, no StyleGAN2 generator: give a StyleGAN2 network pickle"
        )
    if critic is None:
        return Module(found), None
    if not isinstance(critic, Persistent) or critic.class_name != "Discriminator":
        raise CheckpointError("has a D that is no StyleGAN2 discriminator: give a StyleGAN2 network pickle")
    return Module(found), Module(critic)


def generator(network: Module) -> tuple[AnyGeneratorConfig, Tensors]:
    """Settings and tensors of a generator."""
    n = _n_blocks(network)
    synthesis = network.child("synthesis", "SynthesisNetwork")
    if "input" in synthesis.get("_modules"):
        return alias_free.generator(replace(network, family="StyleGAN3"))
    blocks = [synthesis.child(f"b{4 << i}", "SynthesisBlock") for i in range(n)]
    architecture = _architecture(blocks)
    noise = blocks[0].child("conv1", "SynthesisLayer").get("use_noise") is True
    clamped = []
    for i, block in enumerate(blocks):
        for name, up in (("conv0", 2), ("conv1", 1)) if i > 0 else (("conv1", 1),):
            layer = block.child(name, "SynthesisLayer")
            layer.expect(up=up, activation="lrelu", act_gain=SQRT2, padding=1, use_noise=noise).linear(
                "affine"
            )
            clamped.append(layer)
        if i > 0 and architecture == "resnet":
            block.convolution("skip", "linear", up=2).expect(conv_clamp=None)
        if i == n - 1 or architecture == "skip":
            layer = block.child("torgb", "ToRGBLayer")
            layer.expect(weight_gain=1 / math.sqrt(layer.shape("weight", 4)[1])).linear("affine")
            clamped.append(layer)
    c_dim = network.integer("c_dim")
    n_layers, lr = mapping_settings(network, c_dim)
    config = GeneratorConfig(
        channels=tuple(block.child("conv1", "SynthesisLayer").shape("weight", 4)[0] for block in blocks),
        z_dim=network.integer("z_dim", 1),
        w_dim=network.integer("w_dim", 1),
        c_dim=c_dim,
        n_mapping_layers=n_layers,
        mapping_lr=lr,
        architecture=architecture,
        conv_clamp=shared_clamp(clamped),
        noise=noise,
        image_channels=network.integer("img_channels", 1, 16),
    )
    network.expect(num_ws=config.n_ws)
    return config, network.tensors()


def discriminator(network: Module) -> tuple[DiscriminatorConfig, Tensors]:
    """Settings and tensors of a discriminator."""
    n = _n_blocks(network)
    blocks = [network.child(f"b{4 << i}", "DiscriminatorBlock") for i in range(1, n)]
    epilogue = network.child("b4", "DiscriminatorEpilogue")
    architecture = _architecture([*blocks, epilogue])
    clamped = [epilogue.convolution("conv")]
    for i, block in enumerate(blocks, start=1):
        clamped += [block.convolution("conv0"), block.convolution("conv1", down=2)]
        if i == n - 1 or architecture == "skip":
            clamped.append(block.convolution("fromrgb"))
        if architecture == "resnet":
            block.convolution("skip", "linear", down=2).expect(conv_clamp=None)
    if architecture == "skip":
        epilogue.convolution("fromrgb").expect(conv_clamp=None)
    epilogue.linear("fc", "lrelu")
    epilogue.linear("out")
    c_dim = network.integer("c_dim")
    n_layers, lr = mapping_settings(network, c_dim) if c_dim else (8, 0.01)
    group, features = None, 0
    if epilogue.get("_modules").get("mbstd") is not None:
        statistics = epilogue.child("mbstd", "MinibatchStdLayer")
        features = statistics.integer("num_channels", 1)
        group = None if statistics.get("group_size") is None else statistics.integer("group_size", 1)
    config = DiscriminatorConfig(
        channels=(
            clamped[0].shape("weight", 4)[0],
            *(b.child("conv0", "Conv2dLayer").shape("weight", 4)[1] for b in blocks),
        ),
        c_dim=c_dim,
        cmap_dim=epilogue.integer("cmap_dim", 1) if c_dim else None,
        n_mapping_layers=n_layers,
        mapping_lr=lr,
        architecture=architecture,
        conv_clamp=shared_clamp(clamped),
        mbstd_group_size=group,
        mbstd_features=features,
        image_channels=network.integer("img_channels", 1, 16),
    )
    return config, network.tensors()


def _n_blocks(network: Module) -> int:
    """Number of resolutions 4, 8, ..."""
    resolution = network.integer("img_resolution", 8, MAX_RESOLUTION)
    if resolution & (resolution - 1):
        raise CheckpointError(f"makes {resolution}px images, expected a power of two")
    return resolution.bit_length() - 2


def _architecture(blocks: list[Module]) -> Architecture:
    """The one that all blocks have."""
    architecture = blocks[0].get("architecture")
    if architecture not in ("skip", "resnet", "orig"):
        raise CheckpointError(f"has the architecture {shown(architecture)}, expected skip, resnet or orig")
    for block in blocks:
        block.expect(architecture=architecture)
    return architecture
