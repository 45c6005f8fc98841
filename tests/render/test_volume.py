"""Volume rendering against closed forms of a sphere and an ellipsoid, naive loops and finite differences.

Tolerances on analytic shapes are about twice what was measured.
"""

import math
from dataclasses import fields as names_of
from dataclasses import replace

import pytest
import torch
from analytic import surface_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lift3d.networks.fields import MaterialField, SDFField, condition, ellipsoid_sdf
from lift3d.render import surface_hits, volume
from lift3d.render.maps import Maps
from lift3d.render.mesh import Hits, mesh_hits
from lift3d.render.volume import SamplingConfig
from lift3d.render.volume_near_mesh import cubic, render_maps_near
from lift3d.scene.cameras import Cameras, ViewPrior, pixel_grid
from lift3d.scene.geometry import angle_deg, normalize, ray_sphere
from lift3d.scene.isosurface import cell_size, extract_mesh
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.shading import Material, shading
from lift3d.scene.surface import Surface
from lift3d.scene.surface_mesh import project_to_surface

SIZE = 16
FINE = SamplingConfig(64, 64, coarse_sharpness=200.0)
VIEWS = torch.tensor([[0.2, -0.5, 0.1, 0.03, -0.02, 0.0], [0.0] * 6])
LIGHTS = torch.tensor([[0.4, 0.6, 0.5, 0.3, 0.0], [0.3, 0.7, -0.8, 0.2, 0.2], [0.2, 0.6, 0.9, -0.2, 0.1]])


def material(points: Tensor, normal: Tensor, feature: Tensor) -> Material:
    """Smooth in space, none of it constant."""
    gloss, exponent = 0.3 + 0.2 * points[..., :1], 30 + 20 * points[..., 1:2]
    return Material(0.5 + 0.4 * torch.sin(5 * points), gloss, exponent)


class Ellipsoid:
    """A surface that counts how often, and at how many points, its distance is evaluated."""

    def __init__(self, *radii: float) -> None:
        self.radii = torch.tensor(radii)
        self.calls, self.points = 0, 0
        self.surface = Surface(self.sdf, material)

    def sdf(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.calls, self.points = self.calls + 1, self.points + points.shape[1]
        return ellipsoid_sdf(points, self.radii.to(points)), points

    def exact(self, cameras: Cameras, lights: Lights) -> tuple[Maps, Tensor]:
        """Maps of the first intersections [v, h, w] and the cosine between normal and ray."""
        n_views = len(cameras.rotation)
        origins, directions = cameras.rays(pixel_grid(SIZE).expand(n_views, -1, -1), SIZE)
        unit = directions / self.radii
        near, _, hit = ray_sphere(origins / self.radii, normalize(unit))
        position = origins + (near / unit.norm(dim=-1))[..., None] * directions
        normal = normalize(position / self.radii.square())
        m = material(position, normal, position)
        per_light = Material(m.albedo[:, None], m.specular[:, None], m.shininess[:, None])
        lamp = lights.per_point(1)
        factors = shading(normal[:, None], -directions[:, None], per_light, lamp)
        colors = (per_light.albedo * factors.diffuse + factors.specular).clamp(0, 1)

        def image(x: Tensor) -> Tensor:
            return x.unflatten(-1, (SIZE, SIZE))

        def picture(x: Tensor) -> Tensor:
            return x.unflatten(-2, (SIZE, SIZE))

        out = Maps(
            mask=image(hit), depth=image(cameras.z_depth(position)), normals=picture(normal),
            albedo=picture(m.albedo), specular=image(m.specular[..., 0]),
            shininess=image(m.shininess[..., 0]), diffuse_shading=image(factors.diffuse[..., 0]),
            specular_shading=image(factors.specular[..., 0]), colors=picture(colors),
        )  # fmt: skip
        return out, image(-(normal * directions).sum(-1))


# --- weights


def test_opacities_at_interval_ends_are_equation_13() -> None:
    sdf = torch.tensor([0.3, 0.1, -0.02, -0.1, 0.05, 0.2], dtype=torch.float64)
    phi = [1 / (1 + math.exp(-20 * f)) for f in sdf.tolist()]
    expected = [max((a - b) / a, 0) for a, b in zip(phi, phi[1:])]
    assert volume.alphas_from_ends(sdf, 20.0).tolist() == pytest.approx(expected, abs=1e-4)


def test_opacities_at_midpoints_are_those_at_the_ends_of_a_linear_distance() -> None:
    t = torch.tensor([0.0, 0.1, 0.3, 0.35, 0.6, 1.0], dtype=torch.float64)
    ends, delta = 0.5 - 1.3 * t, t.diff()
    middle = (ends[1:] + ends[:-1]) / 2
    actual = volume.alphas(middle, torch.full_like(middle, -1.3), delta, 15.0)
    torch.testing.assert_close(actual, volume.alphas_from_ends(ends, 15.0))


def test_opacities_have_the_gradient_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    sdf, slope, delta = (torch.rand(8, generator=generator, dtype=torch.float64) for _ in range(3))
    arguments = (sdf - 0.5, -0.1 - slope, 0.01 + 0.1 * delta, torch.tensor(20.0, dtype=torch.float64))
    assert torch.autograd.gradcheck(volume.alphas, [x.requires_grad_(True) for x in arguments])
    assert torch.autograd.gradcheck(lambda f, s: volume.alphas_from_ends(f, s), [arguments[0], arguments[3]])


def test_weights_are_the_naive_loop() -> None:
    alpha = torch.rand(3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row, weights in zip(alpha.tolist(), volume.weights_from_alphas(alpha).tolist()):
        passed, expected = 1.0, []
        for a in row:
            expected.append(a * passed)
            passed *= 1 - a
        assert weights == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=80))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_weights_sum_to_at_most_one(alpha: list[float]) -> None:
    weights = volume.weights_from_alphas(torch.tensor(alpha))
    assert (weights >= 0).all()
    assert weights.sum() <= 1 + 2e-7 * (len(alpha) + 1)  # the guard of the product, and rounding


