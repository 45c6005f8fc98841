"""Where rays first hit a surface."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.render.ray_sampling import listed, stratified, taken
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.surface import Surface, signed_distance

PART = 4  # coarse samples that a ray takes at a time


@torch.no_grad()
def first_hits(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    n_coarse: int = 16,
    n_refine: int = 3,
) -> tuple[Float[Tensor, "b r"], Bool[Tensor, "b r"]]:
    """Distance of the first sign change of the SDF along each ray, and whether there is one.

    ``n_coarse`` samples over the chord of the unit sphere, then ``n_refine`` steps of false position. What a
    fixed shape needs: one point per ray, instead of a volume. A ray that misses gets the distance of its last
    sample; so does one whose way through the shape falls between two samples. A ray is followed no farther
    than it has to be: the result is that of ``first_hits_reference``, which takes all samples of all rays.
    """
    near, far, _ = ray_sphere(origins, directions)
    t = stratified(near, far, n_coarse, None)
    f = torch.ones_like(t)  # what comes after the first hit does not matter
    for start in range(0, n_coarse, PART):
        rays = listed(~_crossings(f).any(-1))
        part = t[..., start : start + PART]
        found = _sdf(surface, *(taken(x, rays) for x in (origins, directions, part)))
        f[..., start : start + PART].scatter_(1, rays[..., None].expand_as(found), found)
    hit = _crossings(f).any(-1)
    rays = listed(hit)
    refined, found = _refined(surface, *(taken(x, rays) for x in (origins, directions, t, f)), n_refine)
    return t[..., -1].scatter(1, rays, torch.where(found, refined, t[..., -1].gather(1, rays))), hit


@torch.no_grad()
def first_hits_reference(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    n_coarse: int = 16,
    n_refine: int = 3,
) -> tuple[Float[Tensor, "b r"], Bool[Tensor, "b r"]]:
    """Readable twin of ``first_hits``."""
    near, far, _ = ray_sphere(origins, directions)
    t = stratified(near, far, n_coarse, None)
    return _refined(surface, origins, directions, t, _sdf(surface, origins, directions, t), n_refine)


def _refined(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    t: Float[Tensor, "b r m"],
    f: Float[Tensor, "b r m"],
    n_refine: int,
) -> tuple[Float[Tensor, "b r"], Bool[Tensor, "b r"]]:
    """The hit between the samples ``t`` with signed distances ``f``, by false position."""
    crosses = _crossings(f)
    hit = crosses.any(-1)
    first = torch.where(hit, crosses.int().argmax(-1), t.shape[-1] - 2)[..., None]
    t0, t1, f0, f1 = (x.gather(-1, i) for x in (t, f) for i in (first, first + 1))
    middle = t1
    for _ in range(n_refine):
        middle = torch.where(hit[..., None], t0 + (t1 - t0) * f0 / (f0 - f1).clamp_min(1e-9), t1)
        f_middle = _sdf(surface, origins, directions, middle)
        outside = f_middle > 0
        t0, f0 = torch.where(outside, middle, t0), torch.where(outside, f_middle, f0)
        t1, f1 = torch.where(outside, t1, middle), torch.where(outside, f1, f_middle)
    return middle[..., 0], hit


def _crossings(f: Float[Tensor, "b r m"]) -> Bool[Tensor, "b r m-1"]:
    """Which intervals lead from outside to inside."""
    return (f[..., :-1] > 0) & (f[..., 1:] <= 0)


def _sdf(
    surface: Surface,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    t: Float[Tensor, "b r m"],
) -> Float[Tensor, "b r m"]:
    """Signed distances along rays."""
    points = origins[..., None, :] + t[..., None] * directions[..., None, :]
    return signed_distance(surface, points.flatten(1, 2)).view_as(t)
