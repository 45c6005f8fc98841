"""Writers of GAN files as other programs write them, from our networks: NVLabs pickles, rosinality .pt files.

No code of those programs is here: small stand-in classes bear the names that the pickles refer to.
"""

import io
import pickle
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from lift3d.gan.alias_free import bands
from lift3d.gan.ops import fir_filter
from lift3d.gan.stylegan2 import Discriminator, Generator
from lift3d.gan.stylegan3 import AliasFreeGenerator

FIR = fir_filter(torch.zeros(1))


# --- NVLabs --------------------------------------------------------------------------------------------


def _reconstruct_persistent_obj(meta: dict) -> None:
    raise AssertionError("a pickle's function was called")


class EasyDict(dict):
    """Stands for dnnlib.util.EasyDict."""


class Network:
    """Stands for dnnlib.tflib.network.Network, the TensorFlow one."""

    def __init__(self, **state: object) -> None:
        self.__dict__.update(state)


class Stored:
    """A module of torch_utils.persistence: pickled as a call that rebuilds it from its attributes."""

    def __init__(self, class_name: str, tensors: dict, children: dict, **attributes: object) -> None:
        kinds = {"_parameters": nn.Parameter, "_buffers": Tensor}
        groups = {
            kind: OrderedDict((k, t) for k, t in tensors.items() if type(t) is c) for kind, c in kinds.items()
        }
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "# the source text of the networks\n",
            "class_name": class_name,
            "state": {
                "training": False,
                **groups,
                "_non_persistent_buffers_set": set(),
                "_backward_hooks": OrderedDict(),
                "_modules": OrderedDict(children),
                **attributes,
                "_init_args": (),
                "_init_kwargs": EasyDict(),
            },
        }

    @property
    def state(self) -> dict:
        return self.meta["state"]

    def child(self, path: str) -> "Stored":
        """A module below this one."""
        found = self
        for name in path.split("."):
            found = found.state["_modules"][name]
        return found

    def __reduce__(self) -> tuple:
        return _reconstruct_persistent_obj, (self.meta,)


NAMES = {
    "torch_utils.persistence": _reconstruct_persistent_obj,
    "dnnlib.util": EasyDict,
    "dnnlib.tflib.network": Network,
}


@contextmanager
def borrowed_names() -> Iterator[None]:
    """Lets the stand-ins be pickled under the names of the originals."""
    kept, before = {}, dict(sys.modules)
    for module, thing in NAMES.items():
        parts = module.split(".")
        for i in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:i]), ModuleType(".".join(parts[:i])))
        setattr(sys.modules[module], thing.__name__, thing)
        kept[thing], thing.__module__ = thing.__module__, module
    try:
        yield
    finally:
        for thing, module in kept.items():
            thing.__module__ = module
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def dumps(value: object, protocol: int = 4) -> bytes:
    with borrowed_names():
        return pickle.dumps(value, protocol)


def _own(module: nn.Module) -> dict:
    """Parameters and buffers of a module itself, as they are pickled."""
    return {
        **{
            k: nn.Parameter(p.data.clone(), requires_grad=False)
            for k, p in module.named_parameters(recurse=False)
        },
        **{k: b.clone() for k, b in module.named_buffers(recurse=False) if not k.endswith("_filter")},
    }


def _linear(layer: nn.Module) -> Stored:
    return Stored(
        "FullyConnectedLayer",
        _own(layer),
        {},
        activation="lrelu" if layer.activate else "linear",
        weight_gain=layer.lr / np.sqrt(layer.weight.shape[1]),
        bias_gain=layer.lr,
    )


def _convolution(layer: nn.Module) -> Stored:
    return Stored(
        "Conv2dLayer",
        {**_own(layer), "resample_filter": FIR.clone()},
        {},
        activation="lrelu" if layer.activate else "linear",
        up=2 if layer.resample == "up" else 1,
        down=2 if layer.resample == "down" else 1,
        conv_clamp=layer.clamp,
        padding=layer.weight.shape[-1] // 2,
        weight_gain=1 / np.sqrt(layer.weight[0].numel()),
        act_gain=np.sqrt(2) if layer.activate else 1,
    )


def _mapping(mapping: nn.Module, n_ws: int | None) -> Stored:
    return Stored(
        "MappingNetwork",
        _own(mapping),
        {name: _linear(layer) for name, layer in mapping.named_children()},
        z_dim=mapping.z_dim,
        c_dim=mapping.c_dim,
        w_dim=mapping.w_dim,
        num_ws=n_ws,
        num_layers=mapping.n_layers,
        w_avg_beta=0.998,
    )