@given(st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=60), st.floats(1, 2000, width=32))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_distances_give_weights_that_sum_to_at_most_one(sdf: list[float], sharpness: float) -> None:
    alpha = volume.alphas_from_ends(torch.tensor(sdf), sharpness)
    assert ((0 <= alpha) & (alpha <= 1)).all()
    assert volume.weights_from_alphas(alpha).sum() <= 1 + 2e-7 * (len(sdf) + 1)


# --- samples


def rays(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return Cameras.from_view(VIEWS.to(dtype)).rays(pixel_grid(SIZE).to(dtype).expand(2, -1, -1), SIZE)


@pytest.mark.parametrize("keep_coarse", [True, False])
@pytest.mark.parametrize("jitter", [True, False])
def test_samples_are_sorted_in_the_sphere_and_gather_at_the_surface(keep_coarse: bool, jitter: bool) -> None:
    origins, directions = rays()
    generator = torch.Generator().manual_seed(0) if jitter else None
    config = SamplingConfig(20, 10, keep_coarse)
    t, _, _ = volume.place_samples(Ellipsoid(0.7, 0.7, 0.7).surface, origins, directions, config, generator)
    assert t.shape == (2, SIZE**2, 30 if keep_coarse else 10)
    assert (t.diff() >= -1e-6).all()
    near, far, in_sphere = ray_sphere(origins, directions)
    assert ((near[..., None] - 1e-5 <= t) & (t <= far[..., None] + 1e-5)).all()
    missed = t[~in_sphere]
    assert len(missed) and (missed.amax(-1) - missed.amin(-1)).max() < 1e-5  # no length outside the sphere
    surface, _, hit = ray_sphere(origins, directions, 0.7)
    close = ((t - surface[..., None]).abs() < 0.15).sum(-1)[hit].float()
    assert close.mean() > 8 and close.min() >= 4  # of 10 fine ones; evenly spread ones would be 1.5


def test_trace_samples_the_midpoints_and_takes_a_generator() -> None:
    origins, directions = rays()
    surface, config = Ellipsoid(0.7, 0.7, 0.7).surface, SamplingConfig(6, 4)
    seeded = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    t, _, _ = volume.place_samples(surface, origins, directions, config, seeded())
    traced = volume.trace(surface, origins, directions, 50.0, config, seeded(), sparse=False)
    torch.testing.assert_close(traced.t, ((t[..., 1:] + t[..., :-1]) / 2).flatten(1))
    assert torch.equal(traced.ray, torch.arange(SIZE**2).repeat_interleave(9).expand(2, -1))
    points = origins[:, traced.ray[0]] + traced.t[..., None] * directions[:, traced.ray[0]]
    torch.testing.assert_close(traced.normal, normalize(points))
    torch.testing.assert_close(traced.material.albedo, material(points, points, points).albedo)
    plain = volume.trace(surface, origins, directions, 50.0, config)
    assert torch.equal(plain.t, volume.trace(surface, origins, directions, 50.0, config).t)
    assert not torch.equal(plain.t, traced.t)


@pytest.mark.parametrize("sharpness", [20.0, 55.0, 400.0])
@pytest.mark.parametrize("keep_coarse", [True, False])
def test_what_is_left_out_carries_no_weight(sharpness: float, keep_coarse: bool) -> None:
    origins, directions = rays()
    lights, config = Lights.from_vector(LIGHTS[:2]), SamplingConfig(24, 12, keep_coarse)
    shape = Ellipsoid(0.5, 0.72, 0.6)
    sparse, dense = (
        volume.trace(shape.surface, origins, directions, sharpness, config, sparse=s) for s in (True, False)
    )
    assert sparse.t.shape[1] < 0.8 * dense.t.shape[1] or sharpness < 100
    assert (sparse.opacity - dense.opacity).abs().max() < 2 * math.exp(
        -volume.REACH
    ) + 4e-4  # and empty intervals
    colors = [volume.render_rays(x, directions, lights, 0.25) for x in (sparse, dense)]
    assert (colors[0] - colors[1]).abs().max() < 3e-3


def test_witnesses_estimate_the_mean_over_all_samples() -> None:
    origins, directions = rays()
    shape, config = Ellipsoid(0.5, 0.72, 0.6), SamplingConfig(24, 12)
    dense = volume.trace(shape.surface, origins, directions, 200.0, config, torch.Generator(), sparse=False)
    length = lambda x: x.gradient.norm(dim=-1)  # noqa: E731
    exact, means = length(dense).mean(), []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            traced = volume.trace(shape.surface, origins, directions, 200.0, config, generator, True)
        assert traced.t.shape[1] < traced.gradient.shape[1] < 0.5 * dense.t.shape[1]
        assert traced.share.sum(-1).tolist() == pytest.approx([dense.t.shape[1]] * 2)
        means.append((length(traced) * traced.share).sum() / traced.share.sum())
    assert abs(torch.stack(means).mean() - exact) < 5e-3 * exact


# --- analytic shapes


@pytest.mark.parametrize("radii", [(0.7, 0.7, 0.7), (0.5, 0.72, 0.6)])
@pytest.mark.parametrize(
    ("config", "sharpness", "depth", "degrees", "color"),
    [(FINE, 2000.0, 3e-4, 0.02, 2e-3), (SamplingConfig(), 1000.0, 1e-3, 0.1, 5e-3)],
)
def test_an_ellipsoid_has_its_exact_maps(
    radii: tuple[float, ...],
    config: SamplingConfig,
    sharpness: float,
    depth: float,
    degrees: float,
    color: float,
) -> None:
    cameras, lights, shape = Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS), Ellipsoid(*radii)
    out = volume.render_maps(shape.surface, cameras, lights, SIZE, sharpness, config)
    true, cosine = shape.exact(cameras, lights)
    assert torch.equal(out.mask, true.mask)
    inner = true.mask & (cosine > 0.3)  # elsewhere a sample's width is a long way along the surface
    assert inner.sum() > 0.8 * true.mask.sum() > 50
    assert (out.depth - true.depth)[inner].abs().max() < depth
    assert angle_deg(out.normals, true.normals)[inner].max() < degrees
    assert (out.albedo - true.albedo)[inner].abs().max() < color
    assert (out.specular - true.specular)[inner].abs().max() < color
    assert (out.shininess - true.shininess)[inner].abs().max() < 100 * color
    lit = inner[:, None].expand_as(out.diffuse_shading)
    assert (out.diffuse_shading - true.diffuse_shading)[lit].abs().max() < color
    assert (out.specular_shading - true.specular_shading)[lit].abs().max() < color
    assert (out.colors - true.colors)[lit].abs().max() < color
    torch.testing.assert_close(out.normals[out.mask].norm(dim=-1), torch.ones(int(out.mask.sum())))


