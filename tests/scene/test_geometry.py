"""Vector maths against numpy, closed forms and finite differences."""

import math

import numpy as np
import pytest
import torch

from lift3d.scene.cameras import rotation
from lift3d.scene.geometry import angle_deg, dot, normalize, ray_sphere, visibility


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, generator=generator, dtype=torch.float64)


def test_dot_and_normalize_are_numpys() -> None:
    a, b = vectors(4, 5), vectors(5, seed=1)
    np.testing.assert_allclose(dot(a, b)[..., 0], np.einsum("ijk,jk->ij", a.numpy(), b.numpy()))
    np.testing.assert_allclose(normalize(a), a.numpy() / np.linalg.norm(a, axis=-1, keepdims=True))


def test_normalize_of_zero_is_zero_with_a_finite_gradient() -> None:
    v = torch.zeros(2, 3, requires_grad=True)
    unit = normalize(v)
    unit.sum().backward()
    assert torch.equal(unit, torch.zeros(2, 3))
    assert v.grad.isfinite().all()


def test_normalize_has_the_gradient_of_finite_differences() -> None:
    v = vectors(4).requires_grad_(True)
    assert torch.autograd.gradcheck(normalize, v)
    assert torch.autograd.gradgradcheck(normalize, v)


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 30.0, 90.0, 179.999, 180.0])
def test_angles_are_exact_also_near_0_and_180(degrees: float) -> None:
    a = vectors(6).float()
    a[:, 1] = 0  # turned about y by any angle
    turn = rotation(torch.tensor(0.0), torch.tensor(math.radians(degrees)), torch.tensor(0.0))
    assert angle_deg(2.5 * a, a @ turn.mT).numpy() == pytest.approx(degrees, rel=2e-3, abs=2e-5)


def naive_ray_sphere(o: np.ndarray, d: np.ndarray, radius: float) -> list[float]:
    """Real roots of |o + t d|^2 = radius^2, ascending."""
    roots = np.roots([d @ d, 2 * o @ d, o @ o - radius**2])
    return sorted(roots.real) if np.isreal(roots).all() else []


def test_ray_sphere_solves_the_quadratic() -> None:
    origins = 4 * normalize(vectors(40))
    directions = normalize(0.5 * vectors(40, seed=1) - origins)
    near, far, hit = ray_sphere(origins, directions, 0.7)
    assert 5 < hit.sum() < 35
    for i in range(40):
        roots = naive_ray_sphere(origins[i].numpy(), directions[i].numpy(), 0.7)
        assert bool(hit[i]) == (len(roots) == 2)
        closest = -(origins[i] @ directions[i]).item()
        expected = roots or [closest, closest]
        assert [near[i].item(), far[i].item()] == pytest.approx(expected)


def test_ray_sphere_has_finite_gradients_also_for_rays_that_miss_or_touch() -> None:
    origins = torch.tensor([[0.0, 0, 5], [0.0, 2, 5], [0.0, 1, 5]], dtype=torch.float64, requires_grad=True)
    directions = torch.tensor([0.0, 0, -1], dtype=torch.float64)
    near, far, hit = ray_sphere(origins, directions)
    assert hit.tolist() == [True, False, False]
    assert near.tolist() == [4, 5, 5] and far.tolist() == [6, 5, 5]
    (gradient,) = torch.autograd.grad((near + 2 * far).sum(), origins)
    assert gradient.tolist() == [[0, 0, 3]] * 3
    apart = torch.tensor([[0.3, 0.1, 5], [0.0, 2, 5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda o: ray_sphere(o, directions)[:2], apart)


def test_visibility_rises_from_grazing_to_facing() -> None:
    """A plane at the origin, seen under cosines of 0.1, 0.275 (halfway between the two of FACING) and 0.9."""
    cosine = torch.tensor([0.1, 0.275, 0.9])
    camera = 3 * torch.stack(((1 - cosine**2).sqrt(), torch.zeros(3), cosine), -1)
    seen = visibility(torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3), camera)
    torch.testing.assert_close(seen, torch.tensor([0.0, 0.5, 1.0]))
