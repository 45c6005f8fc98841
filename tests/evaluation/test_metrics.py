"""Metrics against naive loops and closed forms."""

import math

import pytest
import torch

from lift3d.evaluation import metrics
from lift3d.render.maps import Maps, Renders
from lift3d.scene.cameras import rotation
from lift3d.scene.geometry import normalize


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def masks(n=3, size=12):
    """Two overlapping discs per image, with holes."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = torch.stack([(x - 5 - i) ** 2 + (y - 6) ** 2 < 22 for i in range(n)])
    return disc, disc.roll(1, 1) & (rand(n, size, size) > 0.02)


def seen(mask, depth=None, normal=None, albedo=None, specular=None):
    """Renders from the front, whose normals are the same in the world and in the camera."""
    gray = torch.zeros(mask.shape)
    color, lit = gray[..., None].expand(*mask.shape, 3), gray[:, None]
    maps = Maps(
        mask=mask,
        depth=gray if depth is None else depth,
        normals=color if normal is None else normal,
        albedo=color if albedo is None else albedo,
        specular=gray if specular is None else specular,
        shininess=gray,
        diffuse_shading=lit,
        specular_shading=lit,
        colors=color[:, None],
    )
    return Renders(maps, torch.zeros(len(mask), 6), None)


def shown(mask, albedo, specular):
    return seen(mask, albedo=albedo, specular=specular).maps


def naive_common(a, b):
    n, h, w = a.shape
    both = [[[bool(a[i, y, x] and b[i, y, x]) for x in range(w)] for y in range(h)] for i in range(n)]
    out = torch.zeros(n, h, w, dtype=torch.bool)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
                out[i, y, x] = all(0 <= v < h and 0 <= u < w and both[i][v][u] for v, u in around)
    return out


def test_common_pixels_is_the_naive_loop():
    a, b = masks()
    assert torch.equal(metrics.common_pixels(a, b), naive_common(a, b))
    full = torch.ones(1, 5, 6, dtype=torch.bool)
    expected = torch.zeros(1, 5, 6, dtype=torch.bool)
    expected[:, 1:-1, 1:-1] = True
    assert torch.equal(metrics.common_pixels(full, full), expected)  # outside the frame is outside


def scene():
    mask, true_mask = masks()
    depth, true_depth = 9 + rand(3, 12, 12, seed=1), 9 + rand(3, 12, 12, seed=2)
    normal, true_normal = (normalize(rand(3, 12, 12, 3, seed=s) - 0.5) for s in (3, 4))
    return depth, normal, mask, true_depth, true_normal, true_mask


def test_geometry_errors_are_the_naive_loop():
    depth, normal, mask, true_depth, true_normal, true_mask = scene()
    errors = metrics.geometry_errors(seen(mask, depth, normal), seen(true_mask, true_depth, true_normal))
    common = naive_common(mask, true_mask)
    for i in range(3):
        logs, angles = [], []
        for y, x in common[i].nonzero().tolist():
            logs.append(math.log(depth[i, y, x]) - math.log(true_depth[i, y, x]))
            angles.append(math.degrees(math.acos(float((normal[i, y, x] * true_normal[i, y, x]).sum()))))
        center = sum(logs) / len(logs)
        side = 100 * math.sqrt(sum((d - center) ** 2 for d in logs) / len(logs))
        assert errors.side[i].item() == pytest.approx(side, rel=1e-4)
        assert errors.mad[i].item() == pytest.approx(sum(angles) / len(angles), rel=1e-4)
        assert len(logs) > 10
        both = sum(1 for p, q in zip(mask[i].flatten(), true_mask[i].flatten()) if p and q)
        either = sum(1 for p, q in zip(mask[i].flatten(), true_mask[i].flatten()) if p or q)
        assert errors.iou[i].item() == pytest.approx(both / either)


def test_side_ignores_scale_and_what_is_outside():
    depth, normal, mask, true_depth, true_normal, true_mask = scene()
    a = metrics.geometry_errors(seen(mask, depth, normal), seen(true_mask, true_depth, true_normal))
    outside = ~(mask & true_mask)
    dirty = torch.where(outside, torch.full_like(depth, math.nan), 7.0 * depth)
    no_normal = torch.where(outside[..., None], torch.full_like(normal, math.nan), 3.0 * normal)
    zero = torch.where(outside, torch.zeros_like(depth), true_depth)
    b = metrics.geometry_errors(seen(mask, dirty, no_normal), seen(true_mask, zero, true_normal))
    torch.testing.assert_close(a.side, b.side, rtol=1e-4, atol=0)
    torch.testing.assert_close(a.mad, b.mad, rtol=1e-4, atol=0)


def test_side_closed_form_and_precision_at_our_distance():
    depth = torch.full((1, 10, 10), 9.567)
    other = depth.clone()
    other[:, :, 5:] *= math.exp(0.002)  # half the pixels 0.2 % farther: std = 0.001
    inside = torch.ones(1, 10, 10, dtype=torch.bool)
    assert metrics.side(depth, other, inside).item() == pytest.approx(0.1, rel=2e-3)
    assert metrics.side(depth, depth * 1.5, inside).item() == pytest.approx(0.0, abs=1e-4)


def test_mad_closed_form():
    mask = torch.ones(2, 6, 6, dtype=torch.bool)
    normal = torch.tensor([0.0, 0.0, 1.0]).expand(2, 6, 6, 3)
    angles = torch.tensor([30.0, 180.0])[:, None, None].expand(2, 6, 6).deg2rad()
    turned = torch.stack((angles.sin(), torch.zeros_like(angles), angles.cos()), -1)
    depth = torch.ones(2, 6, 6)
    errors = metrics.geometry_errors(seen(mask, depth, normal), seen(mask, depth, turned))
    torch.testing.assert_close(errors.mad, torch.tensor([30.0, 180.0]))
    assert errors.iou.tolist() == [1, 1]


def test_images_without_common_pixels_are_infinite_and_counted():
    mask, other = torch.zeros(3, 8, 8, dtype=torch.bool), torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[0], other[0] = True, True
    mask[1, :4], other[1, 4:] = True, True  # disjoint; image 2: both empty
    depth, normal = rand(3, 8, 8) + 9, normalize(rand(3, 8, 8, 3))
    geometry = metrics.geometry_errors(seen(mask, depth, normal), seen(other, 2 * depth, normal))
    albedo, specular = rand(3, 8, 8, 3), rand(3, 8, 8)
    material = metrics.material_errors(shown(mask, albedo, specular), shown(other, albedo, specular))
    assert geometry.iou.tolist() == [1, 0, 1]
    values = (geometry.side, geometry.mad, material.albedo, material.albedo_scaled, material.specular)
    for value in values:
        assert not value.isnan().any()
        assert value[0].item() == pytest.approx(0.0, abs=1e-3) and value[1:].tolist() == [math.inf] * 2
    assert metrics.mean(torch.tensor([1.0, math.inf, 4.0])) == metrics.Mean(2.5, 1)
    assert metrics.mean(torch.tensor([math.inf])) == metrics.Mean(math.inf, 1)


def test_material_errors_are_the_naive_loop():
    mask, true_mask = masks()
    albedo, truth = rand(3, 12, 12, 3, seed=1), rand(3, 12, 12, 3, seed=2)
    specular, true_specular = rand(3, 12, 12, seed=3), rand(3, 12, 12, seed=4)
    errors = metrics.material_errors(shown(mask, albedo, specular), shown(true_mask, truth, true_specular))
    for i, common in enumerate(naive_common(mask, true_mask)):
        a, b = albedo[i][common].flatten().tolist(), truth[i][common].flatten().tolist()
        factor = sum(p * q for p, q in zip(a, b)) / sum(p * p for p in a)
        plain = sum(abs(p - q) for p, q in zip(a, b)) / len(a)
        assert errors.albedo[i].item() == pytest.approx(plain, rel=1e-4)
        scaled = sum(abs(factor * p - q) for p, q in zip(a, b)) / len(a)
        assert errors.albedo_scaled[i].item() == pytest.approx(scaled, rel=1e-4)
        s, t = specular[i][common], true_specular[i][common]
        assert errors.specular[i].item() == pytest.approx((s - t).abs().mean().item(), rel=1e-4)


def test_albedo_scaled_forgives_brightness_alone():
    mask, _ = masks()
    albedo, specular = rand(3, 12, 12, 3), rand(3, 12, 12)
    errors = metrics.material_errors(shown(mask, 0.7 * albedo, specular), shown(mask, albedo, specular))
    assert errors.albedo_scaled.max() < 1e-6 and errors.albedo.min() > 0.1 and errors.specular.max() == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0.0, 0.01, 1.0, 90.0, 179.9, 180.0, -37.0])
def test_view_error_of_one_axis_is_its_angle(axis, degrees):
    base = torch.tensor([0.0, 0.0, 0.0, 0.3, -0.2, 0.1])
    turned = base.clone()
    turned[axis] = math.radians(degrees)
    turned[3:] = 0.0
    assert metrics.view_error(base, turned).item() == pytest.approx(abs(degrees), abs=2e-3)


def test_view_error_is_the_geodesic_distance():
    a, b, c = (2 * rand(200, 6, seed=s) - 1 for s in (1, 2, 3))
    error = metrics.view_error(a, b)
    r = rotation(*a.double()[:, :3].unbind(-1)).mT @ rotation(*b.double()[:, :3].unbind(-1))
    trace = r.diagonal(dim1=1, dim2=2).sum(-1)
    expected = torch.rad2deg(torch.acos((trace - 1) / 2))
    torch.testing.assert_close(error.double(), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(error, metrics.view_error(b, a))
    assert (metrics.view_error(a, c) <= error + metrics.view_error(b, c) + 1e-3).all()


def test_light_error_by_hand():
    light = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0], [0.5, 0.5, 1.0, 0.0, 0.0]])
    other = torch.tensor([[0.1, 0.9, 1.0, 0.0, 0.3], [0.5, 0.5, 0.0, 1.0, 0.0]])
    torch.testing.assert_close(metrics.light_error(light, other), torch.tensor([45.0, 60.0]))
