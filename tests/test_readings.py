"""Views and lights that are linear in the latents are read off them."""

from dataclasses import replace

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.model import LiftedGAN
from lift3d.train import stages
from lift3d.train.projected import Rerendered, draw_samples
from lift3d.train.readings import Readings, read_latents, ridge


@pytest.fixture(scope="module")
def world():
    """Samples, re-renderings and a pool in whose GAN yaw and l_x are linear in w."""
    torch.manual_seed(0)
    model = LiftedGAN(PRESET, tiny_gan().generator)
    samples, pool = draw_samples(model, 40, 0), draw_samples(model, 50, 900)
    rng = torch.Generator().manual_seed(0)
    yaw, l_x = torch.randn(2, 16, generator=rng)
    steps = samples.w.std() * torch.randn(40, 5, 16, generator=rng)
    prior = torch.tensor(model.config.view_prior.mean), model.config.light_prior.mean()
    views, lights = (x.repeat(40, 5, 1) for x in prior)
    views[..., 1] += 0.1 * steps @ yaw
    lights[..., 2] += 0.1 * steps @ l_x
    nothing = torch.zeros(40, 5, 3, 16, 16, dtype=torch.uint8)
    masks = torch.zeros(40, 5, 16, 16, dtype=torch.bool)
    data = Rerendered(views, lights, nothing, masks, nothing, masks, steps)
    centre = model.generator.mapping.w_avg
    truth = [0.1 * (w - centre) @ d for w, d in ((samples.w, yaw), (pool.w, yaw), (pool.w, l_x))]
    return model, samples, data, pool, truth


def test_linear_views_and_lights_are_read(world) -> None:
    model, samples, data, pool, (own_yaw, pool_yaw, pool_l_x) = world
    readings = read_latents(model, samples, data, pool, first=True)
    for read, truth in (
        (readings.views[:, 1], own_yaw),
        (readings.pool_views[:, 1], pool_yaw),
        (readings.pool_lights[:, 2], pool_l_x),
    ):
        assert torch.corrcoef(torch.stack((read, truth)))[0, 1] > 0.97
        assert 0.6 < (read.std() / truth.std()).item() < 1.05  # a ridge shrinks
    assert readings.views[:, 0].abs().max() < 1e-6  # pitch never changed
    torch.testing.assert_close(readings.views.mean(0), torch.zeros(6), atol=1e-6, rtol=0)


def test_later_stages_know_the_views_themselves(world) -> None:
    model, samples, data, pool, _ = world
    yaw = torch.randn(16, generator=torch.Generator().manual_seed(9))
    projected = samples.w[:, None] + data.steps - model.generator.mapping.w_avg
    views = data.views.clone()
    views[..., 1] = 0.1 * projected @ yaw
    readings = read_latents(model, samples, replace(data, views=views), pool, first=False)
    truth = 0.1 * (pool.w - model.generator.mapping.w_avg) @ yaw
    assert torch.corrcoef(torch.stack((readings.pool_views[:, 1], truth)))[0, 1] > 0.97
    assert readings.views is None


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_projections_that_turn_by_a_share_of_what_was_requested_are_found_out(world, share) -> None:
    model, samples, data, _, _ = world
    pool, others = draw_samples(model, 1000, 5000), draw_samples(model, 200, 9000)
    yaw = torch.randn(16, generator=torch.Generator().manual_seed(9))
    centre = model.generator.mapping.w_avg
    requested = (others.w - centre).view(40, 5, 16)
    views = data.views.clone()
    views[..., 1] = 0.1 * requested @ yaw
    steps = share * requested - (samples.w - centre)[:, None]
    found = read_latents(model, samples, replace(data, views=views, steps=steps), pool, first=False)
    assert found.obeyed[1].item() == pytest.approx(share, rel=0.15)
    truth = 0.1 * (pool.w - centre) @ yaw
    assert (found.pool_views[:, 1].std() / truth.std()).item() == pytest.approx(1.0, rel=0.15)


def test_a_ridge_shrinks_towards_zero_and_is_exact_without_noise_in_the_limit() -> None:
    rng = torch.Generator().manual_seed(0)
    x, truth = torch.randn(4000, 3, generator=rng), torch.tensor([[1.0], [-2.0], [0.5]])
    found = ridge(x, x @ truth)
    torch.testing.assert_close(found, truth / 1.1, atol=0.05, rtol=0)  # unit inputs: 1 / (1 + RIDGE)
    assert ridge(torch.zeros(5, 3), torch.ones(5, 1)).abs().max() == 0


def test_in_the_first_stage_labels_are_relative_and_half_of_them_the_pools(world, monkeypatch) -> None:
    model, samples, data, pool, _ = world
    n = model.config.batch.n_posed
    constant = lambda rows, *values: torch.tensor(values).repeat(rows, 1)  # noqa: E731
    readings = Readings(
        pool,
        constant(50, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
        constant(50, 0.4, 0.6, 0.7, 0.0, 0.0),
        torch.ones(11),
        constant(40, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0),
    )
    seen = {}

    def record(view, view_target, light, light_target):
        seen.update(view=view_target, light=light_target, predicted=light)
        return view.sum() * 0

    monkeypatch.setattr(stages.losses, "view_light", record)
    rng = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    stages._view_light(model, data, None, rng())
    absolute = model.view_encoder.from_tanh(seen["view"])
    stages._view_light(model, data, readings, rng())
    relative, light = model.view_encoder.from_tanh(seen["view"]), model.light_encoder.from_tanh(seen["light"])
    assert len(relative) == n
    change = (relative - absolute)[n // 2 :, 1]  # mirrored images turn the other way
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.2))
    assert (relative[: n // 2, 0] - 0.1).abs().max() < 1e-5
    assert (light[: n // 2, 2].abs() - 0.7).abs().max() < 1e-5
    stages._view_light(model, data, replace(readings, views=None), rng())
    later = model.view_encoder.from_tanh(seen["view"])
    torch.testing.assert_close(later[n // 2 :], absolute[n // 2 :])
    assert (later[: n // 2, 0] - 0.1).abs().max() < 1e-5
    assert torch.equal(seen["light"][: n // 2], seen["predicted"][: n // 2])  # no opinion on lights
