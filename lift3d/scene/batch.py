"""Batches: frozen dataclasses of tensors that share their leading axes.

A field annotated ``Float[Tensor, "*s 3"]`` holds one vector for every element of the batch ``*s``; what
follows the first name of the annotation belongs to the element. Fields that are no tensors are shared by all
elements; a tensor that may be missing (``| None``) stays None. A field that is a batch is indexed along.
"""

from collections.abc import Callable, Iterator, Sequence
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

    def flat(self: Same) -> Same:
        """The same elements along one batch axis; a single one becomes a batch of one."""
        return self._map(lambda tensor, own: tensor.reshape(-1, *tensor.shape[tensor.ndim - own :]))

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
        there = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(there[name], own[name]) for name in own if there[name] is not None}
        parts = {name: part._map(change) for name, part in there.items() if isinstance(part, Batch)}
        return replace(self, **changed, **parts)


def stack(batches: Sequence[Same]) -> Same:
    """One batch, with a new first axis, of several batches alike: the inverse of iteration."""
    columns = {field.name: [getattr(one, field.name) for one in batches] for field in fields(batches[0])}
    return replace(batches[0], **{name: _stacked(column) for name, column in columns.items()})


def _stacked(column: list) -> object:
    match column[0]:
        case Tensor():
            return torch.stack(column)
        case Batch():
            return stack(column)
    return column[0]  # shared by all


def _element_axes(kind: type) -> dict[str, int]:
    """Names of the tensors of a dataclass, and how many of their last axes belong to an element."""
    kinds = {f.name: (f.type, *get_args(f.type)) for f in fields(kind)}
    axes = {name: [t.dim_str for t in types if hasattr(t, "dim_str")] for name, types in kinds.items()}
    return {name: len(found[0].split()) - 1 for name, found in axes.items() if found}
