"""A second device without hardware: tensors that say they are on "meta", are computed on the CPU, and
refuse to be mixed with tensors that are not.

``with second_device():`` tensors come into being there where a program asks for that device. An operation on
tensors of both kinds raises ``MixedDevices``, as a GPU would (tensors of one number may be mixed there, and
here); ``numpy()`` raises what torch raises of a GPU's tensors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = torch.device("meta")
_MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class MixedDevices(RuntimeError):
    """An operation took tensors of two devices."""


class OnDevice(torch.Tensor):
    """A tensor of the second device; ``inner`` is what it is on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnDevice":
        out = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=inner.requires_grad,
        )
        out.inner = inner
        return out

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), named=None):
        named = named or {}
        with torch._C.DisableTorchFunctionSubclass():
            if function is torch.Tensor.new_tensor:  # made in C++, where no operation is seen
                kind = named.get("dtype") or arguments[0].dtype
                return torch.tensor(arguments[1], dtype=kind).to(arguments[0].device)
            return function(*arguments, **named)

    def __repr__(self) -> str:
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), named=None):
        return _run(function, arguments, named or {})


def _is_second(device: object) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _run(function, arguments, named):
    """One operation of PyTorch, on the CPU; its result is of the device asked for, or else of its inputs'."""
    flat, spec = tree_flatten((arguments, named))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, OnDevice)]
    if ours and function not in _MOVES:
        others = [x for x in tensors if not isinstance(x, OnDevice) and x.ndim and x.device.type == "cpu"]
        index = function in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
        if others and not index:  # indices may be on the CPU
            raise MixedDevices(f"{function} got tensors of the second device and of the CPU")
    target = bool(ours)
    if function is torch.ops.aten.copy_.default:
        _inner(arguments[0]).copy_(_inner(arguments[1]))
        return arguments[0]
    if "device" in named and named["device"] is not None:
        target = _is_second(named["device"])
        named = named | {"device": torch.device("cpu")}
        flat, spec = tree_flatten((arguments, named))
    inner_arguments, inner_named = tree_unflatten([_inner(x) for x in flat], spec)
    out = function(*inner_arguments, **inner_named)
    if not target:
        return out
    known = {id(x.inner): x for x in ours}  # an operation in place returns its own tensor

    def wrap(x: object) -> object:
        if not isinstance(x, torch.Tensor):
            return x
        return known[id(x)] if id(x) in known else OnDevice(x)

    return tree_map(wrap, out)


def _inner(x: object) -> object:
    return x.inner if isinstance(x, OnDevice) else x


class _Mode(TorchDispatchMode):
    """Catches what is made on the second device out of nothing."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        return _run(function, arguments, named or {})


class _Factories(TorchFunctionMode):
    """Catches tensors of Python numbers, which are made in C++."""

    def __torch_function__(self, function, types, arguments=(), named=None):
        named = named or {}
        if function in (torch.tensor, torch.as_tensor) and _is_second(named.get("device")):
            return function(*arguments, **named | {"device": None}).to(DEVICE)
        return function(*arguments, **named)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """The device; tensors can be made on it and moved to it inside."""
    with _Factories(), _Mode():
        yield DEVICE