def test_rays_through_an_ellipsoid_have_the_colors_of_its_surface() -> None:
    shape, lights = Ellipsoid(0.5, 0.72, 0.6), Lights.from_vector(LIGHTS[:2])
    origins, directions = rays()
    traced = volume.trace(shape.surface, origins, directions, 2000.0, FINE)
    color = volume.render_rays(traced, directions, lights, 0.25)
    true, cosine = shape.exact(Cameras.from_view(VIEWS), lights)
    inside = (true.mask & (cosine > 0.3)).flatten(1)
    for i in range(2):
        exact = true.colors[i, i].flatten(0, 1)
        assert (color[i].clamp_max(1) - exact)[inside[i]].abs().max() < 2e-3
        outside = ~true.mask[i].flatten()
        assert (color[i][outside] - 0.25).abs().max() < 4e-3  # empty intervals have an opacity of 1e-5
    own = volume.render_rays(traced, directions, lights, torch.full((2, SIZE**2, 3), 0.25))
    assert torch.equal(own, color)


def test_maps_are_zero_and_colors_background_outside_the_mask() -> None:
    out = volume.render_maps(
        Ellipsoid(0.4, 0.4, 0.4).surface, Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS), SIZE, 500.0,
        SamplingConfig(12, 12), background=(0.1, 0.2, 0.3),
    )  # fmt: skip
    outside = ~out.mask
    assert outside.any() and out.mask.any()
    for name in ("depth", "normals", "albedo", "specular", "shininess"):
        assert not getattr(out, name)[outside].any(), name
    for shaded in (out.diffuse_shading, out.specular_shading):
        assert not shaded[outside[:, None].expand_as(shaded)].any()
    color = out.colors[outside[:, None].expand(out.colors.shape[:-1])]
    assert torch.equal(color, torch.tensor([0.1, 0.2, 0.3]).expand_as(color))


