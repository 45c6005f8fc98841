"""Modules in NVLabs pickles, and checks of what their attributes say.

Settings come from the attributes of the stored modules, not from the arguments they were made with, whose
defaults stand in source text and differ between the repositories. Errors are predicates ("has ...");
``load.py`` puts the file's name before them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lift3d.errors import CheckpointError
from lift3d.gan.config import shown
from lift3d.gan.ops import SQRT2
from lift3d.gan.pickle.allowlist import Persistent
from lift3d.gan.pickle.tensors import StoredTensor
from lift3d.gan.pickle.vm import damaged

_MAX_WIDTH = 1 << 16
_MAX_MODULES = 1000  # of one network
_MAX_TENSORS = 10_000

Tensors = dict[str, StoredTensor]


@dataclass(frozen=True)
class Module:
    """A stored module, and its name in its network."""

    record: Persistent
    name: str = ""
    family: str = "StyleGAN2"  # of networks that it belongs to

    def get(self, attribute: str) -> object:
        """An attribute."""
        if attribute not in self.record.state:
            raise CheckpointError(f"has no {self.full(attribute)}: it is no {self.family} of a known version")
        return self.record.state[attribute]

    def integer(self, attribute: str, low: int = 0, high: int = _MAX_WIDTH) -> int:
        """An attribute that is a whole number, low to high."""
        value = self.get(attribute)
        if type(value) is not int or not low <= value <= high:
            raise CheckpointError(
                f"has no usable {self.full(attribute)}, expected a number from {low} to {high}"
            )
        return value

    def positive(self, attribute: str) -> float:
        """An attribute that is a positive number."""
        value = self.get(attribute)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise CheckpointError(f"has {self.full(attribute)} = {shown(value)}, expected a positive number")
        return float(value)

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
                    f"has {self.full(attribute)} = {shown(value)}, where {self.family} has {target!r}: give "
                    f"an unmodified {self.family}"
                )
        return self

    def child(self, name: str, class_name: str) -> "Module":
        """A child, whose class must have this name."""
        record = self._group("_modules").get(name)
        if not isinstance(record, Persistent) or record.class_name != class_name:
            found = shown(record.class_name) if isinstance(record, Persistent) else "nothing"
            raise CheckpointError(
                f"has {found} as {self.full(name)}, where {self.family} has a {class_name}: give an "
                f"unmodified {self.family}"
            )
        return replace(self, record=record, name=self.full(name))

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
            raise CheckpointError(f"has no usable {self.full(tensor)}: it is damaged, or no {self.family}")
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
                raise damaged(f"it has far more modules than a {self.family}")
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


def mapping_settings(network: Module, c_dim: int) -> tuple[int, float]:
    """Number of layers and learning-rate multiplier of the mapping network, whose arithmetic is checked."""
    mapping = network.child("mapping", "MappingNetwork").expect(c_dim=c_dim)
    n_layers = mapping.integer("num_layers", 1, 64)
    lr = mapping.child("fc0", "FullyConnectedLayer").positive("bias_gain")
    for i in range(n_layers):
        mapping.linear(f"fc{i}", "lrelu", lr)
    if c_dim:
        mapping.linear("embed")
    return n_layers, lr


def shared_clamp(layers: list[Module]) -> float | None:
    """The bound of activations that all layers have."""
    clamp = layers[0].get("conv_clamp")
    if clamp is not None and (type(clamp) not in (int, float) or not 0 < clamp < math.inf):
        raise CheckpointError(f"has a conv_clamp of {shown(clamp)}, expected a positive number or none")
    for layer in layers:
        layer.expect(conv_clamp=clamp)
    return None if clamp is None else float(clamp)
