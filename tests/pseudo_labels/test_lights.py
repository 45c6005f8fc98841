"""Lights from shading on a known shape."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from lift3d.pseudo_labels.lights import find_lights, light_grid
from lift3d.render.mesh import render_mesh
from lift3d.scene.cameras import Cameras, ViewPrior
from lift3d.scene.images import to_bytes
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.mesh import Mesh

PRIOR = LightPrior(l_y=(-0.3, 0.9))


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """A matte ball, painted in three colors of different brightness."""
    sphere = trimesh.creation.icosphere(4, 0.7)
    points = np.float32(sphere.vertices)
    albedo = np.where(points[:, 1:2] > 0.25, [[0.25, 0.15, 0.1]], [[0.8, 0.6, 0.5]])
    albedo = np.where(np.abs(points[:, 1:2] + 0.3) < 0.1, [[0.7, 0.2, 0.2]], albedo)
    zero = np.zeros(len(points), np.float32)
    return Mesh(points, np.int32(sphere.faces), points / 0.7, np.float32(albedo), zero, zero + 10)


@pytest.fixture(scope="module")
def shots(ball):
    """Images and masks of the ball at 12 views under a light each."""
    rng = torch.Generator().manual_seed(0)
    views, lights = ViewPrior().sample(12, rng), PRIOR.sample(12, rng)
    out = [
        render_mesh(ball, Cameras.from_view(v[None]), Lights.from_vector(x[None]), 64, (1.0, 1.0, 1.0))
        for v, x in zip(views, lights)
    ]
    images = to_bytes(torch.cat([o.colors[:, 0] for o in out]).permute(0, 3, 1, 2) * 2 - 1)
    return images, torch.cat([o.mask for o in out]), views, lights


def test_lights_are_found_whatever_the_colors(ball, shots) -> None:
    images, masks, views, lights = shots
    found = find_lights(ball, PRIOR, images, masks, views)
    assert (found[:, 2] - lights[:, 2]).abs().max() < 0.25  # the grid's step is 0.2
    assert (found[:, 3] - lights[:, 3]).abs().max() < 0.2  # 0.15
    assert (found[:, 2:4] - lights[:, 2:4]).abs().mean() < 0.1
    ratio, truth = found[:, 1] / found[:, 0], lights[:, 1] / lights[:, 0]
    assert torch.corrcoef(torch.stack((ratio, truth)))[0, 1] > 0.9


def test_a_wrong_view_gives_a_wrong_light(ball, shots) -> None:
    images, masks, views, lights = shots
    turned = views + torch.tensor([0.0, 0.6, 0.0, 0.0, 0.0, 0.0])
    found = find_lights(ball, PRIOR, images, masks, turned)
    assert (found[:, 2] - lights[:, 2]).abs().mean() > 0.25


def test_an_empty_mask_gives_some_light_of_the_prior(ball, shots) -> None:
    images, masks, views, _ = shots
    found = find_lights(ball, PRIOR, images[:1], torch.zeros_like(masks[:1]), views[:1])
    assert found.isfinite().all() and 0.3 < found[0, 0] + 0.75 * found[0, 1] < 1.1


def test_the_grid_spans_the_prior() -> None:
    grid = light_grid(replace(PRIOR, negative=(0.1, 0.3)))
    for column, (low, high) in ((1, PRIOR.diffuse), (2, PRIOR.l_x), (3, PRIOR.l_y)):
        assert grid[:, column].min().item() == pytest.approx(low)
        assert grid[:, column].max().item() == pytest.approx(high)
    level = grid[:, 0] + PRIOR.coupling * grid[:, 1]
    torch.testing.assert_close(level, torch.full_like(level, 0.975))
    torch.testing.assert_close(grid[:, 4], torch.full_like(level, 0.2))
