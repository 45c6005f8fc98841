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

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lift3d.render.maps import GBuffer, Maps, shade_maps
from lift3d.render.ray_sampling import from_weights, interpolated, listed, stratified, taken
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shade
from lift3d.scene.surface import Surface, sdf_and_gradient, signed_distance, smooth_normal
from lift3d.settings import setting

REACH = 6.0  # widths 1 / s of the density beyond which a sample is left out: exp(-6) = 0.25 % of opacity
TOLERANCE = 0.25  # of interpolated signed distances, in intervals between coarse samples
WITNESSES = 16  # one in so many of the samples left out still takes part in the eikonal loss


@dataclass(frozen=True)
class SamplingConfig:
    """How many distances per ray."""

    n_coarse: int = setting(36, 1, 4096, "distances, stratified in the unit sphere")
    n_fine: int = setting(36, 0, 4096, "distances drawn from the coarse weights")
    keep_coarse: bool = setting(
        True, None, None, "render with coarse and fine samples, as published, or with the fine ones alone"
    )
    coarse_sharpness: float = setting(
        32.0, 1e-3, 1e6, "s of the density that places the fine samples", "1 / world units"
    )


@dataclass(frozen=True)
class RaySamples:
    """Everything known at p interval midpoints of each object, those that carry weight, ray by ray.

    ``gradient`` goes on with some of the samples without weight, picked at random. Each row stands for
    ``share`` samples, so the mean over all is estimated without bias; those with weight have a share of 1.
    """

    n_rays: int
    ray: Int64[Tensor, "b p"]  # which one, 0 .. r - 1
    t: Float[Tensor, "b p"]
    weights: Float[Tensor, "b p"]
    normal: Float[Tensor, "b p 3"]
    material: Material
    gradient: Float[Tensor, "b q 3"]  # of the signed distance, not normalized; q >= p
    share: Float[Tensor, "b q"]

    @property
    def opacity(self) -> Float[Tensor, "b r"]:
        """Accumulated weight."""
        return self.weights.new_zeros(len(self.ray), self.n_rays).scatter_add(1, self.ray, self.weights)

    def composite(self, values: Float[Tensor, "b p c"]) -> Float[Tensor, "b r c"]:
        """Weighted sum along the rays."""
        total = values.new_zeros(len(values), self.n_rays, values.shape[-1])
        rows = self.ray[..., None].expand_as(values)
        return total.scatter_add(1, rows, self.weights[..., None] * values)


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
) -> tuple[Float[Tensor, "b r m"], Float[Tensor, "b r m"], Float[Tensor, "b r"]]:
    """Sorted distances: coarse over the chord of the unit sphere, fine where the coarse ones found weight.

    Also the signed distance there, interpolated between the coarse samples, and the length of its intervals.
    """
    near, far, _ = ray_sphere(origins, directions)
    coarse = stratified(near, far, config.n_coarse, generator)
    points = origins[..., None, :] + coarse[..., None] * directions[..., None, :]
    sdf = signed_distance(surface, points.flatten(1, 2)).reshape(coarse.shape)
    weights = weights_from_alphas(alphas_from_ends(sdf, config.coarse_sharpness))
    fine = from_weights(coarse, weights, config.n_fine, generator)
    t = torch.cat((coarse, fine), -1).sort(-1).values if config.keep_coarse else fine
    return t, interpolated(coarse, sdf, t), (far - near) / config.n_coarse


@torch.no_grad()
def may_carry_weight(
    sdf: Float[Tensor, "b r n"], sharpness: Float[Tensor, ""] | float, tolerance: Float[Tensor, "b r"]
) -> Bool[Tensor, "b r n"]:
    """Which samples can have a weight to speak of, from signed distances that are good to ``tolerance``.

    A logistic density has all but exp(-REACH) of its mass within REACH / s of the surface: what lies farther
    outside is empty, and what comes after a sample that lies farther inside is hidden.
    """
    reach = (REACH / sharpness + tolerance)[..., None]
    lowest_before = F.pad(sdf, (1, 0), value=math.inf)[..., :-1].cummin(-1).values
    return (sdf.abs() <= reach) & (lowest_before >= -reach)


def trace(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    sharpness: Float[Tensor, ""] | float,
    config: SamplingConfig,
    generator: torch.Generator | None = None,
    create_graph: bool = False,
    sparse: bool = True,
) -> RaySamples:
    """Samples, weights, normals and material along rays.

    ``create_graph`` keeps the graph of the SDF and its gradient (training); without it, call under
    ``no_grad``. Distances are constants: gradients reach cameras through the points and directions.
    ``sparse`` leaves out what cannot carry weight (``may_carry_weight``); its twin looks at every sample.
    """
    ends, estimate, spacing = place_samples(surface, origins, directions, config, generator)
    chosen = torch.ones_like(ends[..., 1:], dtype=torch.bool)
    if sparse:
        estimate = (estimate[..., 1:] + estimate[..., :-1]) / 2
        chosen = may_carry_weight(estimate, sharpness, TOLERANCE * spacing)
    return _evaluated(surface, origins, directions, sharpness, ends, chosen, generator, create_graph)


