"""Augmentation against PyTorch's own resampling, closed forms, finite differences and counting."""

from math import pi

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from lift3d.gan.training import augment as module
from lift3d.gan.training.augment import MAX_P, Augmentation, adapted, augment, draw_augmentation, warp
from lift3d.gan.training.trainer import r1_penalty


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_warp_is_the_resampling_of_pytorch(rng: torch.Generator) -> None:
    images = torch.rand(64, 3, 12, 12, dtype=torch.float64)
    motions = draw_augmentation(64, 12, 1.0, rng).motions.double()
    grid = F.affine_grid(motions[:, :2], images.shape, align_corners=False)
    expected = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
    torch.testing.assert_close(warp(images, motions), expected, atol=1e-10, rtol=0)


def test_nothing_happens_with_probability_zero(rng: torch.Generator) -> None:
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    assert torch.equal(augment(images, draw_augmentation(4, 16, 0.0, rng)), images)


def test_motions_are_what_they_are_called() -> None:
    images, one = torch.rand(2, 3, 8, 8), torch.ones(2, 1)
    torch.testing.assert_close(warp(images, module._scaling(-one, one)), images.flip(3))
    torch.testing.assert_close(warp(images, module._rotation(one * pi / 2)), images.rot90(-1, (2, 3)))
    moved = warp(images, module._translation(torch.tensor([[2.0, -3.0]]).repeat(2, 1) * (2 / 8)))
    torch.testing.assert_close(moved[:, :, :5, 2:], images[:, :, 3:, :6])
    torch.testing.assert_close(moved[:, :, :5, :2], images[:, :, 3:, :2].flip(3))  # mirrored at the edge
    half = warp(F.interpolate(images, scale_factor=2), module._scaling(one * 2, one * 2))
    assert half.mean().item() == pytest.approx(images[:, :, 2:6, 2:6].mean().item(), abs=0.02)


def test_colors_change_as_they_are_called() -> None:
    color = torch.tensor([0.7, 0.1, -0.4])
    third = module._about_gray(torch.tensor([[2 * pi / 3]]))[0]
    torch.testing.assert_close(third @ color, color.roll(1))  # a third of a turn exchanges the channels

    class Always(module._Chance):
        """The numbers of a list, one for every kind of change."""

        def __init__(self, *values: float) -> None:
            super().__init__(1, torch.Generator())
            self.values = list(values)

        def next(self, *_: float) -> torch.Tensor:
            return torch.tensor([[float(self.values.pop(0))]])

        normal = uniform = number = next

    def changed(i: int, *values: float) -> torch.Tensor:
        matrix = module._recolorings(Always(*values), 1.0)[i][0]
        return (matrix @ torch.cat((color, torch.ones(1))))[:3]

    gray = color.mean()
    torch.testing.assert_close(changed(0, 0.3, 0, 0, 0, 0), color + 0.3)
    torch.testing.assert_close(changed(1, 0, 0.5, 0, 0, 0), color * torch.tensor(0.5).exp())
    torch.testing.assert_close(changed(2, 0, 0, 1, 0, 0), color - 2 * gray)
    torch.testing.assert_close(changed(4, 0, 0, 0, -0.7, 0), gray + (color - gray) * torch.tensor(-0.7).exp())


def test_each_kind_of_change_happens_as_often_as_it_should(rng: torch.Generator) -> None:
    n, p = 20_000, 0.2
    change = draw_augmentation(n, 64, p, rng)
    still = (change.motions == torch.eye(3)).flatten(1).all(1).float().mean().item()
    same = (change.colors == torch.eye(4)[:3]).flatten(1).all(1).float().mean().item()
    # Mirroring, quarter turns and light against dark may come out as nothing; two rotations count as one.
    expected = (1 - p / 2) * (1 - p * 3 / 4) * (1 - p) ** 5
    assert still == pytest.approx(expected, abs=0.012)
    assert same == pytest.approx((1 - p / 2) * (1 - p) ** 4, abs=0.012)


def test_gradients_and_their_gradients(rng: torch.Generator) -> None:
    change = draw_augmentation(2, 5, 1.0, rng)
    change = Augmentation(change.motions.double(), change.colors.double())
    images = torch.rand(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: augment(x, change), (images,))
    assert gradgradcheck(lambda x: augment(x, change).square(), (images,))


def test_r1_is_of_the_images_before_augmentation(rng: torch.Generator) -> None:
    change = draw_augmentation(3, 6, 1.0, rng)
    weight = torch.randn(3 * 6 * 6, requires_grad=True)
    reals = torch.rand(3, 3, 6, 6)

    def logit(images: torch.Tensor) -> torch.Tensor:
        return augment(images, change).flatten(1).sin() @ weight

    slopes = torch.autograd.functional.jacobian(lambda x: logit(x).sum(), reals)
    penalty = r1_penalty(logit, reals)
    torch.testing.assert_close(penalty, slopes.square().sum() / 3)
    (gradient,) = torch.autograd.grad(penalty, weight)
    assert gradient.abs().max() > 0  # through both derivatives


def test_the_probability_follows_the_signs() -> None:
    assert adapted(0.5, 0.7, 32, 3200.0) == pytest.approx(0.51)
    assert adapted(0.5, 0.5, 32, 3200.0) == pytest.approx(0.49)
    assert adapted(0.001, -1.0, 32, 3200.0) == 0
    assert adapted(MAX_P, 1.0, 32, 3200.0) == MAX_P
