"""Where rays first hit a surface."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.render.ray_sampling import stratified
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.surface import Surface


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
    sample; so does one whose way through the shape falls between two samples.
    """
    near, far, _ = ray_sphere(origins, directions)
    t = stratified(near, far, n_coarse, None)

    def value(t: Float[Tensor, "b r m"]) -> Float[Tensor, "b r m"]:
        points = origins[..., None, :] + t[..., None] * directions[..., None, :]
        return surface.sdf(points.flatten(1, 2))[0].view_as(t)

    f = value(t)
    crosses = (f[..., :-1] > 0) & (f[..., 1:] <= 0)
    hit = crosses.any(-1)
    first = torch.where(hit, crosses.int().argmax(-1), t.shape[-1] - 2)[..., None]
    t0, t1, f0, f1 = (
        t.gather(-1, first),
        t.gather(-1, first + 1),
        f.gather(-1, first),
        f.gather(-1, first + 1),
    )
    middle = t1
    for _ in range(n_refine):
        middle = torch.where(hit[..., None], t0 + (t1 - t0) * f0 / (f0 - f1).clamp_min(1e-9), t1)
        f_middle = value(middle)
        outside = f_middle > 0
        t0, f0 = torch.where(outside, middle, t0), torch.where(outside, f_middle, f0)
        t1, f1 = torch.where(outside, t1, middle), torch.where(outside, f1, f_middle)
    return middle[..., 0], hit
