"""The conditional fields: exact start, conditioning, mirror, gradients against finite differences."""

import pytest
import torch
from torch import Tensor, nn

from lift3d.networks.fields import (
    SHININESS_RANGE,
    ConditionalMLP,
    MaterialField,
    SDFField,
    condition,
    condition_reference,
    ellipsoid_gradient,
    ellipsoid_sdf,
)
from lift3d.scene.geometry import normalize
from lift3d.scene.shading import Material
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal

RADII = (0.5, 0.72, 0.6)
N_CODE = 6


def rand(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def fields(trained: bool = True, n_layers: int = 4) -> tuple[SDFField, MaterialField]:
    """Both fields, small and in double precision; "trained" ones have random parameters everywhere."""
    shape = SDFField(12, n_layers, 3, N_CODE, RADII).double()
    material = MaterialField(10, 2, 2, 12, N_CODE).double()
    if trained:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in [*shape.parameters(), *material.parameters()]:
                p += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return shape, material


def test_ellipsoid_sdf_of_a_sphere_is_the_distance() -> None:
    points = rand(50, 3, seed=0)
    expected = points.norm(dim=-1, keepdim=True) - 0.7
    actual = ellipsoid_sdf(points, torch.full((3,), 0.7, dtype=torch.float64))
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=0)


def test_ellipsoid_sdf_is_a_distance_to_first_order_at_the_surface() -> None:
    radii = torch.tensor(RADII, dtype=torch.float64)
    surface = normalize(rand(50, 3, seed=1)) * radii
    points = surface.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(ellipsoid_sdf(points, radii).sum(), points)
    outward = normalize(surface / radii.square())
    torch.testing.assert_close(gradient, outward, atol=1e-9, rtol=0)
    for step in (-0.01, 0.01):
        moved = ellipsoid_sdf(surface + step * outward, radii)
        assert (moved - step).abs().max() < 2 * 0.01**2
    assert (ellipsoid_sdf(rand(50, 3, seed=2) * 0.25, radii) < 0).all()


