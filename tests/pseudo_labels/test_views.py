"""Views by registration with the mean look."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from lift3d.config.presets import DEMO
from lift3d.masks.background import background_masks
from lift3d.pseudo_labels.views import STEP, Template, features, mean_texture, register, view_grid
from lift3d.scene.batch import stack
from lift3d.scene.cameras import ViewPrior, placed
from lift3d.scene.images import colors_to_images, to_bytes
from lift3d.scene.mesh import Mesh
from lift3d.synthetic.heads import load_head_model, sample_shape
from lift3d.synthetic.paint import sample_look
from lift3d.synthetic.render import LIGHT_PRIOR, render_head, render_painted

PRIOR = DEMO.view_prior


@pytest.fixture(scope="module")
def ellipsoid() -> Mesh:
    """What pre-training starts from."""
    ball = trimesh.creation.icosphere(4)
    radii = np.float32(DEMO.radii)
    points = np.float32(ball.vertices)
    normals = points / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(points * radii, np.int32(ball.faces), normals)


@pytest.fixture(scope="module")
def heads():
    """Images, masks and views of 150 heads, two of each."""
    renders = stack([r for i in range(150) for r in render_head("train", i, 32, n_renders=2)])
    images = to_bytes(colors_to_images(renders.image))
    return images, background_masks(images, 1.0), renders.view


@pytest.fixture(scope="module")
def template(ellipsoid, heads) -> Template:
    """After rounds that began with one view for all."""
    return register(ellipsoid, PRIOR, *heads[:2])


def correlation(a, b) -> float:
    return torch.corrcoef(torch.stack((a, b)))[0, 1].item()


def test_views_of_heads_are_found_on_an_ellipsoid(template, heads) -> None:
    images, masks, views = heads
    found = template.find(images, masks)
    assert correlation(found[:, 1], views[:, 1]) > 0.9
    assert correlation(found[:, 0], views[:, 0]) > 0.6
    assert (found[:, 1] - views[:, 1]).abs().median() < 0.12  # radians; the prior's spread is 0.35
    assert (found[:, :3].mean(0) - torch.tensor(PRIOR.mean[:3])).abs().max() < 0.02
    strangers = render_head("benchmark", 0, 32)
    stranger = to_bytes(colors_to_images(strangers.image))
    alone = template.find(stranger, background_masks(stranger, 1.0))
    assert (alone[:, 1] - strangers.view[:, 1]).abs().median() < 0.12


def test_heads_that_are_aligned_by_the_face_are_found_about_a_pivot(ellipsoid) -> None:
    pivot = (0.0, 0.0, 0.5)
    model = load_head_model()
    turns = PRIOR.sample(150, torch.Generator().manual_seed(0))
    lights = LIGHT_PRIOR.sample(150, torch.Generator().manual_seed(1))
    drawn = []
    for i in range(150):
        shape = sample_shape(model, "train", i)
        mesh, one = model.mesh(shape.identity, shape.expression), slice(i, i + 1)
        view = placed(turns[one], pivot)
        drawn.append(render_painted(mesh, sample_look("train", i), model, view, lights[one], 32).image)
    images = to_bytes(colors_to_images(torch.cat(drawn)))
    masks = background_masks(images, 1.0)
    found = register(ellipsoid, replace(PRIOR, pivot=pivot), images, masks).find(images, masks)
    about_origin = register(ellipsoid, PRIOR, images, masks).find(images, masks)
    assert correlation(found[:, 1], turns[:, 1]) > 0.9
    assert correlation(about_origin[:, 1], turns[:, 1]) < 0.5
    torch.testing.assert_close(placed(found, [-p for p in pivot])[:, 3:], torch.zeros(150, 3))


def test_the_right_views_give_a_sharper_mean_than_one_view_for_all(ellipsoid, heads) -> None:
    images, masks, views = heads
    looks, inside = features(images, masks)
    sharp = mean_texture(ellipsoid, looks, inside, views)
    blurred = mean_texture(ellipsoid, looks, inside, torch.zeros_like(views))
    front = ellipsoid.normals[:, 2] > 0.5
    assert sharp[front].std() > 1.3 * blurred[front].std()
    points = torch.from_numpy(ellipsoid.vertices)
    other = torch.cdist(points, points * torch.tensor([-1.0, 1.0, 1.0])).argmin(1)
    torch.testing.assert_close(sharp, sharp[other], atol=1e-3, rtol=0)


def test_contrast_ignores_exposure_and_what_is_outside() -> None:
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(40, 120, (1, 3, 32, 32), generator=rng, dtype=torch.uint8)
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 8:24, 8:24] = True
    looks, inside = features(image, mask)
    assert torch.equal(inside, mask.float())
    assert looks.abs().max() > 0.1 and (looks * ~mask[:, None]).abs().max() == 0
    brighter = torch.where(mask[:, None], image * 2, torch.full_like(image, 255))
    torch.testing.assert_close(features(brighter, mask)[0], looks, atol=0.01, rtol=0)
    large = image.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert features(large, mask.repeat_interleave(4, 1).repeat_interleave(4, 2))[0].shape == (1, 2, 64, 64)


def test_the_grid_is_that_of_the_prior() -> None:
    prior = ViewPrior(mean=(0.1, 0.0, 0.0, 0.0, 0.05, 0.0), std=(0.1, 0.2, 0.0, 0.0, 0.0, 0.0))
    views, shape = view_grid(replace(prior, limit=(0.18, 0.3, 0.4, 0.0, 0.0, 0.0)))
    assert shape == (7, 11, 1) and len(views) == 77
    assert views[:, 0].min().item() == pytest.approx(0.1 - 3 * STEP)
    assert views[:, 1].max().item() == pytest.approx(5 * STEP)
    assert views[:, 2].abs().max() == 0 and (views[:, 4] - 0.05).abs().max() < 1e-6
    assert torch.equal(views[:11, 0], views[:1, 0].expand(11))  # pitch-major


def test_a_sample_without_a_mask_has_the_likeliest_view(template, heads) -> None:
    images, masks, _ = heads
    found = template.find(images[:1], torch.zeros_like(masks[:1]))
    torch.testing.assert_close(found, torch.zeros(1, 6), atol=STEP, rtol=0)
