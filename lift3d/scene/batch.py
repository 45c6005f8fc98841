"""Batches: frozen dataclasses of tensors that share their leading axes.

A field annotated ``Float[Tensor, "*s 3"]`` holds one vector for every element of the batch ``*s``; what
follows the first name of the annotation belongs to the element. Fields that are no tensors are shared by all
elements; a tensor that may be missing (``| None``) stays None.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import TypeVar, get_args

import torch
from torch import Tensor

Same = TypeVar("Same")  # the class that inherits from Batch


class Batch:
    """Gives a frozen dataclass ``to``, ``[index]``, ``len`` and iteration, and a ``repr`` of shapes."""

    def to(self: Same, *target: object) -> Same:
        """The same values on another device (or in another precision): what ``Tensor.to`` takes."""
        return self._map(lambda tensor, _: tensor.to(*target))

    def __getitem__(self: Same, index: object) -> Same:
        """Elements at an index, mask or slice of the batch axes; None and an ellipsis work as in torch."""
        batch = index if isinstance(index, tuple) else (index,)
        return self._map(lambda tensor, own: tensor[(*batch, *(slice(None),) * own)])

    def __len__(self) -> int:
        shape = self.batch_shape
        if not shape:
            raise TypeError(
                f"this {type(self).__name__} is a single one, without a batch axis: it has no length"
            )
        return shape[0]

    def __iter__(self: Same) -> Iterator[Same]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            parts.append(f"{field.name}={list(value.shape) if isinstance(value, Tensor) else repr(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Sizes of the batch axes."""
        name, own = next(iter(_element_axes(type(self)).items()))
        shape = tuple(getattr(self, name).shape)
        return shape[: len(shape) - own]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return getattr(self, next(iter(_element_axes(type(self))))).device

    def _map(self: Same, change: Callable[[Tensor, int], Tensor]) -> Same:
        """Every tensor changed, given the number of its axes that belong to an element."""
        own = _element_axes(type(self))
        there = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        return replace(self, **{name: change(tensor, own[name]) for name, tensor in there.items()})


def _element_axes(kind: type) -> dict[str, int]:
    """Names of the tensors of a dataclass, and how many of their last axes belong to an element."""
    kinds = {f.name: (f.type, *get_args(f.type)) for f in fields(kind)}
    axes = {name: [t.dim_str for t in types if hasattr(t, "dim_str")] for name, types in kinds.items()}
    return {name: len(found[0].split()) - 1 for name, found in axes.items() if found}
