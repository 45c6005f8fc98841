"""How far shapes lean: the derivative, the regression, the outlines it reads, and what the fields learn."""

from dataclasses import replace

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.config.schema import FieldConfig
from lift3d.masks.morphology import around_outline
from lift3d.model import LiftedGAN
from lift3d.observer import SilentObserver
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.surface import Surface, signed_distance
from lift3d.train import lean
from lift3d.train.data import Images
from lift3d.train.pixels import rays

N, SIZE = 120, 32


@pytest.fixture(scope="module")
def model() -> LiftedGAN:
    torch.manual_seed(0)
    fields = FieldConfig(16, 2, 2, beta=5.0), FieldConfig(16, 2, 2)
    preset = replace(
        PRESET, size=SIZE, joint=replace(PRESET.joint, size=SIZE), shape=fields[0], material=fields[1]
    )
    return LiftedGAN(preset, tiny_gan().generator).requires_grad_(False)


def moved(surface: Surface, leans: torch.Tensor) -> Surface:
    """The surfaces of objects, leaning."""

    def before(x: torch.Tensor) -> torch.Tensor:
        return x - lean.forwards(x, leans)[0] * x.new_tensor((0.0, 0.0, 1.0))

    return Surface(lambda x: surface.sdf(before(x)), surface.material)


def test_the_front_moves_as_its_gradient_says():
    points = torch.randn(3, 50, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    leans = torch.tensor([0.1, -0.2, 0.0])
    far, slope = lean.forwards(points, leans)
    torch.testing.assert_close(slope, torch.autograd.grad(far.sum(), points)[0])
    torch.testing.assert_close(
        far[1, :, 0][points[1, :, 2] > 0.5], -0.2 * points[1, points[1, :, 2] > 0.5, 1]
    )
    assert far[:, :, 0][points[..., 2] < -0.5].abs().max() < 1e-3


def test_the_lowest_point_of_a_parabola_is_between_its_samples():
    t = torch.linspace(0, 2, 21)
    for lowest in (0.53, 1.0, 1.89):
        assert lean.lowest(t, 3 * (t - lowest).square() - 1).item() == pytest.approx(lowest, abs=1e-3)
    assert lean.lowest(t, -t).item() == pytest.approx(2.0)  # beyond the last one nothing is known


def test_leans_of_known_likelihood_are_found():
    rng = torch.Generator().manual_seed(1)
    codes = torch.randn(400, 5, generator=rng) * torch.tensor([1.0, 0.5, 0.5, 1.0, 1e-3])
    truth = 0.02 + codes @ torch.tensor([0.03, -0.04, 0.0, 0.0, 0.0])
    sdf, per_lean = 0.02 * torch.randn(400, 64, generator=rng), 0.3 * torch.randn(400, 64, generator=rng)
    likely = torch.sigmoid(-lean.SHARPNESS * (sdf + truth[:, None] * per_lean))
    inside = torch.rand(likely.shape, generator=rng) < likely
    found = lean.fit(codes, lean.Evidence(sdf, per_lean, inside))(codes)
    assert (found - truth).abs().mean() < 0.15 * truth.std()
    nothing = lean.fit(codes, lean.Evidence(sdf, torch.zeros_like(sdf), inside))(codes)
    assert nothing.abs().max() < 1e-6


def outlines(surface: Surface, views: torch.Tensor) -> torch.Tensor:
    """Masks of surfaces, by 200 samples along every ray."""
    pixels = torch.arange(SIZE**2).expand(len(views), -1)
    origins, directions = rays(views, pixels, SIZE)
    first, last, _ = ray_sphere(origins, directions)
    inside = torch.zeros(pixels.shape, dtype=torch.bool)
    for part in torch.linspace(0, 1, 200):
        points = origins + first.lerp(last, part)[..., None] * directions
        inside |= surface.sdf(points)[0][..., 0] < 0
    return inside.view(-1, SIZE, SIZE)


@pytest.fixture(scope="module")
def lesson(model) -> tuple[lean.Lesson, torch.Tensor]:
    """What is to be learned of eggs that lean by an amount which their codes tell, and these amounts."""
    rng = torch.Generator().manual_seed(2)
    codes = torch.randn(N, PRESET.n_code, generator=rng)
    codes[:, 3:] *= 0.01  # as of trained encoders: objects differ in few directions
    truth = 0.15 * codes[:, 0]
    views = torch.zeros(N, 6)
    views[:, 1] = 1.8 * torch.rand(N, generator=rng) - 0.9
    with torch.no_grad():
        masks = outlines(moved(model.surface(codes), truth), views)
    images = Images((torch.arange(N) % 256).byte()[:, None, None, None].expand(-1, 3, SIZE, SIZE), masks)
    told, parts = replace_encoders(model, codes, views), torch.Generator().manual_seed(3)
    return lean.prepare(told, images, around_outline(masks), parts, SilentObserver()), truth


def replace_encoders(model: LiftedGAN, codes: torch.Tensor, views: torch.Tensor) -> LiftedGAN:
    """The model, which knows codes and views of images by their gray."""

    class Knows(LiftedGAN):
        def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            number = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
            return codes[number], views[number], torch.zeros(len(images), 5)

    told = Knows(model.config, model.generator).requires_grad_(False)
    told.load_state_dict(model.state_dict())
    return told


def test_outlines_of_turned_objects_tell_how_they_lean(model, lesson):
    told, truth = lesson
    with torch.no_grad():
        straight = signed_distance(moved(model.surface(told.codes), torch.zeros(N)), told.points)
        leaning = signed_distance(moved(model.surface(told.codes), truth), told.points)
    assert (told.sdf - leaning).abs().mean() < 0.25 * (told.sdf - straight).abs().mean()


def test_what_does_not_lean_is_told_as_it_is(model):
    code, view = torch.randn(2, PRESET.n_code, generator=torch.Generator().manual_seed(4)), torch.zeros(2, 6)
    told = lean.leaning(model.surface(code), code, view, torch.zeros(2), torch.Generator().manual_seed(5))
    losses = lean.lean_loss(model, told, torch.Generator().manual_seed(6))
    assert max(loss.item() for loss in losses.values()) < 1e-6


def test_the_fields_learn_it(model, lesson):
    told, _ = lesson
    learner = LiftedGAN(model.config, model.generator).requires_grad_(False)
    learner.load_state_dict(model.state_dict())
    (group,) = lean.lean_groups(learner)
    assert {id(p) for p in group.parameters} == {
        id(p) for net in (learner.shape, learner.material) for p in net.parameters()
    }
    for p in group.parameters:
        p.requires_grad_(True)
    adam, rng, found = torch.optim.Adam(group.parameters, 3e-3), torch.Generator().manual_seed(7), []
    for _ in range(250):
        losses = lean.lean_loss(learner, told, rng)
        adam.zero_grad()
        losses["total"].backward()
        adam.step()
        found.append(losses["sdf"].item())
    assert sum(found[-20:]) < 0.4 * sum(found[:5]) * 4