def test_composites_are_divided_by_the_accumulated_weight() -> None:
    shape = Ellipsoid(0.7, 0.7, 0.7)  # so soft that no pixel is opaque
    arguments = (Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS), SIZE, 4.0, SamplingConfig(12, 12))
    constant = Surface(shape.sdf, lambda x, n, f: replace(material(x, n, f), specular=0 * x[..., :1] + 0.3))
    out = volume.render_maps(constant, *arguments)
    inside = out.specular[out.mask]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.3))


def test_the_shading_identity_holds_exactly() -> None:
    out = volume.render_maps(
        Ellipsoid(0.5, 0.72, 0.6).surface, Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS), SIZE, 300.0,
        SamplingConfig(16, 16),
    )  # fmt: skip
    color = out.albedo[:, None] * out.diffuse_shading[..., None] + out.specular_shading[..., None]
    lit = out.mask[:, None].expand(out.colors.shape[:-1])
    assert torch.equal(color.clamp(0, 1)[lit], out.colors[lit])


# --- first hits


def test_first_hits_of_an_ellipsoid_are_the_roots_of_its_quadratic() -> None:
    shape, (origins, directions) = Ellipsoid(0.5, 0.72, 0.6), rays()
    t, hit = surface_hits.first_hits(shape.surface, origins, directions, 24, 3)
    assert shape.points < SIZE**2 * (24 + 3)
    unit = directions / shape.radii
    near, far, exact = ray_sphere(origins / shape.radii, normalize(unit))
    near, far = near / unit.norm(dim=-1), far / unit.norm(dim=-1)
    assert not (hit & ~exact).any()
    assert ((far - near)[exact & ~hit] < 2 / 24).all()  # shorter ways may fall between two samples
    error = (t - near)[hit].abs()
    assert error.max() < 2e-3 and error.median() < 5e-5  # the worst are grazing rays
    assert not t.requires_grad


