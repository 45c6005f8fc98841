"""NeuS volume rendering (Wang et al. 2021) of a ``Surface``; runs on learned fields and on analytic shapes
alike.

b objects, r rays each, n samples a ray. ``sharpness`` is the scale s of the logistic density s e^(-sf) / (1 +
e^(-sf))^2 of the signed distance f: its width is 1 / s. Discrete opacities follow eq. 13:

    alpha_i = max((Phi(s f_i) - Phi(s f_{i+1})) / Phi(s f_i), 0)

with the signed distances at the two ends of an interval extrapolated from its midpoint along the ray. Weights
sum to at most 1 (and rounding).

Training shades every sample and composites colors (``render_rays``). Maps composite geometry and material,
divide by the accumulated weight and are shaded once per light (``render_maps``): any number of lights costs
one evaluation of the fields.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.render.maps import Maps, shade_maps
from lift3d.render.ray_sampling import from_weights, stratified
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shade
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal


@dataclass(frozen=True)
class SamplingConfig:
    """How many distances per ray."""

    n_coarse: int = 36  # stratified in the unit sphere
    n_fine: int = 36  # from the coarse weights
    keep_coarse: bool = True  # render with coarse and fine samples (as published) or with the fine ones alone
    coarse_sharpness: float = 32.0  # s of the density that places the fine samples, 1 / world units


@dataclass(frozen=True)
class RaySamples:
    """Everything known at the interval midpoints along rays."""

    t: Float[Tensor, "b r n"]
    weights: Float[Tensor, "b r n"]
    gradient: Float[Tensor, "b r n 3"]  # of the signed distance, not normalized
    normal: Float[Tensor, "b r n 3"]
    material: Material

    @property
    def opacity(self) -> Float[Tensor, "b r"]:
        """Accumulated weight."""
        return self.weights.sum(-1)

    def composite(self, values: Float[Tensor, "b r n c"]) -> Float[Tensor, "b r c"]:
        """Weighted sum along the rays."""
        return (self.weights[..., None] * values).sum(-2)


def alphas(
    sdf: Float[Tensor, "*r n"],
    slope: Float[Tensor, "*r n"],
    delta: Float[Tensor, "*r n"],
    sharpness: Tensor | float,
) -> Float[Tensor, "*r n"]:
    """Opacity of intervals of length ``delta`` from signed distance and slope (<= 0) at their midpoints."""
    entry = torch.sigmoid((sdf - slope * delta / 2) * sharpness)
    leave = torch.sigmoid((sdf + slope * delta / 2) * sharpness)
    return ((entry - leave + 1e-5) / (entry + 1e-5)).clamp(0.0, 1.0)


def alphas_from_ends(sdf: Float[Tensor, "*r m"], sharpness: Tensor | float) -> Float[Tensor, "*r m-1"]:
    """Opacity of the intervals between consecutive samples (eq. 13 itself)."""
    phi = torch.sigmoid(sdf * sharpness)
    return ((phi[..., :-1] - phi[..., 1:] + 1e-5) / (phi[..., :-1] + 1e-5)).clamp(0.0, 1.0)


def weights_from_alphas(alpha: Float[Tensor, "*r n"]) -> Float[Tensor, "*r n"]:
    """alpha_i times the light that passes all intervals before i; sums to at most 1 + 1e-7 n."""
    passed = torch.cumprod(1.0 - alpha + 1e-7, -1)
    return alpha * torch.cat((torch.ones_like(passed[..., :1]), passed[..., :-1]), -1)


@torch.no_grad()
def place_samples(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    config: SamplingConfig,
    generator: torch.Generator | None,
) -> Float[Tensor, "b r m"]:
    """Sorted distances: coarse over the chord of the unit sphere, fine where the coarse ones found weight."""
    near, far, _ = ray_sphere(origins, directions)
    coarse = stratified(near, far, config.n_coarse, generator)
    points = origins[..., None, :] + coarse[..., None] * directions[..., None, :]
    sdf = surface.sdf(points.flatten(1, 2))[0].reshape(coarse.shape)
    weights = weights_from_alphas(alphas_from_ends(sdf, config.coarse_sharpness))
    fine = from_weights(coarse, weights, config.n_fine, generator)
    return torch.cat((coarse, fine), -1).sort(-1).values if config.keep_coarse else fine


def trace(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    sharpness: Float[Tensor, ""] | float,
    config: SamplingConfig,
    generator: torch.Generator | None = None,
    create_graph: bool = False,
) -> RaySamples:
    """Samples, weights, normals and material along rays.

    ``create_graph`` keeps the graph of the SDF and its gradient (training); without it, call under
    ``no_grad``. Distances are constants: gradients reach cameras through the points and directions.
    """
    t = place_samples(surface, origins, directions, config, generator)
    delta = t[..., 1:] - t[..., :-1]
    t = t[..., :-1] + delta / 2
    points = (origins[..., None, :] + t[..., None] * directions[..., None, :]).flatten(1, 2)
    sdf, feature, gradient = sdf_and_gradient(surface, points, create_graph)
    normal = smooth_normal(gradient)
    material = surface.material(points, normal, feature)
    grid = t.shape

    def rows(x: Tensor) -> Tensor:
        return x.reshape(*grid, x.shape[-1])

    slope = (rows(gradient) * directions[..., None, :]).sum(-1)
    weights = weights_from_alphas(alphas(sdf.reshape(grid), -torch.relu(-slope), delta, sharpness))
    return RaySamples(
        t,
        weights,
        rows(gradient),
        rows(normal),
        Material(rows(material.albedo), rows(material.specular), rows(material.shininess)),
    )


def render_rays(
    samples: RaySamples, directions: Float[Tensor, "b r 3"], lights: Lights, background: float | Tensor
) -> Float[Tensor, "b r 3"]:
    """Colors of rays under one light per object [b]: each sample is shaded, then composited over the
    background (a constant, or colors [b, r, 3]).
    """
    to_camera = -directions[..., None, :].expand_as(samples.normal)
    colors = shade(samples.normal, to_camera, samples.material, lights.per_point(2))
    return samples.composite(colors) + (1.0 - samples.opacity[..., None]) * background


@torch.no_grad()
def render_maps(
    surface: Surface,
    cameras: Cameras,
    lights: Lights,
    size: int,
    sharpness: float,
    config: SamplingConfig,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    chunk: int = 1024,
) -> Maps:
    """Deferred volume rendering of one object (b = 1) from v cameras under lights [l] or [v, l].

    Any number of lights costs one evaluation of the fields. ``chunk`` rays are in memory at once.
    """
    pixels = pixel_grid(size, cameras.rotation.device)
    n_views = len(cameras.rotation)
    maps = []
    rays = (x.split(chunk, 1) for x in _all_rays(cameras, pixels, size))
    for origins, directions in zip(*rays, strict=True):
        s = trace(surface, origins, directions, sharpness, config)
        position = origins[..., None, :] + s.t[..., None] * directions[..., None, :]
        values = torch.cat(
            (position, s.normal, s.material.albedo, s.material.specular, s.material.shininess), -1
        )
        opacity = s.opacity[..., None]
        maps.append(torch.cat((s.composite(values) / opacity.clamp_min(1e-6), opacity), -1))
    flat = torch.cat(maps, 1)[0].view(n_views, size, size, 12)
    position, normal, albedo, specular, shininess, opacity = flat.split((3, 3, 3, 1, 1, 1), -1)
    mask = opacity[..., 0] > 0.5
    normal = smooth_normal(normal)
    to_camera = smooth_normal(cameras.origins[:, None, None] - position)
    depth = cameras.z_depth(position.flatten(1, 2)).view(n_views, size, size)
    material = Material(albedo, specular, shininess)
    return shade_maps(mask, depth, normal, to_camera, material, lights, background)


def _all_rays(
    cameras: Cameras, pixels: Float[Tensor, "p 2"], size: int
) -> tuple[Float[Tensor, "1 vp 3"], Float[Tensor, "1 vp 3"]]:
    """The rays of all views one after the other, as if of one object."""
    origins, directions = cameras.rays(pixels.expand(len(cameras.rotation), -1, -1), size)
    return origins.reshape(1, -1, 3), directions.reshape(1, -1, 3)
