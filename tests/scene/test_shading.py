"""Phong shading against a loop over pixels that is written from the formula."""

import math

import pytest
import torch

from lift3d.scene.geometry import normalize
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shade, shading


def rand(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def scene(*shape: int) -> tuple[torch.Tensor, torch.Tensor, Material]:
    """Normals and directions to the camera in all directions, any material."""
    normal = normalize(rand(*shape, 3, seed=0) - 0.5)
    to_camera = normalize(rand(*shape, 3, seed=1) - 0.5)
    shininess = 4 + 96 * rand(*shape, 1, seed=4)
    return normal, to_camera, Material(rand(*shape, 3, seed=2), rand(*shape, 1, seed=3), shininess)


def light(ambient: float, diffuse: float, negative: float, l_x: float, l_y: float) -> Lights:
    return Lights.from_vector(torch.tensor([ambient, diffuse, l_x, l_y, negative], dtype=torch.float64))


def naive_pixel(n, o, a, s, p, light, k_a, k_d, k_n) -> list[float]:
    """C = a (k_a + k_d max(n.l, 0) + k_n min(n.l, 0)) + s k_d [n.l > 0] max(r.o, 1e-4)^p, >= 0."""
    n_l = sum(x * y for x, y in zip(n, light))
    r = [2 * n_l * x - y for x, y in zip(n, light)]
    r_o = sum(x * y for x, y in zip(r, o))
    gloss = s * k_d * max(r_o, 1e-4) ** p if n_l > 0 else 0.0
    factor = k_a + k_d * max(n_l, 0.0) + k_n * min(n_l, 0.0)
    return [max(x * factor + gloss, 0.0) for x in a]


@pytest.mark.parametrize("k", [(0.3, 0.7, 0.0), (0.3, 0.7, 0.25), (0.1, 0.5, 0.9), (0.0, 0.0, 0.0)])
def test_shade_is_the_naive_loop(k: tuple[float, float, float]) -> None:
    normal, to_camera, m = scene(60)
    lamp = light(*k, 0.8, -0.3)
    color = shade(normal, to_camera, m, lamp)
    facing = normal @ lamp.direction
    assert (facing > 0.1).any() and (facing < -0.1).any()  # both sides of the terminator
    for i in range(60):
        expected = naive_pixel(
            normal[i].tolist(), to_camera[i].tolist(), m.albedo[i].tolist(), m.specular[i].item(),
            m.shininess[i].item(), lamp.direction.tolist(), *k,
        )  # fmt: skip
        assert color[i].tolist() == pytest.approx(expected, abs=1e-12)
    if k[2] == 0.9:
        assert (color == 0).any()  # a negative term that is stronger than the ambient one is clamped


def test_points_that_face_away_show_ambient_and_negative_light_only() -> None:
    normal, to_camera, m = scene(80)
    lamp = light(0.4, 0.6, 0.2, -0.5, 0.5)
    away = normal @ lamp.direction < 0
    factors = shading(normal, to_camera, m, lamp)
    assert torch.equal(factors.specular[away], torch.zeros_like(factors.specular[away]))
    expected = 0.4 + 0.2 * (normal @ lamp.direction)[away]
    torch.testing.assert_close(factors.diffuse[away][:, 0], expected)


def test_a_highlight_has_its_peak_in_the_mirror_direction() -> None:
    lamp = light(0.0, 1.0, 0.0, 0.6, 0.2)
    normal = normalize(torch.tensor([0.2, 0.1, 1.0], dtype=torch.float64))
    m = Material(*(torch.tensor(x, dtype=torch.float64) for x in ([0.0, 0, 0], [0.7], [30.0])))
    mirror = 2 * (normal @ lamp.direction) * normal - lamp.direction
    assert shade(normal, mirror, m, lamp).tolist() == pytest.approx([0.7] * 3)
    side = normalize(torch.linalg.cross(mirror, normal))
    for degrees in (5.0, 20.0, 60.0):
        beside = mirror * math.cos(math.radians(degrees)) + side * math.sin(math.radians(degrees))
        expected = 0.7 * math.cos(math.radians(degrees)) ** 30
        assert shade(normal, beside, m, lamp).tolist() == pytest.approx([expected] * 3)


def test_factors_make_the_color() -> None:
    normal, to_camera, m = scene(3, 5)
    lamp = light(0.2, 0.8, 0.5, 0.1, 0.9)
    factors = shading(normal, to_camera, m, lamp)
    expected = (m.albedo * factors.diffuse + factors.specular).clamp_min(0)
    assert torch.equal(shade(normal, to_camera, m, lamp), expected)


def test_one_set_of_maps_under_many_lights_is_each_light_alone() -> None:
    normal, to_camera, m = scene(4, 6)
    vectors = torch.tensor(
        [[0.3, 0.7, 0.5, 0.2, 0.0], [0.5, 0.4, -0.9, 0.1, 0.3], [0.1, 0.9, 0.0, -0.2, 0.1]]
    ).double()
    lights = Lights.from_vector(vectors)
    maps = Material(m.albedo[None], m.specular[None], m.shininess[None])
    together = shade(normal[None], to_camera[None], maps, lights.per_point(2))
    alone = [shade(normal, to_camera, m, lights[i]) for i in range(3)]
    assert torch.equal(together, torch.stack(alone))


def test_every_argument_gets_the_gradient_of_finite_differences() -> None:
    normal, to_camera, m = scene(12)
    vector = torch.tensor([0.3, 0.7, 0.5, 0.2, 0.1], dtype=torch.float64)
    away_from_kinks = ((normal @ Lights.from_vector(vector).direction).abs() > 1e-3).all()
    assert away_from_kinks

    def color(n, o, albedo, specular, shininess, light_vector) -> torch.Tensor:
        material = Material(albedo, specular, shininess)
        return shade(normalize(n), normalize(o), material, Lights.from_vector(light_vector))

    arguments = (normal, to_camera, m.albedo, m.specular, m.shininess, vector)
    assert torch.autograd.gradcheck(color, [x.requires_grad_(True) for x in arguments])


def test_gradients_stay_finite_at_grazing_light_and_vanishing_highlights() -> None:
    normal = torch.tensor([[0.0, 0, 1], [1.0, 0, 0], [0.0, 0, 0]], requires_grad=True)
    to_camera = torch.tensor([[0.0, 0, -1], [0.0, 1, 0], [0.0, 0, 1]])
    values = ((3, 0.5), (1, 0.5), (1, 99.0))
    material = Material(*(torch.full((3, n), x, requires_grad=True) for n, x in values))
    vector = torch.tensor([0.3, 0.7, 0.0, 0.0, 0.1], requires_grad=True)
    shade(normal, to_camera, material, Lights.from_vector(vector)).sum().backward()
    for x in (normal, material.albedo, material.specular, material.shininess, vector):
        assert x.grad.isfinite().all()