@pytest.mark.parametrize("n_coarse", [2, 7, 16])
def test_rays_that_stop_early_hit_where_all_samples_say(n_coarse: int) -> None:
    origins, directions = rays(torch.float64)
    generator = torch.Generator().manual_seed(0)
    shape, field = SDFField(8, 2, 2, 3, (0.5, 0.7, 0.4)).double(), MaterialField(8, 1, 2, 8, 3).double()
    with torch.no_grad():
        shape.head.weight.copy_(0.3 * torch.randn(1, 8, generator=generator))  # not convex
    for surface in (condition(shape, field, origins.new_zeros(2, 3)), Ellipsoid(0.2, 0.2, 0.2).surface):
        t, hit = surface_hits.first_hits(surface, origins, directions, n_coarse)
        expected, truly = surface_hits.first_hits_reference(surface, origins, directions, n_coarse)
        torch.testing.assert_close(t, expected)
        assert torch.equal(hit, truly) and (n_coarse == 2 or hit.any()) and not hit.all()


def test_rays_that_hit_take_few_samples() -> None:
    origins, directions = rays()
    shape = Ellipsoid(0.9, 0.9, 0.9)
    _, hit = surface_hits.first_hits(shape.surface, origins, directions, 16, 0)
    missed = (~hit).sum(-1).max()
    assert shape.points <= SIZE**2 * surface_hits.PART + missed * 16


def test_more_steps_bring_first_hits_closer() -> None:
    surface, (origins, directions) = Ellipsoid(0.5, 0.72, 0.6).surface, rays(torch.float64)
    values = []
    for n in (1, 3, 8):
        t, hit = surface_hits.first_hits(surface, origins, directions, 24, n)
        points = origins + t[..., None] * directions
        values.append(surface.sdf(points)[0][..., 0][hit].abs().max().item())
    assert values[0] > 3 * values[1] > 9 * values[2] and values[2] < 1e-6


def test_the_first_of_several_surfaces_is_hit_and_a_miss_gets_the_last_sample() -> None:
    def two_balls(x: Tensor) -> tuple[Tensor, Tensor]:
        front, back = ((x - x.new_tensor([0, 0, z])).norm(dim=-1, keepdim=True) - 0.3 for z in (0.5, -0.5))
        return torch.minimum(front, back), x

    origins = torch.tensor([[[0.0, 0, 5], [0.1, 0, 5], [0.0, 0, -5], [0.0, 0.9, 5], [0.0, 3, 5]]])
    directions = torch.tensor([0.0, 0, -1]).repeat(1, 5, 1)
    directions[0, 2] *= -1
    t, hit = surface_hits.first_hits(Surface(two_balls, material), origins, directions, 24)
    assert hit.tolist() == [[True, True, True, False, False]]
    bump = 0.5 + (0.09 - 0.01) ** 0.5
    half = (1 - 0.81) ** 0.5
    expected = [4.2, 5 - bump, 4.2, 5 + half * (1 - 1 / 24), 5]
    assert t[0].tolist() == pytest.approx(expected, abs=1e-4)


# --- deferred shading


def test_many_lights_are_each_light_alone_for_one_evaluation_of_the_field() -> None:
    cameras, config = Cameras.from_view(VIEWS), SamplingConfig(12, 8)
    lights = Lights.from_vector(LightPrior().sample(7, torch.Generator().manual_seed(0)))
    shape = Ellipsoid(0.5, 0.72, 0.6)
    together = volume.render_maps(shape.surface, cameras, lights, SIZE, 300.0, config)
    cost = (shape.calls, shape.points)
    assert cost[0] == 2  # place, then evaluate the intervals that can carry weight
    assert 2 * SIZE**2 * 12 < cost[1] < 2 * SIZE**2 * (12 + 5)  # of 19
    for i in range(7):
        shape.calls = shape.points = 0
        alone = volume.render_maps(shape.surface, cameras, lights[i : i + 1], SIZE, 300.0, config)
        assert (shape.calls, shape.points) == cost
        for f in names_of(Maps):
            whole, one = getattr(together, f.name), getattr(alone, f.name)
            per_light = f.name in ("diffuse_shading", "specular_shading", "colors")
            wanted = whole[:, i : i + 1] if per_light else whole
            torch.testing.assert_close(one, wanted, rtol=1e-5, atol=1e-7, msg=f.name)


