"""Lights and their prior: round trips, indexing, ranges."""

import pytest
import torch

from lift3d.errors import ConfigError
from lift3d.scene.lights import LightPrior, Lights

PRIOR = LightPrior(l_x=(-1.0, 0.5), l_y=(-0.3, 0.9), negative=(0.1, 0.4))


def vectors(*shape: int) -> torch.Tensor:
    n = int(torch.tensor(shape).prod())
    return PRIOR.sample(n, torch.Generator().manual_seed(0)).view(*shape, 5)


def assert_same(a: Lights, b: Lights) -> None:
    for name in ("direction", "ambient", "diffuse", "negative"):
        assert torch.equal(getattr(a, name), getattr(b, name))


def test_a_vector_is_read_in_the_order_of_the_names() -> None:
    light = Lights.from_vector(torch.tensor([0.4, 0.7, 3.0, -2.0, 0.1]))
    torch.testing.assert_close(light.direction, torch.tensor([3.0, -2.0, 1.0]) / 14**0.5)
    assert (light.ambient, light.diffuse, light.negative) == tuple(torch.tensor([0.4, 0.7, 0.1]))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_vectors_survive_the_round_trip(shape: tuple[int, ...]) -> None:
    vector = vectors(*shape)
    lights = Lights.from_vector(vector)
    torch.testing.assert_close(lights.to_vector(), vector)
    torch.testing.assert_close(lights.direction.norm(dim=-1), torch.ones(shape))


@pytest.mark.parametrize(
    "index",
    [
        0,
        slice(1, 3),
        None,
        (None, slice(None), None),
        (slice(None), 1),
        (..., 1),
        (..., None),
        (1, ..., None),
        torch.tensor([2, 0, 2]),
    ],
)
def test_indexing_is_indexing_the_batch(index: object) -> None:
    vector = vectors(3, 2)
    rows = index if isinstance(index, tuple) else (index,)
    assert_same(Lights.from_vector(vector)[index], Lights.from_vector(vector[(*rows, slice(None))]))


def test_a_mask_selects_lights() -> None:
    vector = vectors(3, 2)
    mask = torch.tensor([[True, False], [False, True], [True, True]])
    assert_same(Lights.from_vector(vector)[mask], Lights.from_vector(vector[mask]))


def test_per_point_appends_axes() -> None:
    vector = vectors(3, 2)
    assert_same(Lights.from_vector(vector).per_point(2), Lights.from_vector(vector[:, :, None, None]))
    assert_same(Lights.from_vector(vector).per_point(0), Lights.from_vector(vector))


def test_prior_is_uniform_in_its_ranges_at_a_level_exposure() -> None:
    sample = PRIOR.sample(20_000, torch.Generator().manual_seed(1))
    ambient, diffuse, l_x, l_y, negative = sample.T
    level = ambient + PRIOR.coupling * diffuse
    for values, (low, high) in (
        (l_x, PRIOR.l_x),
        (l_y, PRIOR.l_y),
        (diffuse, PRIOR.diffuse),
        (level, PRIOR.level),
        (negative, PRIOR.negative),
    ):
        assert low - 1e-6 <= values.min() and values.max() <= high + 1e-6
        quarters = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75]))
        expected = low + (high - low) * torch.tensor([0.25, 0.5, 0.75])
        torch.testing.assert_close(quarters, expected, atol=0.02 * (high - low), rtol=0)
    torch.testing.assert_close(sample.mean(0), PRIOR.mean(), atol=0.01, rtol=0)
    independent = torch.stack((l_x, l_y, diffuse, level, negative))
    assert (torch.corrcoef(independent) - torch.eye(5)).abs().max() < 0.03


def test_prior_is_a_function_of_the_generator() -> None:
    assert torch.equal(vectors(6), vectors(6))


def test_prior_refuses_a_reversed_range() -> None:
    with pytest.raises(ConfigError, match=r"l_y is \(0.8, -0.2\), expected \(low, high\)"):
        LightPrior(l_y=(0.8, -0.2))


def test_lights_from_any_side_and_the_vectors_that_they_lack() -> None:
    lights = Lights.from_direction(
        torch.tensor([[0.0, 0.0, 2.0], [3.0, 0.0, -4.0]]), ambient=0.2, diffuse=0.5
    )
    torch.testing.assert_close(lights.direction, torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, -0.8]]))
    torch.testing.assert_close(lights[0].to_vector(), torch.tensor([0.2, 0.5, 0.0, 0.0, 0.0]))
    with pytest.raises(ConfigError, match="direction has z = -0.8, expected z > 0"):
        lights.to_vector()
    with pytest.raises(ConfigError, match=r"direction is \(0, 0, 0\)"):
        Lights.from_direction(torch.zeros(2, 3))
