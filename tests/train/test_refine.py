"""Refinement of one image: what it fits, what it keeps, and that it is a function of its inputs."""

from dataclasses import replace

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.config.schema import FieldConfig, Refinement
from lift3d.model import LiftedGAN
from lift3d.networks.fields import condition
from lift3d.observer import SilentObserver
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.train import refine as module
from lift3d.train.refine import Instance, Watch, new_target, refine, refine_groups, refine_loss

SIZE = PRESET.size
CONFIG = Refinement(
    iterations=30, n_pixels=64, fields=5e-3, material=5e-3, smooth_albedo=1.0, beta=5e-4, patience=1000
)


@pytest.fixture(scope="module")
def model() -> LiftedGAN:
    torch.manual_seed(0)
    shape, material = FieldConfig(16, 2, 2, beta=5.0), FieldConfig(16, 2, 2)
    preset = replace(PRESET, shape=shape, material=material)
    return LiftedGAN(preset, tiny_gan().generator).requires_grad_(False)


@pytest.fixture(scope="module")
def mask(model) -> torch.Tensor:
    """The outline of the ellipsoid that an untrained model is, seen from the front."""
    origins, directions = Cameras.from_view(torch.zeros(1, 6)).rays(pixel_grid(SIZE)[None], SIZE)
    o, d = origins / model.shape.radii, directions / model.shape.radii
    a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
    return (b * b > a * c).view(1, SIZE, SIZE)


@pytest.fixture(scope="module")
def image(mask) -> torch.Tensor:
    """A reddish object on white."""
    color = torch.tensor([0.4, -0.2, -0.4])[None, :, None, None]
    return torch.where(mask[:, None], color, torch.ones(()))


@pytest.fixture(scope="module")
def refined(model, image, mask) -> Instance:
    return refine(model, image, mask, CONFIG)


def joint(model, image) -> Instance:
    code, view, light = (e(image) for e in (model.image_encoder, model.view_encoder, model.light_encoder))
    return Instance(model, code, view, light)


def values(instance, target) -> dict[str, float]:
    found = refine_loss(instance, target, CONFIG, torch.Generator().manual_seed(5))
    return {name: value.item() for name, value in found.items()}


def test_refinement_explains_the_image(model, image, mask, refined):
    start = joint(model, image)
    target = new_target(start, image, mask, torch.Generator().manual_seed(1))
    before, after = values(start, target), values(refined, target)
    assert after["l1"] < 0.6 * before["l1"]
    assert after["total"] < before["total"]
    assert before["joint"] == before["prior"] == 0.0  # starts as the joint model predicts
    assert after["total"] == pytest.approx(sum(v for k, v in after.items() if k != "total"), rel=1e-5)


def test_the_joint_model_is_left_as_it_was(model, image, mask):
    before = {name: x.clone() for name, x in model.state_dict().items()}
    refine(model, image, mask, replace(CONFIG, iterations=2))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_few_steps_are_kept_if_they_help(model, image, mask):
    found, start = refine(model, image, mask, replace(CONFIG, iterations=7)), joint(model, image)
    target = new_target(start, image, mask, torch.Generator().manual_seed(1))
    assert Watch(found, target, 1).best < Watch(start, target, 1).best


def test_refinement_repeats(model, image, mask, refined):
    again = refine(model, image, mask, CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), refined.parameters(), strict=True))
    other = refine(model, image, mask, CONFIG, seed=1)
    assert not torch.equal(other.code, refined.code)


def test_a_stronger_tie_keeps_the_unseen_side_closer(model, image, mask):
    start = joint(model, image)
    target = new_target(start, image, mask, torch.Generator().manual_seed(1))
    behind = target.anchors.points[:, ~target.anchors.seen[0]]
    assert (behind[..., 2] < 0.3).all()  # the view is frontal

    def moved(unseen: float) -> float:
        instance = refine(model, image, mask, replace(CONFIG, hold_unseen=unseen, hold_seen=0.0))
        with torch.no_grad():
            return (instance.surface().sdf(behind)[0] - start.surface().sdf(behind)[0]).abs().mean().item()

    assert moved(50.0) < 0.7 * moved(0.0)


