"""What a stage trains on: re-renderings that carry the sample's own image, and the lessons of E_w."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic import surface_of
from tiny_gan import PRESET, tiny_gan

from lift3d.model import LiftedGAN
from lift3d.networks.fields import ellipsoid_sdf
from lift3d.observer import SilentObserver
from lift3d.render.mesh import render_mesh
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import to_float
from lift3d.scene.isosurface import cell_size, extract_mesh
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.surface_mesh import project_to_surface
from lift3d.train.align import latent_loss
from lift3d.train.data import (
    Images,
    SampleSet,
    draw_samples,
    own_view_and_light,
    render_detailed,
    rerender,
    residual,
)

SIZE = 48
LIGHT = torch.tensor([0.5, 0.5, 0.2, 0.3, 0.0])


@pytest.fixture(scope="module")
def egg() -> Mesh:
    """An ellipsoid with a gray, matt material."""
    radii = torch.tensor((0.6, 0.8, 0.7))
    sdf = lambda x: ellipsoid_sdf(x, radii)[:, 0]  # noqa: E731
    mesh = project_to_surface(extract_mesh(sdf, 64), surface_of(sdf), cell_size(64))
    n = len(mesh.vertices)
    gray, none = np.full((n, 3), 0.5, np.float32), np.zeros(n, np.float32)
    return replace(mesh, albedo=gray, specular=none, shininess=none + 10)


def striped(mesh: Mesh) -> Mesh:
    """The mesh with a pattern that differs from side to side."""
    x, y = mesh.vertices[:, :1], mesh.vertices[:, 1:2]
    wave = 0.5 + 0.3 * np.sin(6 * x) * np.cos(5 * y)
    return replace(mesh, albedo=np.concatenate((wave, wave**2, 0.2 + 0.5 * wave), 1).astype(np.float32))


def picture(mesh: Mesh, view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    out = render_mesh(
        mesh, Cameras.from_view(view[None]), Lights.from_vector(LIGHT[None]), SIZE, (1.0, 1.0, 1.0)
    )
    return out.colors[0, 0].permute(2, 0, 1) * 2 - 1, out.mask[0]


def detailed(mesh: Mesh, image: torch.Tensor, mask: torch.Tensor, view: torch.Tensor) -> Mesh:
    """The mesh with the residual at its vertices."""
    points, normals = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.normals)
    change = residual(mesh, image, mask, view, LIGHT).albedo(points, normals)
    return replace(mesh, albedo=(mesh.albedo + change.numpy()).clip(0, 1))


def test_detail_of_an_image_is_the_albedo_that_made_it(egg: Mesh) -> None:
    view = torch.tensor([0.1, 0.4, 0.0, 0.0, 0.0, 0.0])
    truth = striped(egg)
    image, mask = picture(truth, view)
    found = detailed(egg, image, mask, view)
    camera = Cameras.from_view(view)
    to_camera = camera.origins.numpy() - egg.vertices
    to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
    facing = (egg.normals * to_camera).sum(1)
    error = np.abs(found.albedo - truth.albedo).max(1)
    assert np.median(error[facing > 0.6]) < 0.02 and error[facing > 0.6].max() < 0.12  # one pixel's blur
    assert np.array_equal(found.albedo[facing < 0.1], egg.albedo[facing < 0.1])  # it says nothing of these
    again, _ = picture(found, view)
    inner = torch.from_numpy(np.pad(np.ones((SIZE - 24, SIZE - 24), bool), 12))
    assert (again - image).abs()[:, inner & mask].mean() < 0.02


def test_detail_turns_with_the_object(egg: Mesh) -> None:
    """Seen from another side, the detailed mesh is closer to the truth than the plain one."""
    own, other = torch.zeros(6), torch.tensor([0.0, 0.35, 0.0, 0.0, 0.0, 0.0])
    truth = striped(egg)
    image, mask = picture(truth, own)
    expected, visible = picture(truth, other)
    errors = [
        (picture(mesh, other)[0] - expected).abs()[:, visible].mean()
        for mesh in (detailed(egg, image, mask, own), egg)
    ]
    assert errors[0] < 0.3 * errors[1]


def test_a_pixel_is_not_blurred_by_the_mesh() -> None:
    """On a coarse mesh, fine stripes come back from the pixels; its vertices cannot hold them."""
    radii = torch.tensor([0.6, 0.75, 0.6])
    sdf = lambda x: ellipsoid_sdf(x, radii)[:, 0]  # noqa: E731
    coarse = project_to_surface(extract_mesh(sdf, 12), surface_of(sdf), cell_size(12))
    n = len(coarse.vertices)
    none = np.zeros(n, np.float32)
    coarse = replace(coarse, albedo=np.full((n, 3), 0.5, np.float32), specular=none, shininess=none + 10)
    view, light = torch.zeros(6), Lights.from_vector(LIGHT[None])
    image, mask = picture(coarse, view)
    stripes = 0.1 * torch.sin(torch.arange(SIZE) * 1.5) * mask
    image = image + stripes
    found = residual(coarse, image, mask, view, LIGHT)
    out = render_detailed(coarse, found, Cameras.from_view(view[None]), light, SIZE, (1.0, 1.0, 1.0))
    inner = out.mask[0] & (out.normals[0, ..., 2] > 0.7)
    of_pixels = (out.colors[0, 0].permute(2, 0, 1) * 2 - 1 - image).abs()[:, inner].mean()
    of_vertices = (picture(detailed(coarse, image, mask, view), view)[0] - image).abs()[:, inner].mean()
    assert of_pixels < 0.01 and of_pixels < 0.2 * of_vertices


def test_nothing_is_carried_from_outside_the_mask(egg: Mesh) -> None:
    image, mask = picture(striped(egg), torch.zeros(6))
    none = detailed(egg, image, torch.zeros_like(mask), torch.zeros(6))
    assert np.array_equal(none.albedo, egg.albedo)


@pytest.fixture(scope="module")
def model() -> LiftedGAN:
    torch.manual_seed(0)
    return LiftedGAN(PRESET, tiny_gan().generator)


def test_rerendering_with_detail_shows_the_sample(model: LiftedGAN) -> None:
    """A re-rendering at the own view under the own light is the image, where that shows the object."""
    at_home = replace(
        model.config,
        view_prior=replace(model.config.view_prior, std=(0.0,) * 6),
        light_prior=replace(model.config.light_prior, l_x=(0.0, 0.0), l_y=(0.3, 0.3)),
    )
    other = LiftedGAN(at_home, model.generator)
    other.load_state_dict(model.state_dict())
    samples = draw_samples(other, 3, 7)
    samples = replace(samples, masks=torch.ones_like(samples.masks))
    errors = []
    for carry in (True, False):
        other.config = replace(at_home, transfer_residual=carry)
        rng = torch.Generator().manual_seed(0)
        again = rerender(other, samples, 1, rng, SilentObserver(), one_shape=True, predict=False)
        assert again.masks.any()
        seen = again.masks[:, 0, None].expand_as(samples.images)
        difference = to_float(again.images[:, 0]) - to_float(samples.images)
        errors.append(difference.abs()[seen].mean())
    assert errors[0] < 0.6 * errors[1]


def test_own_view_and_light_are_the_prior_means_at_first(model: LiftedGAN) -> None:
    samples, index = draw_samples(model, 3, 0), torch.tensor([2, 0])
    view, light = own_view_and_light(model, samples, index, predict=False)
    assert torch.equal(view, torch.zeros(2, 6))
    assert torch.equal(light, model.config.light_prior.mean().expand(2, 5))
    known = replace(samples, views=torch.arange(18.0).view(3, 6))
    assert torch.equal(own_view_and_light(model, known, index, predict=False)[0], known.views[index])
    view, light = own_view_and_light(model, known, index, predict=True)
    images = to_float(samples.images[index])
    assert torch.equal(view, model.view_encoder(images)) and torch.equal(light, model.light_encoder(images))


def stage_data(model: LiftedGAN, samples: SampleSet) -> Images:
    return rerender(
        model, samples, 2, torch.Generator().manual_seed(1), SilentObserver(), one_shape=True, predict=False
    )


def test_inversion_loss_is_one_without_an_offset_and_zero_for_the_right_one(
    model: LiftedGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlabeled = draw_samples(model, 32, 100)
    data = stage_data(model, draw_samples(model, 2, 0))
    rng = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    n = model.config.batch.n_latent
    monkeypatch.setattr(model, "offset", lambda images, originals: torch.zeros(n, unlabeled.w.shape[1]))
    assert latent_loss(model, unlabeled, data, rng())["total"].item() == pytest.approx(1.0)
    a, b = torch.randint(32, (2, n), generator=rng())
    monkeypatch.setattr(model, "offset", lambda images, originals: unlabeled.w[b] - unlabeled.w[a])
    assert latent_loss(model, unlabeled, data, rng())["total"].item() < 1e-10


def test_inversion_shows_the_second_sample_cut_out_and_the_first_as_it_is(
    model: LiftedGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlabeled = draw_samples(model, 32, 100)
    data = stage_data(model, draw_samples(model, 2, 0))
    seen = {}

    def offset(images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
        seen.update(images=images, originals=originals)
        return torch.zeros(len(images), unlabeled.w.shape[1])

    monkeypatch.setattr(model, "offset", offset)
    latent_loss(model, unlabeled, data, torch.Generator().manual_seed(3))
    a, b = torch.randint(32, (2, len(seen["images"])), generator=torch.Generator().manual_seed(3))
    assert torch.equal(seen["originals"], to_float(unlabeled.images[a]))
    shapes = data.masks.flatten(0, 1)
    for cut, whole, inside in zip(
        seen["images"], to_float(unlabeled.images[b]), unlabeled.masks[b], strict=True
    ):
        fits = [
            s
            for s in shapes
            if torch.equal(cut[:, s & inside], whole[:, s & inside]) and bool((cut[:, ~s] == 1).all())
        ]
        assert fits  # its own pixels inside one of the shapes, the background outside
