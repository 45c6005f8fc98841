"""Windowed positional encoding against loops and closed forms."""

import math

import pytest
import torch

from lift3d.networks.encoding import encode, encoded_size, pull_back, window

POINTS = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def naive(point: list[float], n: int, weights: list[float]) -> list[float]:
    sines = [weights[k] * math.sin(2**k * math.pi * x) for k in range(n) for x in point]
    cosines = [weights[k] * math.cos(2**k * math.pi * x) for k in range(n) for x in point]
    return [*point, *sines, *cosines]


def naive_weight(k: int, n: int, open_bands: float) -> float:
    """Nerfies, eq. 8, with alpha = n * open_bands."""
    return (1 - math.cos(math.pi * min(max(open_bands * n - k, 0), 1))) / 2


@pytest.mark.parametrize("n", [0, 1, 4, 6])
@pytest.mark.parametrize("open_bands", [0.0, 0.3, 0.55, 1.0])
def test_encoding_is_the_naive_loop(n: int, open_bands: float) -> None:
    encoded = encode(POINTS, n, open_bands)
    weights = [naive_weight(k, n, open_bands) for k in range(n)]
    assert encoded.shape == (2, 5, encoded_size(n))
    assert encoded.dtype == POINTS.dtype
    for row, point in zip(encoded.flatten(0, 1).tolist(), POINTS.flatten(0, 1).tolist()):
        assert row == pytest.approx(naive(point, n, weights), abs=1e-6)


def test_a_closed_window_leaves_the_coordinates_and_an_open_one_everything() -> None:
    closed = encode(POINTS, 4, 0.0)
    assert torch.equal(closed[..., :3], POINTS)
    assert torch.equal(closed[..., 3:], torch.zeros_like(closed[..., 3:]))
    assert torch.equal(window(4, 1.0), torch.ones(4))
    assert torch.equal(encode(POINTS, 4), encode(POINTS, 4, 1.0))


def test_bands_open_one_after_the_other() -> None:
    previous = window(5, 0.0)
    for step in range(1, 101):
        current = window(5, step / 100)
        assert (current >= previous).all()
        assert ((0 < current) & (current < 1)).sum() <= 1  # a band waits for the one below it
        assert (current.diff() <= 0).all()
        previous = current
    torch.testing.assert_close(window(4, 0.625), torch.tensor([1.0, 1.0, 0.5, 0.0]))


def test_the_channels_of_other_inputs_are_counted() -> None:
    assert encode(torch.zeros(7, 2), 3).shape[-1] == encoded_size(3, 2) == 14


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("open_bands", [0.3, 1.0])
def test_a_cotangent_is_pulled_back_as_by_automatic_differentiation(n: int, open_bands: float) -> None:
    points = POINTS.clone().requires_grad_(True)
    encoded = encode(points, n, open_bands)
    cotangent = torch.linspace(-1, 1, encoded.numel(), dtype=torch.float64).view_as(encoded)
    (expected,) = torch.autograd.grad((encoded * cotangent).sum(), points)
    torch.testing.assert_close(pull_back(encode(POINTS, n, open_bands), cotangent, n), expected)


def test_a_fraction_on_a_device_is_not_read() -> None:
    torch.testing.assert_close(
        encode(POINTS, 4, torch.tensor(0.3)), encode(POINTS, 4, 0.3), atol=1e-6, rtol=0
    )
    there = torch.device("meta")  # holds no values: reading one raises
    assert encode(POINTS.to(there), 4, torch.tensor(0.3, device=there)).device == there