def nvlabs_generator(generator: Generator, fp16: bool = False) -> Stored:
    """A generator as the NVLabs programs keep it; ``fp16`` sets what they would compute in half precision."""
    config, blocks = generator.config, {}
    for name, block in generator.synthesis.named_children():
        children = {}
        for key, layer in block.named_children():
            if key == "skip":
                children[key] = _convolution(layer)
            elif key == "torgb":
                gain = 1 / np.sqrt(layer.weight.shape[1])
                affine = {"affine": _linear(layer.affine)}
                children[key] = Stored(
                    "ToRGBLayer", _own(layer), affine, conv_clamp=layer.clamp, weight_gain=gain
                )
            else:
                children[key] = Stored(
                    "SynthesisLayer",
                    {**_own(layer), "resample_filter": FIR.clone()},
                    {"affine": _linear(layer.affine)},
                    resolution=layer.resolution,
                    up=2 if layer.up else 1,
                    use_noise=layer.noise,
                    activation="lrelu",
                    conv_clamp=layer.clamp,
                    padding=1,
                    act_gain=np.sqrt(2),
                )
        blocks[name] = Stored(
            "SynthesisBlock",
            {**_own(block), "resample_filter": FIR.clone()},
            children,
            architecture=config.architecture,
            use_fp16=fp16,
        )
    return Stored(
        "Generator",
        {},
        {
            "synthesis": Stored("SynthesisNetwork", {}, blocks, num_ws=config.n_ws),
            "mapping": _mapping(generator.mapping, config.n_ws),
        },
        z_dim=config.z_dim,
        c_dim=config.c_dim,
        w_dim=config.w_dim,
        img_resolution=config.resolution,
        img_channels=config.image_channels,
        num_ws=config.n_ws,
    )


def nvlabs_discriminator(discriminator: Discriminator, frozen: int = 0) -> Stored:
    """A discriminator; Freeze-D keeps the weights of the ``frozen`` largest blocks as buffers."""
    config, children = discriminator.config, {}
    for name, block in discriminator.named_children():
        if name == "mapping":
            children[name] = _mapping(block, None)
            continue
        layers = {
            key: _linear(layer) if key in ("fc", "out") else _convolution(layer)
            for key, layer in block.named_children()
        }
        if name == "b4":
            if config.mbstd_features:
                sizes = {"group_size": config.mbstd_group_size, "num_channels": config.mbstd_features}
                layers["mbstd"] = Stored("MinibatchStdLayer", {}, {}, **sizes)
            else:
                layers["mbstd"] = None
            cmap_dim = config.condition_features
            children[name] = Stored(
                "DiscriminatorEpilogue", {}, layers, cmap_dim=cmap_dim, architecture=config.architecture
            )
        else:
            fir = {"resample_filter": FIR.clone()}
            children[name] = Stored(
                "DiscriminatorBlock", fir, layers, architecture=config.architecture, use_fp16=True
            )
            if len(children) <= frozen:
                for layer in layers.values():
                    layer.state["_buffers"].update((k, p.data) for k, p in layer.state["_parameters"].items())
                    layer.state["_parameters"].clear()
    return Stored(
        "Discriminator",
        {},
        children,
        c_dim=config.c_dim,
        img_resolution=config.resolution,
        img_channels=config.image_channels,
    )


def alias_free_generator(generator: AliasFreeGenerator, fp16: bool = False, **arguments: float) -> Stored:
    """An alias-free generator; ``arguments`` are what its synthesis network was made with."""
    config, layers = generator.config, {}
    pair = lambda size: np.broadcast_to(np.asarray(size), [2])  # noqa: E731 - pickled as a NumPy array
    source, first = generator.synthesis.input, bands(config)[0]
    layers["input"] = Stored(
        "SynthesisInput",
        _own(source),
        {"affine": _linear(source.affine)},
        w_dim=config.w_dim,
        channels=first.channels,
        size=pair(first.size),
        sampling_rate=np.float64(first.rate),
        bandwidth=np.float64(first.cutoff),
    )
    for layer in generator.synthesis.layers:
        d = layer.design
        filters = {"up_filter": layer.up_filter, "down_filter": layer.down_filter}
        layers[d.name] = Stored(
            "SynthesisLayer",
            {**_own(layer), **{name: taps for name, taps in filters.items() if taps is not None}},
            {"affine": _linear(layer.affine)},
            is_torgb=d.is_image,
            is_critically_sampled=d.is_critical,
            use_fp16=fp16,
            in_channels=d.input.channels,
            out_channels=d.output.channels,
            in_size=pair(d.input.size),
            out_size=pair(d.output.size),
            in_sampling_rate=d.input.rate,
            out_sampling_rate=d.output.rate,
            tmp_sampling_rate=d.rate,
            in_cutoff=np.float64(d.input.cutoff),
            out_cutoff=np.float64(d.output.cutoff),
            in_half_width=np.float64(d.input.half_width),
            out_half_width=np.float64(d.output.half_width),
            conv_kernel=d.conv_size,
            conv_clamp=config.conv_clamp,
            magnitude_ema_beta=0.999,
            up_factor=d.up,
            up_taps=d.up_taps,
            down_factor=d.down,
            down_taps=d.down_taps,
            down_radial=d.radial,
            padding=[*d.padding, *d.padding],
        )
    synthesis = Stored(
        "SynthesisNetwork",
        {},
        layers,
        num_ws=config.n_ws,
        num_layers=len(config.channels),
        num_critical=config.n_critical,
        margin_size=config.margin,
        output_scale=config.output_scale,
        num_fp16_res=4 if fp16 else 0,
        layer_names=list(layers)[1:],
    )
    synthesis.state["_init_kwargs"] = EasyDict(arguments)
    return Stored(
        "Generator",
        {},
        {"synthesis": synthesis, "mapping": _mapping(generator.mapping, config.n_ws)},
        z_dim=config.z_dim,
        c_dim=config.c_dim,
        w_dim=config.w_dim,
        img_resolution=config.resolution,
        img_channels=config.image_channels,
        num_ws=config.n_ws,
    )