@pytest.mark.parametrize("open_bands", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n_layers", [1, 2, 8])
def test_an_untrained_shape_is_the_ellipsoid_for_any_code(n_layers: int, open_bands: float) -> None:
    shape, _ = fields(trained=False, n_layers=n_layers)
    points, code = rand(3, 40, 3, seed=0), 9 * rand(3, N_CODE, seed=1)
    sdf, feature = shape(points, code, open_bands)
    assert torch.equal(sdf, ellipsoid_sdf(points, shape.radii))
    assert feature.shape == (3, 40, 12)


def test_codes_enter_as_biases_that_start_at_zero() -> None:
    shape, material = fields(trained=False)
    for field in (shape, material):
        assert not field.body.biases.weight.any() and not field.body.biases.bias.any()
    points, normal, feature = rand(1, 5, 3, seed=0), normalize(rand(1, 5, 3, seed=1)), rand(1, 5, 12, seed=2)
    one, other = (material(points, normal, feature, rand(1, N_CODE, seed=s)) for s in (3, 4))
    assert torch.equal(one.albedo, other.albedo)
    assert torch.equal(shape(points, rand(1, N_CODE, seed=3))[1], shape(points, rand(1, N_CODE, seed=4))[1])


def test_a_conditional_mlp_is_the_naive_one() -> None:
    mlp = ConditionalMLP(4, 7, 3, N_CODE, 1, nn.ReLU()).double()
    with torch.no_grad():
        mlp.biases.weight.copy_(rand(21, N_CODE, seed=0))
    x, code = rand(2, 5, 4, seed=1), rand(2, N_CODE, seed=2)
    for b in range(2):
        bias = mlp.biases.weight @ code[b]
        for p in range(5):
            h = x[b, p]
            for i, layer in enumerate(mlp.layers):
                if i == 1:
                    h = torch.cat((h, x[b, p]))
                h = (layer.weight @ h + layer.bias + bias[7 * i : 7 * i + 7]).clamp_min(0)
            torch.testing.assert_close(mlp(x, code)[b, p], h)


def test_objects_of_a_batch_do_not_see_each_other() -> None:
    shape, material = fields()
    points, code = rand(3, 4, 3, seed=0), rand(3, N_CODE, seed=1)
    sdf, feature = shape(points, code)
    color = material(points, normalize(points), feature, code)
    for i in range(3):
        one, one_feature = shape(points[i : i + 1], code[i : i + 1])
        torch.testing.assert_close(one[0], sdf[i])
        alone = material(points[i : i + 1], normalize(points[i : i + 1]), one_feature, code[i : i + 1])
        torch.testing.assert_close(alone.albedo[0], color.albedo[i])
    swapped = shape(points[:1], code[1:2])[0]
    assert not torch.allclose(swapped[0], sdf[0])  # and a code means something


def test_material_stays_in_its_ranges() -> None:
    _, material = fields()
    with torch.no_grad():
        material.head.weight.mul_(1e4)
    points = rand(1, 500, 3, seed=0)
    m = material(points, normalize(points), 9 * rand(1, 500, 12, seed=1), rand(1, N_CODE, seed=2))
    low, high = SHININESS_RANGE
    assert (low, high) == (4.0, 100.0)  # Table 4
    for values, bounds in ((m.albedo, (0, 1)), (m.specular, (0, 1)), (m.shininess, (low, high))):
        assert (values.min().item(), values.max().item()) == pytest.approx(bounds)  # both ends are in reach
    assert (m.albedo.shape, m.specular.shape, m.shininess.shape) == ((1, 500, 3), (1, 500, 1), (1, 500, 1))


def test_a_mirrored_surface_is_the_surface_at_reflected_points() -> None:
    shape, material = fields()
    code, points = rand(2, N_CODE, seed=0), 0.7 * rand(2, 20, 3, seed=1)
    reflection = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    plain = condition(shape, material, code)
    mixed = condition(shape, material, code, mirror=points.new_tensor([-1, 1]))
    for i, flip in enumerate((reflection, torch.ones_like(reflection))):
        sdf, feature, gradient = sdf_and_gradient(mixed, points, False)
        there, there_feature, there_gradient = sdf_and_gradient(plain, points * flip, False)
        torch.testing.assert_close(sdf[i], there[i])
        torch.testing.assert_close(feature[i], there_feature[i])
        torch.testing.assert_close(gradient[i], there_gradient[i] * flip)  # normals flip
        normal = smooth_normal(gradient)
        seen = mixed.material(points, normal, feature)
        expected = plain.material(points * flip, normal * flip, there_feature)
        for name in ("albedo", "specular", "shininess"):
            torch.testing.assert_close(getattr(seen, name)[i], getattr(expected, name)[i])
    assert not torch.allclose(mixed.sdf(points)[0][0], plain.sdf(points)[0][0])


def test_the_window_closes_bands_of_the_shape_but_not_of_the_material() -> None:
    shape, material = fields()
    code, points, feature = rand(1, N_CODE, seed=0), 0.7 * rand(1, 9, 3, seed=1), rand(1, 9, 12, seed=2)
    narrow, wide = (condition(shape, material, code, bands) for bands in (0.3, 1.0))
    assert not torch.allclose(narrow.sdf(points)[0], wide.sdf(points)[0])
    one, other = (s.material(points, normalize(points), feature) for s in (narrow, wide))
    assert torch.equal(one.albedo, other.albedo) and torch.equal(one.shininess, other.shininess)


def test_the_gradient_of_the_ellipsoid_is_that_of_automatic_differentiation() -> None:
    radii, points = torch.tensor(RADII, dtype=torch.float64), rand(50, 3, seed=4).requires_grad_(True)
    (expected,) = torch.autograd.grad(ellipsoid_sdf(points, radii).sum(), points)
    torch.testing.assert_close(ellipsoid_gradient(points, radii), expected)


@pytest.mark.parametrize("mirror", [None, -1.0])
@pytest.mark.parametrize("n_layers", [1, 2, 5])
def test_a_surface_is_its_readable_twin_with_all_derivatives(n_layers: int, mirror: float | None) -> None:
    shape, material = fields(n_layers=n_layers)
    code, points = rand(2, N_CODE, seed=0).requires_grad_(True), 0.7 * rand(2, 9, 3, seed=1)
    points.requires_grad_(True)
    signs = None if mirror is None else points.new_tensor([mirror, 1.0]).detach()
    wanted = [points, code, *shape.parameters(), *material.parameters()]
    found = []
    for twin in (condition, condition_reference):
        surface = twin(shape, material, code, 0.6, signs)
        sdf, feature, gradient = sdf_and_gradient(surface, points, create_graph=True)
        m = surface.material(points, smooth_normal(gradient), feature)
        loss = (gradient.norm(dim=-1) - 1).square().sum() + sdf.square().sum() + feature.sin().sum()
        loss = loss + m.albedo.square().sum() + m.specular.sin().sum() + m.shininess.mean()
        values = [sdf, feature, gradient, m.albedo, m.specular, m.shininess]
        found.append(values + list(torch.autograd.grad(loss, wanted, materialize_grads=True)))
        with torch.no_grad():
            found[-1] += [*surface.sdf(points), *sdf_and_gradient(surface, points, create_graph=False)]
    for fast, readable in zip(*found, strict=True):
        torch.testing.assert_close(fast, readable, atol=1e-7, rtol=1e-6)  # torch's softplus drops exp(-20)


@pytest.mark.parametrize("mirror", [None, -1.0])
@pytest.mark.parametrize("open_bands", [0.3, 1.0])
def test_the_gradient_of_the_shape_is_that_of_finite_differences(
    mirror: float | None, open_bands: float
) -> None:
    code, points, h = rand(1, N_CODE, seed=0), 0.7 * rand(1, 15, 3, seed=1), 1e-6
    signs = None if mirror is None else points.new_tensor([mirror])
    surface = condition(*fields(), code, open_bands, signs)
    sdf, _, gradient = sdf_and_gradient(surface, points, False)
    torch.testing.assert_close(sdf, surface.sdf(points)[0])
    for axis, step in enumerate(h * torch.eye(3, dtype=torch.float64)):
        slope = (surface.sdf(points + step)[0] - surface.sdf(points - step)[0])[..., 0] / (2 * h)
        torch.testing.assert_close(gradient[..., axis], slope, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_the_eikonal_loss_has_the_parameter_gradient_of_finite_differences(mirror: float) -> None:
    shape, material = fields()
    code, points = rand(2, N_CODE, seed=0).requires_grad_(True), 0.7 * rand(2, 15, 3, seed=1)

    def eikonal() -> Tensor:
        surface = condition(shape, material, code, 0.6, points.new_tensor([mirror, 1.0]))
        gradient = sdf_and_gradient(surface, points, create_graph=True)[2]
        return (gradient.norm(dim=-1) - 1).square().mean()

    parameters = [*shape.parameters(), code]
    gradients = torch.autograd.grad(eikonal(), parameters, materialize_grads=True)
    for seed in range(3):
        steps = [1e-6 * rand(*p.shape, seed=seed) if p.dim() else torch.zeros_like(p) for p in parameters]
        expected = sum((g * s).sum() for g, s in zip(gradients, steps))
        ends = []
        for sign in (1, -2, 1):  # forwards, backwards, back where it was
            with torch.no_grad():
                for p, s in zip(parameters, steps):
                    p += sign * s
            ends.append(eikonal().item())
        assert (ends[0] - ends[1]) / 2 == pytest.approx(expected.item(), rel=1e-4, abs=1e-12)


def test_the_gradient_leads_on_to_the_points_where_they_need_it() -> None:
    surface = condition(*fields(), rand(1, N_CODE, seed=0))
    points = (0.7 * rand(1, 4, 3, seed=1)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: sdf_and_gradient(surface, x, create_graph=True)[2], points)
    loose = points.detach()
    gradient = sdf_and_gradient(surface, loose, create_graph=True)[2]
    assert not loose.requires_grad and gradient.requires_grad


def test_a_gradient_is_found_under_no_grad_also_of_an_analytic_shape() -> None:
    radii = torch.tensor(RADII, dtype=torch.float64)
    gray = lambda x, n, f: Material(x, x[..., :1], x[..., :1])  # noqa: E731
    surface = Surface(lambda x: (ellipsoid_sdf(x, radii), x), gray)
    points = normalize(rand(1, 9, 3, seed=0)) * radii
    with torch.no_grad():
        _, feature, gradient = sdf_and_gradient(surface, points, create_graph=False)
    assert torch.equal(feature, points) and not gradient.requires_grad
    torch.testing.assert_close(smooth_normal(gradient), normalize(points / radii.square()))


def test_a_vanishing_gradient_has_a_finite_normal() -> None:
    gradient = torch.zeros(2, 3, requires_grad=True)
    smooth_normal(gradient).sum().backward()
    assert gradient.grad.isfinite().all()
