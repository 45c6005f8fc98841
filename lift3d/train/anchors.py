"""What a surface must not forget: signed distances near it, remembered at points on all of its sides."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lift3d.render.surface_hits import first_hits
from lift3d.scene.cameras import Cameras
from lift3d.scene.geometry import normalize
from lift3d.scene.surface import Surface, sdf_and_gradient, signed_distance, smooth_normal

STD = 0.03  # distance of the points from the surface, world units
FACING = 0.1  # cosine to the camera below which a point of the surface counts as unseen


@dataclass(frozen=True)
class Anchors:
    """a points near the surface of each of b objects."""

    points: Float[Tensor, "b a 3"]
    sdf: Float[Tensor, "b a"]  # the signed distances to remember, world units
    seen: Bool[Tensor, "b a"]  # whether the surface there faces the camera

    def some(self, chosen: Int64[Tensor, "b q"]) -> "Anchors":
        """Some of each object's, by their numbers."""
        rows = torch.arange(len(chosen), device=chosen.device)[:, None]
        return Anchors(*(x[rows, chosen] for x in vars(self).values()))


def near_surface(surface: Surface, view: Float[Tensor, "b 6"], n: int, rng: torch.Generator) -> Anchors:
    """n anchors of each object, in all directions from the center; ``view`` says what is seen."""
    outwards = normalize(torch.randn(len(view), n, 3, generator=rng)).to(view)
    t, _ = first_hits(surface, outwards, -outwards)
    points = outwards * (1 - t[..., None])
    normal = smooth_normal(sdf_and_gradient(surface, points, create_graph=False)[2]).detach()
    to_camera = normalize(Cameras.from_view(view).origins[:, None] - points)
    points = points + STD * torch.randn(points.shape, generator=rng).to(points)
    sdf = signed_distance(surface, points)[..., 0]
    return Anchors(points, sdf, (normal * to_camera).sum(-1) > FACING)


def change(surface: Surface, anchors: Anchors, seen: float, unseen: float) -> Float[Tensor, ""]:
    """Mean absolute difference from the remembered distances, weighted by what the camera sees."""
    weight = torch.where(anchors.seen, seen, unseen)
    return (weight * (surface.sdf(anchors.points)[0][..., 0] - anchors.sdf).abs()).mean()
