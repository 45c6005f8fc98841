"""Batches are indexed as their elements would be stacked."""

from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.scene.batch import Batch, stack


@dataclass(frozen=True, repr=False)
class Points(Batch):
    position: Float[Tensor, "*s 3"]
    weight: Float[Tensor, "*s"]
    name: str = "p"


POINTS = Points(torch.arange(24.0).view(4, 2, 3), torch.arange(8.0).view(4, 2))


@pytest.mark.parametrize(
    "index", [2, -1, slice(1, 3), (slice(None), 1), (1, 0), None, (..., None), torch.tensor([3, 0])]
)
def test_indexing_is_that_of_an_array_of_points(index: object) -> None:
    found = POINTS[index]
    assert torch.equal(found.weight, POINTS.weight[index])
    for axis in range(3):
        assert torch.equal(found.position[..., axis], POINTS.position[..., axis][index])
    assert found.name == "p"


@dataclass(frozen=True, repr=False)
class Colored(Points):
    color: Float[Tensor, "*s 3"] | None = None


def test_a_tensor_may_be_missing() -> None:
    plain, colored = (Colored(POINTS.position, POINTS.weight, color=c) for c in (None, 2 * POINTS.position))
    assert plain[1].color is None and plain.to(torch.float64).color is None
    assert torch.equal(colored[1:, 0].color, 2 * POINTS.position[1:, 0])
    assert colored.to(torch.float64).color.dtype == torch.float64
    assert repr(plain).endswith("color=None)") and repr(colored).endswith("color=[4, 2, 3])")


def test_masks_length_iteration_and_shape() -> None:
    mask = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    assert torch.equal(POINTS[mask].position, POINTS.position[mask])
    assert len(POINTS) == 4 and POINTS.batch_shape == (4, 2) and POINTS[1, 1].batch_shape == ()
    assert [p.weight.tolist() for p in POINTS] == POINTS.weight.tolist()
    with pytest.raises(TypeError, match="this Points is a single one"):
        len(POINTS[0, 0])
    with pytest.raises(FrozenInstanceError):
        POINTS.name = "q"


def test_to_changes_every_tensor_and_repr_is_short() -> None:
    double = POINTS.to(torch.float64)
    assert double.position.dtype == double.weight.dtype == torch.float64
    assert repr(POINTS) == "Points(position=[4, 2, 3], weight=[4, 2], name='p')"
    assert POINTS.device == torch.device("cpu")


@dataclass(frozen=True, repr=False)
class Named(Batch):
    points: Points
    color: Float[Tensor, "*s 3"]


def test_a_batch_within_a_batch_is_indexed_along() -> None:
    whole = Named(POINTS, POINTS.position)
    assert whole.batch_shape == (4, 2) and whole[2:, 1].points.position.shape == (2, 3)
    assert whole.to(torch.float64).points.weight.dtype == torch.float64


@pytest.mark.parametrize("whole", [POINTS, Named(POINTS, POINTS.position), Colored(*vars(POINTS).values())])
def test_stacking_is_the_inverse_of_iteration(whole: Batch) -> None:
    again = stack(list(whole))
    assert repr(again) == repr(whole)
    points, expected = (getattr(b, "points", b) for b in (again, whole))
    assert torch.equal(points.position, expected.position) and points.name == "p"
