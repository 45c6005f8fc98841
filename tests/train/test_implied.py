"""What images imply of the albedo: closed forms of single pairs, and that shading alone costs nothing."""

import math

import pytest
import torch

from lift3d.scene.geometry import normalize
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, Shading, shade, shading
from lift3d.train import implied as module
from lift3d.train.implied import Implied, implied_albedo, shape_loss, smoothness

N = 64


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def head(bend: float = 0.0) -> tuple[torch.Tensor, Shading]:
    """Colors of a surface of one material, and the shading of that surface with its normals ``bend``."""
    normal = normalize(torch.randn(1, N, 3, generator=rng()) * 0.5 + torch.tensor([0.0, 0.0, 1.0]))
    one = torch.ones(1, N, 1)
    material = Material(torch.tensor([0.6, 0.4, 0.3]).expand(1, N, 3), 0.2 * one, 20.0 * one)
    lights = Lights.from_vector(torch.tensor([[0.4, 0.5, 0.3, 0.2, 0.0]]))[:, None]
    to_camera = torch.tensor([0.0, 0.0, 1.0]).expand(1, N, 3)
    wrong = normalize(normal + bend * torch.randn(1, N, 3, generator=rng()).roll(1, 1))
    colors = shade(normal, to_camera, material, lights)
    return colors, shading(wrong, to_camera, material, lights)


def two_pixels(difference: float, chroma: float = 0.0, counts: bool = True) -> Implied:
    """Two neighbors of given logarithms; no other pairs."""
    pair = torch.tensor([[0], [1]])
    return Implied(
        torch.tensor([[[0.0], [difference]]]),
        torch.tensor([[[0.3, 0.3, 0.3], [0.3 + chroma, 0.3, 0.3]]]),
        torch.tensor([[True, counts]]),
        pair,
        torch.tensor([[0, 1], [0, 1]]),
    )


def test_one_material_under_its_true_shading_implies_one_albedo():
    everywhere = torch.ones(1, N, dtype=torch.bool)
    true, wrong = (implied_albedo(*head(bend), everywhere, rng()) for bend in (0.0, 0.3))
    torch.testing.assert_close(true.logarithm, torch.full_like(true.logarithm, math.log(1.3 / 3)))
    assert shape_loss(true) < 1e-9 and shape_loss(wrong) > 0.02


def test_pairs_are_the_neighbors_and_a_permutation():
    found = implied_albedo(*head(), torch.ones(1, N, dtype=torch.bool), rng())
    assert torch.equal(found.near[0] + N // 2, found.near[1])
    assert torch.equal(found.far[0], torch.arange(N)) and torch.equal(found.far[1].sort()[0], found.far[0])


def test_a_pair_costs_what_welsch_says_and_an_edge_little_more():
    weight, edge = module.NEAR, module.NEAR_EDGE
    for steps in (0.0, 0.5, 1.0, 10.0):
        cost = shape_loss(two_pixels(steps * edge)).item()
        assert cost == pytest.approx(weight * (1 - math.exp(-(steps**2))), abs=1e-6)


def test_pixels_that_do_not_count_and_other_chromaticities_say_nothing():
    assert shape_loss(two_pixels(0.1, counts=False)) == 0.0
    assert two_pixels(0.1, chroma=0.02).alike(torch.tensor([[0], [1]]), 2e-4).item() == pytest.approx(
        math.exp(-2.0), rel=1e-4
    )


def test_smoothness_ends_at_edges_of_the_implied_albedo():
    values = torch.tensor([[[0.2], [0.5]]], requires_grad=True)
    pair = torch.tensor([[0, 0], [1, 0]])  # the second is no pair: its weight makes the mean
    for difference in (0.0, module.FAR_EDGE, 4 * module.FAR_EDGE):
        gate = math.exp(-((difference / module.FAR_EDGE) ** 2))
        found = smoothness(two_pixels(difference), values, pair, 2e-4)
        assert found.item() == pytest.approx(0.3 * gate / (gate + 1), abs=1e-6)


def test_smoothness_trains_no_shape():
    implied = two_pixels(0.1)
    implied.logarithm.requires_grad_(True)
    values = torch.tensor([[[0.2], [0.5]]], requires_grad=True)
    smoothness(implied, values, implied.near, 2e-4).backward()
    assert implied.logarithm.grad is None and values.grad.abs().sum() > 0
