"""What is read off images, and what learns from it."""

from dataclasses import replace

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.model import LiftedGAN
from lift3d.pseudo_labels import labeler as module
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.pseudo_labels.views import register
from lift3d.train import consistency
from lift3d.train import data as train_data
from lift3d.train.data import Images, SampleSet, draw_samples, label


@pytest.fixture(scope="module")
def world() -> tuple[LiftedGAN, Images, SampleSet]:
    """A model, 4 x 3 projections of growing brightness and a unlabeled."""
    model = LiftedGAN(PRESET, tiny_gan().generator)
    images = torch.arange(12, dtype=torch.uint8).view(4, 3, 1, 1, 1).expand(4, 3, 3, 16, 16)
    masks = torch.ones(4, 3, 16, 16, dtype=torch.bool)
    views = torch.tensor(PRESET.view_prior.mean).repeat(4, 3, 1)
    lights = PRESET.light_prior.mean().repeat(4, 3, 1)
    return model, Images(images, masks, views, lights), draw_samples(model, 6, 900)


def test_views_and_lights_are_the_readers(world, monkeypatch) -> None:
    """A labeler that takes brightness for yaw and for l_x."""
    model, data, unlabeled = world

    class Bright:
        def label(self, images, masks):
            assert len(images) == len(masks)
            value = images.float().mean((1, 2, 3))[:, None]
            return value * torch.eye(6)[1], value * torch.eye(5)[2]

    monkeypatch.setattr(train_data, "new_labeler", lambda *args: Bright())
    found, clean = label(model, data, unlabeled)
    bright = unlabeled.images.float().mean((1, 2, 3))
    assert torch.equal(found.views[..., 1], torch.arange(12.0).view(4, 3))
    assert torch.equal(clean.views[:, 1], bright)
    assert torch.equal(clean.lights[:, 2], bright)
    assert torch.equal(found.lights[..., 2], torch.arange(12.0).view(4, 3))


def test_the_reader_is_registered_on_the_mean_shape_with_the_truncated_prior(world, monkeypatch) -> None:
    model, _, unlabeled = world
    seen = {}

    def spy(mesh, prior, images, masks):
        seen.update(mesh=mesh, prior=prior)
        return register(mesh, prior, images, masks)

    monkeypatch.setattr(module, "register", spy)
    new_labeler(model, unlabeled.images, unlabeled.masks)
    assert seen["prior"].std == tuple(0.9 * s for s in PRESET.view_prior.std)
    extent = torch.from_numpy(seen["mesh"].vertices).abs().amax(0)
    torch.testing.assert_close(extent, torch.tensor(PRESET.radii), atol=0.02, rtol=0)


def test_the_prior_settles_the_mean_of_the_pools_lights(world) -> None:
    model, _, unlabeled = world
    _, lights = new_labeler(model, unlabeled.images, unlabeled.masks).label(unlabeled.images, unlabeled.masks)
    torch.testing.assert_close(lights.mean(0), PRESET.light_prior.mean())
    assert lights.std(0)[2] > 0


def test_half_of_the_images_that_teach_views_are_the_pools(world, monkeypatch) -> None:
    model, data, unlabeled = world
    n = model.config.batch.n_view_light
    constant = lambda *shape: torch.tensor(shape[-1]).expand(*shape[:-1], -1)  # noqa: E731
    read = replace(
        data,
        views=constant(4, 3, (0.0, 0.2, 0.0, 0.0, 0.0, 0.0)),
        lights=constant(4, 3, (0.4, 0.6, 0.3, 0.0, 0.0)),
    )
    clean = replace(
        unlabeled,
        views=constant(6, (0.1, 0.0, 0.0, 0.0, 0.0, 0.0)),
        lights=constant(6, (0.4, 0.6, 0.7, 0.0, 0.0)),
    )
    seen = {}

    def record(view, view_target, light, light_target):
        seen.update(view=view_target, light=light_target)
        return view.sum() * 0

    monkeypatch.setattr(consistency.losses, "view_light", record)

    def known(projected, clean):
        consistency.view_light_loss(model, projected, clean, torch.Generator().manual_seed(5))
        return model.view_encoder.from_tanh(seen["view"]), model.light_encoder.from_tanh(seen["light"])

    view, light = known(data, unlabeled)
    assert (view - data.views[0, 0]).abs().max() < 1e-5  # as sampled, all alike
    view, light = known(read, clean)
    assert len(view) == n
    assert (view[: n // 2, 0] - 0.1).abs().max() < 1e-5
    assert (light[: n // 2, 2].abs() - 0.7).abs().max() < 1e-5  # mirrored images are lit from the other side
    assert (view[n // 2 :, 1].abs() - 0.2).abs().max() < 1e-5
    assert (light[n // 2 :, 2].abs() - 0.3).abs().max() < 1e-5


def test_the_first_stage_starts_from_what_the_reader_says(tmp_path, monkeypatch) -> None:
    from lift3d.train import explore
    from lift3d.train.joint import pretrain

    seen = []

    class Stop(Exception):
        pass

    def explore_loss(model, samples, *rest, **options):
        seen.append(samples)
        raise Stop

    monkeypatch.setattr(explore, "explore_loss", explore_loss)
    for n_unlabeled in (0, 64):
        joint = replace(PRESET.joint, latent=0, calibrate=0, distill=0, lean=0, realign=0)
        preset = replace(PRESET, n_unlabeled=n_unlabeled, joint=joint)
        with pytest.raises(Stop):
            pretrain(preset, tiny_gan(), tmp_path / str(n_unlabeled))
    without, read = seen
    assert without.views is None and without.lights is None
    assert read.views.shape == (4, 6) and read.lights.shape == (4, 5)
