"""What is read off images and latents, and what learns from it."""

from dataclasses import replace

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.model import LiftedGAN
from lift3d.train import readings as module
from lift3d.train import stages
from lift3d.train.projected import Rerendered, draw_samples
from lift3d.train.readings import Readings, read, read_lights, ridge


@pytest.fixture(scope="module")
def world():
    """Samples, re-renderings and a pool in whose GAN l_x is linear in w."""
    torch.manual_seed(0)
    model = LiftedGAN(PRESET, tiny_gan().generator)
    samples, pool = draw_samples(model, 40, 0), draw_samples(model, 50, 900)
    rng = torch.Generator().manual_seed(0)
    l_x = torch.randn(16, generator=rng)
    steps = samples.w.std() * torch.randn(40, 5, 16, generator=rng)
    prior = torch.tensor(model.config.view_prior.mean), model.config.light_prior.mean()
    views, lights = (x.repeat(40, 5, 1) for x in prior)
    lights[..., 2] += 0.1 * steps @ l_x
    nothing = torch.zeros(40, 5, 3, 16, 16, dtype=torch.uint8)
    masks = torch.zeros(40, 5, 16, 16, dtype=torch.bool)
    data = Rerendered(views, lights, nothing, masks, nothing, masks, steps)
    return model, samples, data, pool, l_x


def test_changes_of_light_are_read_in_the_first_stage(world) -> None:
    model, samples, data, pool, l_x = world
    lights, found = read_lights(model, samples, data, pool, first=True)
    truth = 0.1 * (pool.w - model.generator.mapping.w_avg) @ l_x
    assert torch.corrcoef(torch.stack((found[:, 2], truth)))[0, 1] > 0.97
    assert 0.6 < (found[:, 2].std() / truth.std()).item() < 1.05  # a ridge shrinks
    assert (found[:, 3] - model.config.light_prior.mean()[3]).abs().max() < 1e-6  # l_y never changed
    means = read_lights(model, samples, data, samples, first=True)[1].mean(0)
    torch.testing.assert_close(means, model.config.light_prior.mean(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_projections_that_obey_by_a_share_are_found_out(world, share: float) -> None:
    model, samples, data, _, l_x = world
    pool, others = draw_samples(model, 1000, 5000), draw_samples(model, 200, 9000)
    centre, mean = model.generator.mapping.w_avg, model.config.light_prior.mean()
    requested = (others.w - centre).view(40, 5, 16)
    lights = mean.repeat(40, 5, 1)
    lights[..., 2] += 0.1 * requested @ l_x
    steps = share * requested - (samples.w - centre)[:, None]
    data = replace(data, lights=lights, steps=steps)
    labels, found = read_lights(model, samples, data, pool, first=False)
    shown = (labels[..., 2] - mean[2]) / (lights[..., 2] - mean[2])
    torch.testing.assert_close(shown, torch.full_like(shown, share), atol=0.15 * share, rtol=0)
    truth = 0.1 * (pool.w - centre) @ l_x
    assert (found[:, 2].std() / truth.std()).item() == pytest.approx(1.0, rel=0.15)


def test_views_are_those_of_the_template(world, monkeypatch) -> None:
    """A template that finds as yaw how bright an image is."""
    model, samples, data, pool, _ = world

    class Bright:
        def find(self, images, masks):
            assert len(images) == len(masks)
            return images.float().mean((1, 2, 3))[:, None] * torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])

    monkeypatch.setattr(module, "mean_look", lambda *args: Bright())
    projected = torch.arange(40 * 5, dtype=torch.uint8).view(40, 5, 1, 1, 1).expand_as(data.projected)
    found = read(model, samples, replace(data, projected=projected), pool, first=True)
    assert torch.equal(found.views[..., 1].flatten(), torch.arange(200.0))
    torch.testing.assert_close(found.pool_views[:, 1], pool.images.float().mean((1, 2, 3)))
    assert found.pool_lights is not None
    assert read(model, samples, data, pool, first=False).pool_lights is None


def test_a_ridge_shrinks_towards_zero_and_is_exact_without_noise_in_the_limit() -> None:
    rng = torch.Generator().manual_seed(0)
    x, truth = torch.randn(4000, 3, generator=rng), torch.tensor([[1.0], [-2.0], [0.5]])
    found = ridge(x, x @ truth)
    torch.testing.assert_close(found, truth / 1.1, atol=0.05, rtol=0)  # unit inputs: 1 / (1 + RIDGE)
    assert ridge(torch.zeros(5, 3), torch.ones(5, 1)).abs().max() == 0


def test_half_of_the_images_that_teach_views_are_the_pools(world, monkeypatch) -> None:
    model, _, data, pool, _ = world
    n = model.config.batch.n_posed
    constant = lambda *shape: torch.tensor(shape[-1]).expand(*shape[:-1], -1)  # noqa: E731
    readings = Readings(
        constant(40, 5, (0.0, 0.2, 0.0, 0.0, 0.0, 0.0)),
        constant(40, 5, (0.4, 0.6, 0.3, 0.0, 0.0)),
        pool,
        constant(50, (0.1, 0.0, 0.0, 0.0, 0.0, 0.0)),
        constant(50, (0.4, 0.6, 0.7, 0.0, 0.0)),
    )
    seen = {}

    def record(view, view_target, light, light_target):
        seen.update(view=view_target, light=light_target, predicted=light)
        return view.sum() * 0

    monkeypatch.setattr(stages.losses, "view_light", record)
    rng = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    known = lambda: (  # noqa: E731
        model.view_encoder.from_tanh(seen["view"]),
        model.light_encoder.from_tanh(seen["light"]),
    )
    stages._view_light(model, data, None, rng())
    assert (known()[0] - data.views[0, 0]).abs().max() < 1e-5  # as sampled, all alike
    stages._view_light(model, data, readings, rng())
    view, light = known()
    assert len(view) == n
    assert (view[: n // 2, 0] - 0.1).abs().max() < 1e-5
    assert (light[: n // 2, 2].abs() - 0.7).abs().max() < 1e-5  # mirrored images are lit from the other side
    assert (view[n // 2 :, 1].abs() - 0.2).abs().max() < 1e-5
    assert (light[n // 2 :, 2].abs() - 0.3).abs().max() < 1e-5
    stages._view_light(model, data, replace(readings, pool_lights=None), rng())
    assert torch.equal(seen["light"][: n // 2], seen["predicted"][: n // 2])  # no opinion on lights
