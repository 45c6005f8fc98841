"""StyleGAN2 networks in the pickles of stylegan2-ada-pytorch and of the stylegan3 repository.

Tensors already bear our names. Settings come from the attributes of the stored modules, not from the
arguments they were made with, whose defaults stand in source text and differ between the repositories. All
attributes that change the arithmetic are checked; half precision inside the original networks (``use_fp16``)
only makes them faster and is ignored. Errors are predicates ("has ..."); ``load.py`` puts the file's name
before them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lift3d.errors import CheckpointError
from lift3d.gan.config import MAX_RESOLUTION, Architecture, DiscriminatorConfig, GeneratorConfig
from lift3d.gan.ops import SQRT2
from lift3d.gan.pickle.allowlist import Persistent
from lift3d.gan.pickle.tensors import StoredTensor
from lift3d.gan.pickle.vm import damaged

_MAX_WIDTH = 1 << 16
_MAX_MODULES = 1000  # of one network
_MAX_TENSORS = 10_000
_ALIAS_FREE = (
    "is an alias-free StyleGAN3 generator (stylegan3-t or -r), and lift3d lifts StyleGAN2: give a StyleGAN2 "
    "pickle, which the same repository trains (--cfg=stylegan2) and links to"
)

Tensors = dict[str, StoredTensor]


@dataclass(frozen=True)
class Module:
    """A stored module, and its name in its network."""

    record: Persistent
    name: str = ""

    def get(self, attribute: str) -> object:
        """An attribute."""
        if attribute not in self.record.state:
            raise CheckpointError(f"has no {self.full(attribute)}: it is no StyleGAN2 of a known version")
        return self.record.state[attribute]

    def integer(self, attribute: str, low: int = 0, high: int = _MAX_WIDTH) -> int:
        """An attribute that is a whole number, low to high."""
        value = self.get(attribute)
        if type(value) is not int or not low <= value <= high:
            raise CheckpointError(
                f"has no usable {self.full(attribute)}, expected a number from {low} to {high}"
            )
        return value

    def expect(self, **expected: object) -> "Module":
        """The module, after its attributes were found to have these values (numbers: to a millionth)."""
        for attribute, target in expected.items():
            value = self.get(attribute)
            if type(target) in (int, float) and type(value) in (int, float):
                same = math.isclose(value, target, rel_tol=1e-6)
            else:
                same = type(value) is type(target) and value == target
            if not same:
                raise CheckpointError(
                    f"has {self.full(attribute)} = {_shown(value)}, where StyleGAN2 has {target!r}: give an "
                    "unmodified StyleGAN2"
                )
        return self

    def child(self, name: str, class_name: str) -> "Module":
        """A child, whose class must have this name."""
        record = self._group("_modules").get(name)
        if not isinstance(record, Persistent) or record.class_name != class_name:
            found = _shown(record.class_name) if isinstance(record, Persistent) else "nothing"
            raise CheckpointError(
                f"has {found} as {self.full(name)}, where StyleGAN2 has a {class_name}: give an unmodified "
                "StyleGAN2"
            )
        return Module(record, self.full(name))

    def linear(self, name: str, activation: str = "linear", lr: float = 1.0) -> "Module":
        """A fully connected child with the known arithmetic."""
        layer = self.child(name, "FullyConnectedLayer")
        n_in = layer.shape("weight", 2)[1]
        return layer.expect(activation=activation, weight_gain=lr / math.sqrt(n_in), bias_gain=lr)

    def convolution(self, name: str, activation: str = "lrelu", up: int = 1, down: int = 1) -> "Module":
        """A convolutional child with the known arithmetic."""
        layer = self.child(name, "Conv2dLayer")
        shape = layer.shape("weight", 4)
        return layer.expect(
            activation=activation,
            up=up,
            down=down,
            padding=shape[2] // 2,
            weight_gain=1 / math.sqrt(math.prod(shape[1:])),
            act_gain=SQRT2 if activation == "lrelu" else 1,
        )

    def shape(self, tensor: str, n_axes: int) -> tuple[int, ...]:
        """Shape of one of its own tensors."""
        shape = next((stored.shape for name, stored in self._own() if name == tensor), ())
        if len(shape) != n_axes or not all(0 < n <= _MAX_WIDTH for n in shape):
            raise CheckpointError(f"has no usable {self.full(tensor)}: it is damaged, or no StyleGAN2")
        return shape

    def tensors(self) -> Tensors:
        """All tensors in it, by full name. (Frozen parameters of Freeze-D stand among the buffers.)"""
        found: Tensors = {}
        modules, n_modules = [self], 1
        while modules:
            module = modules.pop()
            found.update((module.full(name), tensor) for name, tensor in module._own())
            children = module._group("_modules")
            n_modules += len(children)
            if n_modules > _MAX_MODULES or len(found) > _MAX_TENSORS:  # nested in itself, or many times over
                raise damaged("it has far more modules than a StyleGAN2")
            for name, record in children.items():
                if isinstance(record, Persistent):
                    modules.append(Module(record, module.full(name)))
                elif record is not None:
                    raise CheckpointError(f"has something else than an NVLabs module as {module.full(name)}")
        return found

    def full(self, name: str) -> str:
        """Name of something in it."""
        name = name if type(name) is str and name.isidentifier() else "?"
        return f"{self.name}.{name}"[-100:] if self.name else name

    def _own(self) -> Iterator[tuple[str, StoredTensor]]:
        for name, tensor in [*self._group("_parameters").items(), *self._group("_buffers").items()]:
            if isinstance(tensor, StoredTensor):
                yield name, tensor
            elif tensor is not None:
                raise damaged(f"{self.full(name)} is no tensor")

    def _group(self, name: str) -> dict:
        group = self.get(name)
        if type(group) is not dict:
            raise damaged(f"{self.full(name)} is no dict")
        return group


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
            f"is a {_shown(found.class_name)}, no StyleGAN2 generator: give a StyleGAN2 network pickle"
        )
    if critic is None:
        return Module(found), None
    if not isinstance(critic, Persistent) or critic.class_name != "Discriminator":
        raise CheckpointError("has a D that is no StyleGAN2 discriminator: give a StyleGAN2 network pickle")
    return Module(found), Module(critic)


def generator(network: Module) -> tuple[GeneratorConfig, Tensors]:
    """Settings and tensors of a generator."""
    n = _n_blocks(network)
    synthesis = network.child("synthesis", "SynthesisNetwork")
    if "input" in synthesis.get("_modules"):
        raise CheckpointError(_ALIAS_FREE)
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
    n_layers, lr = _mapping(network, c_dim)
    config = GeneratorConfig(
        channels=tuple(block.child("conv1", "SynthesisLayer").shape("weight", 4)[0] for block in blocks),
        z_dim=network.integer("z_dim", 1),
        w_dim=network.integer("w_dim", 1),
        c_dim=c_dim,
        n_mapping_layers=n_layers,
        mapping_lr=lr,
        architecture=architecture,
        conv_clamp=_clamp(clamped),
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
    n_layers, lr = _mapping(network, c_dim) if c_dim else (8, 0.01)
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
        conv_clamp=_clamp(clamped),
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
        raise CheckpointError(f"has the architecture {_shown(architecture)}, expected skip, resnet or orig")
    for block in blocks:
        block.expect(architecture=architecture)
    return architecture


def _mapping(network: Module, c_dim: int) -> tuple[int, float]:
    """Number of layers and learning-rate multiplier of the mapping network, whose arithmetic is checked."""
    mapping = network.child("mapping", "MappingNetwork").expect(c_dim=c_dim)
    n_layers = mapping.integer("num_layers", 1, 64)
    lr = mapping.child("fc0", "FullyConnectedLayer").get("bias_gain")
    if type(lr) not in (int, float) or not 0 < lr <= 1e3:
        raise CheckpointError(
            f"has {mapping.full('fc0')}.bias_gain = {_shown(lr)}, expected a positive number"
        )
    for i in range(n_layers):
        mapping.linear(f"fc{i}", "lrelu", lr)
    if c_dim:
        mapping.linear("embed")
    return n_layers, float(lr)


def _clamp(layers: list[Module]) -> float | None:
    """The bound of activations that all layers have."""
    clamp = layers[0].get("conv_clamp")
    if clamp is not None and (type(clamp) not in (int, float) or not 0 < clamp < math.inf):
        raise CheckpointError(f"has a conv_clamp of {_shown(clamp)}, expected a positive number or none")
    for layer in layers:
        layer.expect(conv_clamp=clamp)
    return None if clamp is None else float(clamp)


def _shown(value: object) -> str:
    """A value from the file for an error message, whatever it is."""
    return ascii(value)[:40] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