def test_samples_around_a_mesh_give_the_maps_of_samples_everywhere() -> None:
    cameras, lights, config = Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS), SamplingConfig(36, 36)
    shape = Ellipsoid(0.5, 0.72, 0.6)
    sdf = lambda x: shape.sdf(x[None])[0][0, :, 0]  # noqa: E731
    mesh = project_to_surface(extract_mesh(sdf, 64), surface_of(sdf), cell_size(64))
    shape.points = 0
    everywhere = volume.render_maps(shape.surface, cameras, lights, SIZE, 150.0, config)
    most, shape.points = shape.points, 0
    hits = mesh_hits(mesh, cameras, SIZE)
    near = render_maps_near(shape.surface, hits, cameras, lights, SIZE, 150.0, config)
    assert torch.equal(near.mask, everywhere.mask)
    assert shape.points < 0.3 * most  # at this size, mostly for silhouettes
    error = (near.colors - everywhere.colors).square().mean()
    assert -10 * error.log10() > 65  # dB
    assert (near.depth - everywhere.depth).abs().max() < 0.004  # where the surface is seen from the side
    assert (near.depth - everywhere.depth)[hits.cosine > 0.5].abs().max() < 1e-3
    empty = Hits(*(torch.zeros_like(x) for x in (hits.mask, hits.t, hits.cosine)))
    nothing = render_maps_near(shape.surface, empty, cameras, lights, SIZE, 150.0, config)
    assert not nothing.mask.any() and (nothing.colors == 1).all()


def test_rays_that_a_coarse_mesh_misses_are_traced() -> None:
    """Of a mesh that is smaller than its surface by a fifth of a pixel."""
    cameras, lights, config = Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS), SamplingConfig(36, 36)
    shape, small = Ellipsoid(0.5, 0.72, 0.6), Ellipsoid(0.485, 0.705, 0.585)
    sdf = lambda x: small.sdf(x[None])[0][0, :, 0]  # noqa: E731
    hits = mesh_hits(extract_mesh(sdf, 64), cameras, SIZE)
    everywhere = volume.render_maps(shape.surface, cameras, lights, SIZE, 150.0, config)
    near = render_maps_near(shape.surface, hits, cameras, lights, SIZE, 150.0, config)
    assert (everywhere.mask & ~hits.mask).any()
    assert torch.equal(near.mask, everywhere.mask)


def test_cubic_polynomials_are_those_of_their_values_and_slopes() -> None:
    k = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    x = torch.linspace(-1, 2, 7)
    values = torch.stack((k[:, 0], k.sum(-1)), -1)
    slopes = torch.stack((k[:, 1], k[:, 1] + 2 * k[:, 2] + 3 * k[:, 3]), -1)
    wanted = k[:, :1] + k[:, 1:2] * x + k[:, 2:3] * x**2 + k[:, 3:] * x**3
    torch.testing.assert_close(cubic(values, slopes, x), wanted, rtol=1e-4, atol=1e-4)


def test_hits_of_a_mesh_are_those_of_the_ellipsoid() -> None:
    cameras, shape = Cameras.from_view(VIEWS), Ellipsoid(0.5, 0.72, 0.6)
    sdf = lambda x: shape.sdf(x[None])[0][0, :, 0]  # noqa: E731
    mesh = project_to_surface(extract_mesh(sdf, 64), surface_of(sdf), cell_size(64))
    hits = mesh_hits(mesh, cameras, SIZE)
    exact, cosine = shape.exact(cameras, Lights.from_vector(LIGHTS))
    inside = hits.mask & (cosine > 0.2)
    origins, directions = cameras.rays(pixel_grid(SIZE).expand(len(VIEWS), -1, -1), SIZE)
    points = origins + hits.t.flatten(1)[..., None] * directions
    depth = cameras.z_depth(points).unflatten(-1, (SIZE, SIZE))
    assert (depth - exact.depth)[inside].abs().max() < 4e-3
    assert (hits.cosine - cosine)[inside].abs().max() < 0.01
    assert (hits.t[~hits.mask] == 0).all() and (hits.cosine[~hits.mask] == 0).all()


def test_views_may_have_their_own_lights() -> None:
    cameras, config = Cameras.from_view(VIEWS), SamplingConfig(12, 8)
    surface = Ellipsoid(0.5, 0.72, 0.6).surface
    vectors = torch.stack((LIGHTS[:2], LIGHTS[1:]))
    own = volume.render_maps(surface, cameras, Lights.from_vector(vectors), SIZE, 300.0, config)
    for v in range(2):
        shared = volume.render_maps(surface, cameras, Lights.from_vector(vectors[v]), SIZE, 300.0, config)
        assert torch.equal(own.colors[v], shared.colors[v])