def snapshot(g_ema: Stored, d: Stored | None = None, g: Stored | None = None) -> dict:
    """What a training snapshot holds."""
    return {
        "training_set_kwargs": EasyDict(path="x.zip"),
        "G": g,
        "D": d,
        "G_ema": g_ema,
        "augment_pipe": None,
    }


# --- rosinality ----------------------------------------------------------------------------------------


def rosinality_generator(generator: Generator, noises: bool = True) -> dict[str, Tensor]:
    """A generator's state dict under rosinality's names."""
    state, own = OrderedDict(), generator.state_dict()
    for i in range(generator.config.n_mapping_layers):
        for kind in ("weight", "bias"):
            state[f"style.{i + 1}.{kind}"] = own[f"mapping.fc{i}.{kind}"]
    state["input.input"] = own["synthesis.b4.const"][None]

    def put(theirs: str, ours: str) -> None:
        state[f"{theirs}.conv.weight"] = own[f"{ours}.weight"][None]
        state[f"{theirs}.conv.modulation.weight"] = own[f"{ours}.affine.weight"]
        state[f"{theirs}.conv.modulation.bias"] = own[f"{ours}.affine.bias"]

    def put_layer(theirs: str, ours: str, k: int) -> None:
        put(theirs, ours)
        state[f"{theirs}.noise.weight"] = own[f"{ours}.noise_strength"][None]
        state[f"{theirs}.activate.bias"] = own[f"{ours}.bias"]
        if noises:
            state[f"noises.noise_{k}"] = own[f"{ours}.noise_const"][None, None]

    def put_rgb(theirs: str, ours: str) -> None:
        put(theirs, ours)
        state[f"{theirs}.bias"] = own[f"{ours}.bias"][None, :, None, None]

    put_layer("conv1", "synthesis.b4.conv1", 0)
    put_rgb("to_rgb1", "synthesis.b4.torgb")
    for j in range(len(generator.config.channels) - 1):
        block = f"synthesis.b{8 << j}"
        put_layer(f"convs.{2 * j}", f"{block}.conv0", 2 * j + 1)
        put_layer(f"convs.{2 * j + 1}", f"{block}.conv1", 2 * j + 2)
        put_rgb(f"to_rgbs.{j}", f"{block}.torgb")
        state[f"convs.{2 * j}.conv.blur.kernel"] = FIR * 4
        state[f"to_rgbs.{j}.upsample.kernel"] = FIR * 4
    return state


def rosinality_discriminator(discriminator: Discriminator) -> dict[str, Tensor]:
    """A discriminator's state dict under rosinality's names."""
    state, own, r = OrderedDict(), discriminator.state_dict(), discriminator.config.resolution
    state["convs.0.0.weight"], state["convs.0.1.bias"] = (
        own[f"b{r}.fromrgb.weight"],
        own[f"b{r}.fromrgb.bias"],
    )
    for j in range(len(discriminator.config.channels) - 1):
        ours, theirs = f"b{r >> j}", f"convs.{j + 1}"
        state[f"{theirs}.conv1.0.weight"] = own[f"{ours}.conv0.weight"]
        state[f"{theirs}.conv1.1.bias"] = own[f"{ours}.conv0.bias"]
        state[f"{theirs}.conv2.0.kernel"] = FIR
        state[f"{theirs}.conv2.1.weight"] = own[f"{ours}.conv1.weight"]
        state[f"{theirs}.conv2.2.bias"] = own[f"{ours}.conv1.bias"]
        state[f"{theirs}.skip.0.kernel"] = FIR
        state[f"{theirs}.skip.1.weight"] = own[f"{ours}.skip.weight"]
    state["final_conv.0.weight"], state["final_conv.1.bias"] = own["b4.conv.weight"], own["b4.conv.bias"]
    for i, layer in enumerate(("fc", "out")):
        for kind in ("weight", "bias"):
            state[f"final_linear.{i}.{kind}"] = own[f"b4.{layer}.{kind}"]
    return state


def training_arguments() -> Namespace:
    """The ``args`` of rosinality's training script, an object in the checkpoint."""
    return Namespace(path="x", size=8, latent=5, n_mlp=2, channel_multiplier=2, r1=10.0, arch="stylegan2")


def saved(value: object, legacy: bool = False) -> bytes:
    """``torch.save``, in today's format or that of before 1.6."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def scrambled(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random numbers where it starts with zeros or ones, so that nothing cancels."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim < 2 or name.endswith("bias"):
                tensor.add_(torch.randn(tensor.shape, generator=rng) / sqrt(10))
    return network.requires_grad_(False).eval()
