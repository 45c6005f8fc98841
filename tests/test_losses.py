"""Losses against naive loops and closed forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from lift3d import losses

rng = torch.Generator().manual_seed(7)


def rand(*shape):
    return torch.rand(*shape, generator=rng)


def test_masked_mean_is_the_mean_of_what_is_inside():
    values, mask = rand(3, 5, 5, 4), rand(3, 5, 5, 1) > 0.4
    inside = torch.stack([values[i] for i in zip(*torch.where(mask[..., 0]), strict=True)])
    torch.testing.assert_close(losses.masked_mean(values, mask), inside.mean())
    torch.testing.assert_close(losses.masked_mean(values), values.mean())
    soft = rand(3, 5, 5, 1)
    expected = sum((values[..., c] * soft[..., 0]).sum() for c in range(4)) / (4 * soft.sum())
    torch.testing.assert_close(losses.masked_mean(values, soft), expected)


def test_empty_mask_gives_zero_and_zero_gradient():
    values = rand(2, 4, 4, 3).requires_grad_()
    loss = losses.masked_mean(values, torch.zeros(2, 4, 4, 1, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and torch.equal(values.grad, torch.zeros_like(values))


@pytest.mark.parametrize(("shape", "mask_shape"), [((2, 16, 3), (2, 16, 1)), ((2, 3, 4, 4), (2, 1, 4, 4))])
def test_l1_ignores_pixels_outside_the_mask(shape, mask_shape):
    a, mask = rand(*shape), (rand(*mask_shape) > 0.5).float()
    b = a + 0.25 * mask - 9.0 * (1 - mask)
    assert losses.l1(a, b, mask).item() == pytest.approx(0.25, abs=1e-6)


def test_eikonal_closed_forms():
    unit = F.normalize(torch.randn(100, 3, generator=rng), dim=-1)
    assert losses.eikonal(unit).item() == pytest.approx(0.0, abs=1e-9)
    assert losses.eikonal(3.0 * unit).item() == pytest.approx(4.0, rel=1e-5)
    weights = torch.arange(100) < 50
    mixed = torch.where(weights[:, None], 3.0 * unit, 7.0 * unit)
    assert losses.eikonal(mixed, weights).item() == pytest.approx(4.0, rel=1e-5)


def test_eikonal_has_finite_first_and_second_derivatives_at_zero():
    x = torch.zeros(4, 3, requires_grad=True)
    (g,) = torch.autograd.grad(losses.eikonal(x), x, create_graph=True)
    (h,) = torch.autograd.grad(g.square().sum() + g.sum(), x)
    assert torch.isfinite(g).all() and torch.isfinite(h).all()


def test_view_light_by_hand():
    view, light = torch.zeros(2, 6), torch.zeros(2, 4)
    view[0, 0], view[1, 5], light[0, 3] = 0.5, 2.0, -1.0
    loss = losses.view_light(view, torch.zeros(2, 6), light, torch.zeros(2, 4))
    assert loss.item() == pytest.approx((0.25 + 1.0 + 4.0) / 2)


def test_mask_bce_by_hand_and_clipped():
    accumulated = torch.tensor([0.0, 1.0, 0.25, 0.9], requires_grad=True)
    mask = torch.tensor([True, True, False, True])
    expected = [-math.log(1e-3), -math.log(1 - 1e-3), -math.log(0.75), -math.log(0.9)]
    loss = losses.mask_bce(accumulated, mask)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-5)
    loss.backward()
    assert accumulated.grad.tolist() == pytest.approx([0.0, 0.0, 1 / 0.75 / 4, -1 / 0.9 / 4], rel=1e-4)
    torch.testing.assert_close(losses.mask_bce(accumulated, mask.float()), loss)


def test_chromaticity_cancels_shading_of_bright_colors():
    color = torch.tensor([0.6, 0.3, 0.1])
    assert losses.chromaticity(torch.zeros(3)).tolist() == [0, 0, 0]
    torch.testing.assert_close(losses.chromaticity(color), color / 1.05)
    torch.testing.assert_close(losses.chromaticity(1e4 * color), color, atol=1e-4, rtol=0)


def naive_smoothness(material, image, mask, beta):
    n, p, q, c = material.shape
    total, count = 0.0, 0
    for b in range(n):
        for y in range(p):
            for x in range(q):
                for dy, dx in ((0, 1), (1, 0)):
                    v, u = y + dy, x + dx
                    if v >= p or u >= q or not (mask[b, y, x] and mask[b, v, u]):
                        continue
                    i, j = (image[b, *k] / (image[b, *k].sum() + 0.05) for k in ((y, x), (v, u)))
                    weight = math.exp(-float((i - j).square().sum()) / beta)
                    total += weight * sum(abs(float(d)) for d in material[b, y, x] - material[b, v, u]) / c
                    count += 1
    return total / max(count, 1)


@pytest.mark.parametrize("c", [1, 3])
def test_smoothness_is_the_naive_loop(c):
    material, image, mask = rand(2, 5, 7, c), 0.5 + 0.02 * rand(2, 5, 7, 3), rand(2, 5, 7) > 0.3
    for beta in (losses.BETA, 1e-3):
        loss = losses.smoothness(material, image, mask, beta)
        assert loss.item() == pytest.approx(naive_smoothness(material, image, mask, beta), rel=1e-4)
        assert loss > 0
    full = torch.ones(2, 5, 7, dtype=torch.bool)
    torch.testing.assert_close(losses.smoothness(material, image), losses.smoothness(material, image, full))


def test_smoothness_lets_the_material_change_where_chromaticity_does():
    material = torch.zeros(1, 8, 8, 3)
    material[:, :, 4:] = 1.0
    red_and_green = torch.tensor([0.8, 0.1, 0.1]).expand(1, 8, 8, 3).clone()
    red_and_green[:, :, 4:] = torch.tensor([0.1, 0.8, 0.1])
    assert losses.smoothness(material, red_and_green).item() == pytest.approx(0.0, abs=1e-12)
    gray = torch.full((1, 8, 8, 3), 0.5)
    assert losses.smoothness(material, gray).item() == pytest.approx(8 / (2 * 7 * 8), rel=1e-5)
    outside = torch.ones(1, 8, 8, dtype=torch.bool)
    outside[:, :, 4] = False
    assert losses.smoothness(material, gray, outside) == 0
    assert losses.smoothness(material, gray, torch.zeros_like(outside)) == 0


def test_smoothness_gradient_pulls_neighbors_together():
    material = rand(1, 6, 6, 1).requires_grad_()
    image = torch.full((1, 6, 6, 3), 0.5)
    optimizer = torch.optim.SGD([material], lr=0.5)
    before = material.std().item()
    for _ in range(200):
        optimizer.zero_grad()
        losses.smoothness(material, image).backward()
        optimizer.step()
    assert material.std().item() < 0.2 * before


def pyramid(images):
    """A stand-in for the discriminator: three levels of the image."""
    return [F.avg_pool2d(images, k) for k in (2, 4, 8)]


def test_features_l1_masks_each_level():
    a, mask = rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    mask[:, :, :8] = 1.0  # aligned with every level: no level leaks
    b = a + 0.5 * mask + 3.0 * (1 - mask)
    assert losses.features_l1(pyramid, a, b, mask).item() == pytest.approx(1.5, rel=1e-5)
    assert losses.features_l1(pyramid, a, b, mask.bool()).item() == pytest.approx(1.5, rel=1e-5)
    assert losses.features_l1(pyramid, a, a + 0.5).item() == pytest.approx(1.5, rel=1e-5)


def test_features_l1_weights_a_partly_covered_cell_by_its_cover():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :3] = 1.0  # with cells of 2 pixels: full, half
    difference = torch.zeros(1, 3, 4, 4)
    difference[..., 2:] = 1.0
    loss = losses.features_l1(lambda x: [F.avg_pool2d(x, 2)], difference, torch.zeros_like(difference), mask)
    assert loss.item() == pytest.approx(0.5 / 1.5)


def test_projection_terms_and_gradients():
    projected, pseudo = rand(2, 3, 16, 16).requires_grad_(), rand(2, 3, 16, 16).requires_grad_()
    delta, mask = rand(2, 8).requires_grad_(), (rand(2, 1, 16, 16) > 0.3)
    loss = losses.projection(projected, pseudo, mask, delta, pyramid, lambda_d=2.0)
    torch.testing.assert_close(loss["pixels"], losses.l1(projected, pseudo, mask))
    torch.testing.assert_close(loss["features"], losses.features_l1(pyramid, projected, pseudo, mask))
    torch.testing.assert_close(loss["offset"], (delta**2).mean())
    torch.testing.assert_close(loss["total"], loss["pixels"] + 2.0 * loss["features"] + 0.01 * loss["offset"])
    loss["total"].backward()
    assert projected.grad.abs().sum() > 0 and delta.grad.abs().sum() > 0 and pseudo.grad is None


def test_projection_of_equal_images_costs_only_the_offset():
    image, delta = rand(1, 3, 16, 16), torch.full((1, 4, 8), 0.5)
    loss = losses.projection(image, image.clone(), None, delta, pyramid)
    assert loss["total"].item() == pytest.approx(0.01 * 0.25) and loss["pixels"] == loss["features"] == 0