def test_given_view_and_light_replace_the_predictions(model, image, mask):
    view, light = torch.tensor([[0.1, -0.2, 0.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.6, 0.3, 0.1, 0.0]])
    still = replace(CONFIG, iterations=1, view=0.0, light=0.0)
    instance = refine(model, image, mask, still, view, light)
    assert torch.equal(instance.view, view) and torch.equal(instance.light, light)


def test_everything_trains_and_nothing_else(model, image, mask):
    start = joint(model, image)
    groups = refine_groups(start, CONFIG)
    assert {p for g in groups for p in g.parameters} == set(start.parameters())
    target = new_target(start, image, mask, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for layer in (start.shape.head, start.shape.body.biases, start.material.body.biases):
            layer.weight.normal_(0, 0.01)  # they start at zero, which hides what is before them
    refine_loss(start, target, CONFIG, torch.Generator().manual_seed(2))["total"].backward()
    for group in groups:
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in group.parameters)


def test_shape_learns_from_what_is_implied_and_material_from_colors(model, image, mask):
    start = joint(model, image)
    target = new_target(start, image, mask, torch.Generator().manual_seed(1))
    expected = {"shape": [True, False], "eikonal": [True, False], "highlights": [True, True]}
    for term in ("shape", "eikonal", "highlights", "l1", "near", "far", "specular"):
        start.zero_grad()
        refine_loss(start, target, CONFIG, torch.Generator().manual_seed(2))[term].backward()
        trained = [
            any(p.grad is not None and p.grad.abs().sum() > 0 for p in field.parameters())
            for field in (start.shape, start.material)
        ]
        assert trained == expected.get(term, [False, True]), term


def test_refined_fields_in_a_model(model, image, refined):
    inside = refined.into(model)
    points = torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(3)) - 0.5
    expected = refined.surface().sdf(points)[0]
    assert torch.equal(inside.surface(refined.code).sdf(points)[0], expected)
    assert torch.equal(
        condition(model.shape, model.material, refined.code, float(model.open_bands)).sdf(points)[0],
        model.surface(refined.code).sdf(points)[0],
    )
    assert torch.equal(inside.view_encoder(image), model.view_encoder(image))


def test_refinement_stops_by_itself_and_keeps_its_best_state(model, image, mask):
    stuck = replace(
        CONFIG, iterations=200, fields=0.0, material=0.0, code=0.0, view=0.0, light=0.0, patience=20
    )
    steps = []

    class Count(SilentObserver):
        def advance(self, n: int = 1, **values: float) -> None:
            steps.append(n)

    refine(model, image, mask, stuck, observer=Count())
    assert sum(steps) == 30  # two checks without a gain after the first

    instance = joint(model, image)
    target = new_target(instance, image, mask, torch.Generator().manual_seed(1))
    watch = Watch(instance, target, patience=50)
    best = watch.error()
    with torch.no_grad():
        instance.light[:, :2] = 0.0  # darkness
    assert watch.error() > best and not watch(9)
    watch.restore()
    assert watch.error() == best


def test_held_out_pixels_are_inside_and_nothing_is_fitted_to_them(model, image, mask):
    target = new_target(joint(model, image), image, mask, torch.Generator().manual_seed(1))
    assert target.held_out.any() and not (target.held_out & (target.inside | ~mask)).any()


def test_open_bands_go_from_sigma_min_to_sigma_max(model, image, mask, monkeypatch):
    seen = []
    loss = module.refine_loss
    monkeypatch.setattr(
        module,
        "refine_loss",
        lambda instance, *rest: seen.append(instance.open_bands) or loss(instance, *rest),
    )
    instance = refine(model, image, mask, replace(CONFIG, iterations=5, open_bands=(0.5, 0.9)))
    assert seen == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert float(instance.into(model).open_bands) == pytest.approx(instance.open_bands)
    assert float(model.open_bands) == 1.0