def test_chunks_of_rays_do_not_change_the_maps() -> None:
    cameras, lights = Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS)
    shape, config = Ellipsoid(0.5, 0.72, 0.6), SamplingConfig(12, 8)
    whole, parts = (
        volume.render_maps(shape.surface, cameras, lights, SIZE, 300.0, config, chunk=n) for n in (4096, 37)
    )
    for f in names_of(Maps):
        torch.testing.assert_close(getattr(parts, f.name), getattr(whole, f.name))


# --- gradients


class Scene:
    """Trained fields in double precision at fixed distances: what one training step differentiates."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = torch.Generator().manual_seed(0)
        self.shape = SDFField(10, 3, 3, 4, (0.5, 0.72, 0.6)).double()
        self.material = MaterialField(10, 2, 2, 10, 4).double()
        with torch.no_grad():
            for p in [*self.shape.parameters(), *self.material.parameters()]:
                p += 0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        self.code = torch.randn(2, 4, generator=generator, dtype=torch.float64)
        self.view = ViewPrior().sample(2, generator).double()
        self.light = LightPrior(negative=(0.1, 0.2)).sample(2, generator).double()
        self.sharpness = torch.tensor(20.0, dtype=torch.float64)
        self.pixels = 3 + 10 * torch.rand(2, 3, 2, generator=generator, dtype=torch.float64)
        surface, (origins, directions) = self.surface(self.code), self.rays(self.view)
        placed = volume.place_samples(surface, origins, directions, SamplingConfig(7, 5), generator)
        monkeypatch.setattr(volume, "place_samples", lambda *_: placed)

    def surface(self, code: Tensor) -> Surface:
        return condition(self.shape, self.material, code, 0.7, code.new_tensor([1.0, -1.0]))

    def rays(self, view: Tensor) -> tuple[Tensor, Tensor]:
        return Cameras.from_view(view).rays(self.pixels, SIZE)

    def color(self, code: Tensor, view: Tensor, light: Tensor, sharpness: Tensor) -> Tensor:
        origins, directions = self.rays(view)
        traced = volume.trace(
            self.surface(code), origins, directions, sharpness, SamplingConfig(), create_graph=True
        )
        return volume.render_rays(traced, directions, Lights.from_vector(light), 1.0)


def test_code_view_light_and_sharpness_get_the_gradient_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    weights = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    arguments = [x.requires_grad_(True) for x in (scene.code, scene.view, scene.light, scene.sharpness)]

    def loss(*x: Tensor) -> Tensor:
        return (weights * scene.color(*x)).sum()

    gradients = torch.autograd.grad(loss(*arguments), arguments)
    assert all(gradient.abs().min() > 0 for gradient in gradients)  # every single number matters
    assert torch.autograd.gradcheck(loss, arguments, atol=1e-6, rtol=1e-4)


def test_parameters_of_both_fields_get_the_gradient_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    fixed = (scene.code, scene.view, scene.light, scene.sharpness)
    loss = lambda: scene.color(*fixed).square().sum()  # noqa: E731
    for field in (scene.shape, scene.material):
        parameters = list(field.parameters())
        gradients = torch.autograd.grad(loss(), parameters)
        generator = torch.Generator().manual_seed(2)
        steps = [1e-6 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        ends = []
        for sign in (1, -2):
            with torch.no_grad():
                for p, step in zip(parameters, steps):
                    p += sign * step
            ends.append(loss().item())
        expected = sum((g * s).sum() for g, s in zip(gradients, steps)).item()
        assert abs(expected) > 1e-7
        assert (ends[0] - ends[1]) / 2 == pytest.approx(expected, rel=1e-3)


def test_maps_need_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, field = SDFField(8, 2, 2, 3, (0.6, 0.6, 0.6)), MaterialField(8, 1, 2, 8, 3)
    surface = condition(shape, field, torch.zeros(1, 3))
    out = volume.render_maps(
        surface, Cameras.from_view(VIEWS), Lights.from_vector(LIGHTS), 8, 100.0, SamplingConfig(8, 8)
    )
    assert not any(getattr(out, f.name).requires_grad for f in names_of(Maps))
    assert out.mask.any()
