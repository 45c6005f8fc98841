"""Volume rendering of a ``Surface`` whose mesh is at hand: the fields are evaluated twice a ray.

A ray that hits the mesh at t has all its weight within a few widths of the density, 1 / (s cosine) along the
ray. There the signed distance f is taken for the cubic polynomial through its values and slopes at two
points, ``ASIDE`` widths before and behind the hit, so the weights w of any number of intervals cost nothing
more. Position, normal and material are taken to change linearly, so their composite is their value at the
mean distance, sum w t / sum w.

That fails where a ray hardly enters the shape. Those that meet the surface from the side (``GRAZING``), and
those that pass the mesh so closely that more than half of them may end there, are traced as everywhere.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lift3d.render import volume
from lift3d.render.maps import Maps
from lift3d.render.mesh import Hits
from lift3d.render.volume import REACH, SamplingConfig
from lift3d.scene.cameras import Cameras
from lift3d.scene.geometry import dot
from lift3d.scene.lights import Lights
from lift3d.scene.surface import Surface, sdf_and_gradient, signed_distance, smooth_normal

ASIDE = 1.5  # widths
N_INTERVALS = 16  # within REACH widths of a hit
GRAZING = 0.15  # cosine at a hit below which a ray is traced
PASSING = 1.0  # widths beside the surface at which a ray still sees a quarter of it
BESIDE = 0.25  # how far from a neighbor's hit a ray that misses the mesh comes closest to it, world units
N_BESIDE = 9  # distances at which that is looked for


@torch.no_grad()
def render_maps_near(
    surface: Surface,
    hits: Hits,
    cameras: Cameras,
    lights: Lights,
    size: int,
    sharpness: float,
    config: SamplingConfig,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    chunk: int = 1024,
) -> Maps:
    """``volume.render_maps``, its fast twin where hits of the surface's mesh are known. Rays that pass the
    mesh by more than a pixel show the background.
    """
    origins, directions = volume.all_rays(cameras, size)
    maps = torch.zeros(1, hits.mask.numel(), 12, device=origins.device)
    t, widths = hits.t.flatten(), 1 / (sharpness * hits.cosine.flatten())
    near, traced, beside = _near_traced_beside(hits)
    for rays in near.split(chunk):
        o, d = origins[0, rays], directions[0, rays]
        maps[0, rays] = _around_hits(surface, o, d, t[rays], widths[rays], sharpness)
    guess = F.max_pool2d(hits.t[:, None], 3, 1, 1).flatten()[beside]
    passing = _lowest(surface, origins[0, beside], directions[0, beside], guess) < PASSING / sharpness
    for rays in torch.cat((traced, beside[passing])).split(chunk):
        o, d = origins[:, rays], directions[:, rays]
        maps[:, rays] = volume.composited(volume.trace(surface, o, d, sharpness, config), o, d)
    return volume.shaded(maps, cameras, lights, size, background)


def _near_traced_beside(hits: Hits) -> tuple[Int64[Tensor, " k"], ...]:
    """Pixels that see the mesh from a good angle; that see it from another; their neighbors that do not."""
    near = hits.mask & (hits.cosine >= GRAZING)
    around = F.max_pool2d(hits.mask[:, None].float(), 3, 1, 1)[:, 0] > 0
    parts = near, hits.mask & ~near, around & ~hits.mask
    return tuple(part.flatten().nonzero()[:, 0] for part in parts)


def _around_hits(
    surface: Surface,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t: Float[Tensor, " r"],
    width: Float[Tensor, " r"],
    sharpness: float,
) -> Float[Tensor, "r 12"]:
    """What ``composited`` gives, of opaque rays with hits at ``t``."""
    at = t[:, None] + width[:, None] * width.new_tensor((-ASIDE, ASIDE))
    points = (origins[:, None] + at[..., None] * directions[:, None]).flatten(0, 1)[None]
    sdf, feature, gradient = sdf_and_gradient(surface, points, create_graph=False)
    slope = dot(gradient.view(-1, 2, 3), directions[:, None])[..., 0]
    ends = torch.linspace(-REACH, REACH, N_INTERVALS + 1, device=t.device) / (2 * ASIDE) + 0.5
    along = cubic(sdf.view(-1, 2), slope * (at[:, 1:] - at[:, :1]), ends)
    weights = volume.weights_from_alphas(volume.alphas_from_ends(along, sharpness))
    mean = weights @ ((ends[1:] + ends[:-1]) / 2) / weights.sum(-1).clamp_min(1e-6)  # 0, 1: the two points
    normal = smooth_normal(gradient)
    material = surface.material(points, normal, feature)
    columns = torch.cat((points, normal, material.albedo, material.specular, material.shininess), -1)
    before, behind = columns[0].unflatten(0, (-1, 2)).unbind(1)
    return F.pad(before.lerp(behind, mean[:, None]), (0, 1), value=1.0)


def cubic(
    values: Float[Tensor, "r 2"], slopes: Float[Tensor, "r 2"], x: Float[Tensor, " m"]
) -> Float[Tensor, "r m"]:
    """Polynomials of degree 3 at x, by their values and slopes at 0 and 1 (Hermite)."""
    (v0, v1), (s0, s1) = values.mT, slopes.mT
    coefficients = v0, s0, 3 * (v1 - v0) - 2 * s0 - s1, s0 + s1 - 2 * (v1 - v0)
    return torch.stack(coefficients, -1) @ x ** torch.arange(4, device=x.device)[:, None]


def _lowest(
    surface: Surface, origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], t: Float[Tensor, " r"]
) -> Float[Tensor, " r"]:
    """The lowest signed distance within ``BESIDE`` of t: a parabola's through samples around the lowest."""
    at = t[:, None] + torch.linspace(-BESIDE, BESIDE, N_BESIDE, device=t.device)
    points = origins[:, None] + at[..., None] * directions[:, None]
    sdf = signed_distance(surface, points.flatten(0, 1)[None]).view_as(at)
    middle = sdf[:, 1:-1].argmin(-1, keepdim=True) + 1
    before, found, behind = (sdf.gather(1, middle + i)[:, 0] for i in (-1, 0, 1))
    bend = (before - 2 * found + behind).clamp_min(1e-9)
    return torch.minimum(sdf.amin(-1), found - (behind - before).square() / (8 * bend))
