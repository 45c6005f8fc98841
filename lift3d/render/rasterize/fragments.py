"""What a rasterizer answers, and what every backend promises.

A fragment is the nearest surface point behind a pixel center: a face index and barycentric coordinates,
perspective-correct (they weigh the face's corners in world space). Faces are visible from both sides. Images
are [*, row, column], rows downwards; ``*`` is the batch of the cameras. Backends compute visibility only: no
gradient flows to the vertices, but ``interpolate`` is differentiable in the attributes.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from lift3d.scene.cameras import Cameras


@dataclass(frozen=True)
class Fragments:
    """Visible surface point of every pixel."""

    face: Int64[Tensor, "*s h w"]  # index into the mesh's faces, -1 in the background
    barycentric: Float32[
        Tensor, "*s h w 3"
    ]  # weights of the face's corners, >= 0 with sum 1; 0 in the background

    @property
    def mask(self) -> Bool[Tensor, "*s h w"]:
        """Where there is surface."""
        return self.face >= 0


@runtime_checkable
class Scene(Protocol):
    """One mesh, ready to be seen by any number of cameras."""

    def fragments(self, cameras: Cameras, size: int) -> Fragments:
        """Fragments of size x size images, one per camera, on the device of the mesh."""


@runtime_checkable
class Rasterizer(Protocol):
    """A backend. ``prepare`` does the work that depends on the mesh only, such as an acceleration tree."""

    name: str

    def prepare(self, vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "m 3"]) -> Scene:
        """A scene of one triangle mesh in the world frame."""


def interpolate(
    attributes: Float[Tensor, "n c"], faces: Int[Tensor, "m 3"], fragments: Fragments
) -> Float[Tensor, "*s h w c"]:
    """Vertex attributes at every pixel; 0 in the background."""
    hit = fragments.mask
    corners, weights = faces[fragments.face[hit]].long(), fragments.barycentric[hit].to(attributes.dtype)
    image = attributes.new_zeros(*hit.shape, attributes.shape[-1])
    image[hit] = sum(weights[:, k, None] * attributes[corners[:, k]] for k in range(3))
    return image


def intersect(
    origins: Float[Tensor, "*s 3"], directions: Float[Tensor, "*s 3"], triangles: Float[Tensor, "*s 3 3"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s 3"]]:
    """Distance t and barycentric coordinates of rays on the planes of triangles (Moeller and Trumbore 1997).

    A point lies inside its triangle where all coordinates are >= 0. Rays parallel to the plane and degenerate
    triangles give values that are not finite.
    """
    corner = triangles[..., 0, :]
    edge1, edge2 = triangles[..., 1, :] - corner, triangles[..., 2, :] - corner
    offset = origins - corner
    p = torch.linalg.cross(directions, edge2)
    q = torch.linalg.cross(offset, edge1)
    inverse = 1.0 / (edge1 * p).sum(-1)
    u, v = (offset * p).sum(-1) * inverse, (directions * q).sum(-1) * inverse
    return (edge2 * q).sum(-1) * inverse, torch.stack((1.0 - u - v, u, v), -1)
