"""Tensors inside a checkpoint before anything is allocated for them: where their numbers lie, and how.

A storage is a run of little-endian numbers of one type; a stored tensor is a view of it (offset, shape,
strides in elements). The view is checked against the storage when it is described, so that reading can
neither leave the storage nor grow it. Errors are predicates ("is damaged: ..."); ``load.py`` puts the file's
name before them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from lift3d.errors import CheckpointError
from lift3d.gan.pickle.vm import damaged

DTYPES = {
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ShortStorage": torch.int16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
}
_FLOATS = {torch.float16: "<f2", torch.bfloat16: "<u2", torch.float32: "<f4", torch.float64: "<f8"}
_MAX_AXES = 8


@dataclass(frozen=True)
class Storage:
    """``count`` numbers; ``read`` gives their bytes when they are asked for."""

    dtype: torch.dtype
    count: int
    read: Callable[[], bytes | memoryview]


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage, known to lie inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) > _MAX_AXES:  # before anything is multiplied
            raise damaged(f"a tensor has {len(self.shape)} axes, far more than one of a GAN")
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(self.shape) != len(self.strides):
            raise damaged("a tensor has no proper shape")
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        count = self.storage.count
        fits = prod(self.shape) <= count and (0 in self.shape or self.offset + last < count)
        if not fits:
            raise damaged(f"a tensor of shape {_short(self.shape)} exceeds its storage of {count} numbers")

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers, as stored."""
        return prod(self.shape) * self.storage.dtype.itemsize

    def without(self, *axes: int) -> "StoredTensor":
        """The same numbers without these axes, whose length must be 1."""
        if any(axis >= len(self.shape) or self.shape[axis] != 1 for axis in axes):
            raise CheckpointError(
                f"has a tensor of shape {_short(self.shape)}, expected length 1 in axes {axes}"
            )
        kept = [axis for axis in range(len(self.shape)) if axis not in axes]
        return replace(
            self, shape=tuple(self.shape[i] for i in kept), strides=tuple(self.strides[i] for i in kept)
        )

    def tensor(self) -> Float32[Tensor, "..."]:
        """A copy in single precision, channels-last where there are four axes."""
        code = _FLOATS.get(self.storage.dtype)
        if code is None:
            raise CheckpointError(
                f"has weights of type {self.storage.dtype}, expected floating-point numbers"
            )
        numbers = np.frombuffer(self.storage.read(), code)
        if len(numbers) != self.storage.count:
            raise damaged(f"a storage holds {len(numbers)} numbers, {self.storage.count} were announced")
        steps = [numbers.itemsize * stride for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps, writeable=False)
        if len(self.shape) == 4:
            return torch.from_numpy(_single(view.transpose(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return torch.from_numpy(_single(view))


def _single(view: np.ndarray) -> np.ndarray:
    """A C-ordered float32 copy in one step; 2-byte integers are the upper halves of floats (bfloat16)."""
    if view.dtype != np.uint16:
        with np.errstate(over="ignore"):  # double precision beyond the range: found as infinite later
            return np.array(view, np.float32, order="C")
    out = np.empty(view.shape, np.uint32)
    np.left_shift(view, 16, out=out, dtype=np.uint32)
    return out.view(np.float32)


def _short(shape: tuple[int, ...]) -> str:
    """A shape for an error message, whatever its numbers are."""
    return " x ".join(str(n) if n < 10**12 else "10^12+" for n in shape[:_MAX_AXES]) or "()"