def _evaluated(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    sharpness: Float[Tensor, ""] | float,
    ends: Float[Tensor, "b r m"],
    chosen: Bool[Tensor, "b r n"],
    generator: torch.Generator | None = None,
    create_graph: bool = False,
) -> RaySamples:
    """The chosen ones of the n = m - 1 intervals between distances ``ends``, at their midpoints."""
    delta = ends[..., 1:] - ends[..., :-1]
    t = ends[..., :-1] + delta / 2
    b, r, n = t.shape
    index, n_used, share = _with_witnesses(chosen.flatten(1), generator if create_graph else None)
    ray, t = index // n, t.flatten(1).gather(1, index)
    points = taken(origins, ray) + t[..., None] * taken(directions, ray)
    sdf, feature, gradient = sdf_and_gradient(surface, points, create_graph)

    used = slice(n_used)
    index, ray, t, points = index[:, used], ray[:, used], t[:, used], points[:, used]
    normal = smooth_normal(gradient[:, used])
    slope = (gradient[:, used] * taken(directions, ray)).sum(-1)
    alpha = alphas(sdf[:, used, 0], -torch.relu(-slope), delta.flatten(1).gather(1, index), sharpness)
    alpha = alpha.new_zeros(b, r * n).scatter(1, index, alpha)
    weights = weights_from_alphas(alpha.view(b, r, n)).flatten(1).gather(1, index)
    material = surface.material(points, normal, feature[:, used])
    return RaySamples(r, ray, t, weights, normal, material, gradient, share)


def _with_witnesses(
    chosen: Bool[Tensor, "b k"], generator: torch.Generator | None
) -> tuple[Int64[Tensor, "b q"], int, Float[Tensor, "b q"]]:
    """Indices of the chosen ones, their number p, and the shares of ``RaySamples``.

    With a generator, one in ``WITNESSES`` of those left out follows; each stands for equally many.
    """
    index = listed(chosen)
    n_used, k = index.shape[1], chosen.shape[1]
    share = torch.ones_like(index, dtype=torch.float32)
    n_left = k - n_used
    if generator is None or not n_left:
        return index, n_used, share
    count = -(-n_left // WITNESSES)
    order = torch.rand(chosen.shape, generator=generator).to(chosen.device)
    witnesses = order.scatter(1, index, 2.0).argsort(-1)[:, :count]  # what is used comes last
    share = torch.cat((share, torch.full_like(witnesses, n_left / count, dtype=share.dtype)), 1)
    return torch.cat((index, witnesses), 1), n_used, share


def render_rays(
    samples: RaySamples, directions: Float[Tensor, "b r 3"], lights: Lights, background: float | Tensor
) -> Float[Tensor, "b r 3"]:
    """Colors of rays under one light per object [b]: each sample is shaded, then composited over the
    background (a constant, or colors [b, r, 3]).
    """
    to_camera = -taken(directions, samples.ray)
    colors = shade(samples.normal, to_camera, samples.material, lights.per_point(1))
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
    maps = []
    rays = (x.split(chunk, 1) for x in all_rays(cameras, size))
    for origins, directions in zip(*rays, strict=True):
        maps.append(composited(trace(surface, origins, directions, sharpness, config), origins, directions))
    return shaded(torch.cat(maps, 1), cameras, lights, size, background)


def composited(
    s: RaySamples, origins: Float[Tensor, "1 r 3"], directions: Float[Tensor, "1 r 3"]
) -> Float[Tensor, "1 r 12"]:
    """Mean position, normal, albedo, specular intensity and exponent of rays, and their opacity."""
    position = taken(origins, s.ray) + s.t[..., None] * taken(directions, s.ray)
    material = s.material
    values = (position, s.normal, material.albedo, material.specular, material.shininess)
    opacity = s.opacity[..., None]
    return torch.cat((s.composite(torch.cat(values, -1)) / opacity.clamp_min(1e-6), opacity), -1)


def shaded(
    maps: Float[Tensor, "1 vp 12"],
    cameras: Cameras,
    lights: Lights,
    size: int,
    background: tuple[float, float, float],
) -> Maps:
    """The maps of all views' rays; what is more than half opaque is inside."""
    n_views = len(cameras.rotation)
    flat = maps[0].view(n_views, size, size, 12)
    position, normal, albedo, specular, shininess, opacity = flat.split((3, 3, 3, 1, 1, 1), -1)
    mask = opacity[..., 0] > 0.5
    normal = smooth_normal(normal)
    to_camera = smooth_normal(cameras.origins[:, None, None] - position)
    depth = cameras.z_depth(position.flatten(1, 2)).view(n_views, size, size)
    material = Material(albedo, specular, shininess)
    return shade_maps(GBuffer(mask, position, normal, to_camera, depth, material), lights, background)


def all_rays(cameras: Cameras, size: int) -> tuple[Float[Tensor, "1 vp 3"], Float[Tensor, "1 vp 3"]]:
    """The rays of all views one after the other, as if of one object."""
    pixels = pixel_grid(size, cameras.rotation.device)
    origins, directions = cameras.rays(pixels.expand(len(cameras.rotation), -1, -1), size)
    return origins.reshape(1, -1, 3), directions.reshape(1, -1, 3)
