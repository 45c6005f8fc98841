"""Vector maths whose gradients stay finite, also where a vector vanishes. Vectors are the last axis."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FACING = (0.15, 0.4)  # cosines between which ``visibility`` rises from 0 to 1


def dot(a: Float[Tensor, "*#s 3"], b: Float[Tensor, "*#s 3"]) -> Float[Tensor, "*s 1"]:
    """Inner product, kept as a trailing axis of one."""
    return (a * b).sum(-1, keepdim=True)


def normalize(v: Float[Tensor, "*#s 3"], eps: float = 1e-12) -> Float[Tensor, "*s 3"]:
    """``v / max(|v|, eps)``: 0 at 0, where the gradient is the finite 1 / eps."""
    return v * torch.rsqrt(dot(v, v).clamp_min(eps * eps))


def visibility(
    normal: Float[Tensor, "*#s 3"], point: Float[Tensor, "*#s 3"], camera: Float[Tensor, "*#s 3"]
) -> Float[Tensor, "*s"]:
    """How much an image says of a surface point: 0 beyond grazing angles, 1 where it faces the camera.

    Linear in the cosine between normal and view, between the two of ``FACING``."""
    low, high = FACING
    facing = (normal * normalize(camera - point)).sum(-1)
    return ((facing - low) / (high - low)).clamp(0, 1)


def angle_deg(a: Float[Tensor, "*#s 3"], b: Float[Tensor, "*#s 3"]) -> Float[Tensor, "*s"]:
    """Angle in degrees between directions of any length (atan2 of cross and dot: exact near 0 and 180)."""
    cross = torch.linalg.cross(a, b).norm(dim=-1)
    return torch.rad2deg(torch.atan2(cross, (a * b).sum(-1)))


def ray_sphere(
    origins: Float[Tensor, "*#s 3"], directions: Float[Tensor, "*#s 3"], radius: float = 1.0
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"], Bool[Tensor, "*s"]]:
    """Entry and exit distance of unit-direction rays through the sphere around the origin, and which hit it.

    A ray that misses gets its point of closest approach twice, so that downstream arithmetic stays finite.
    """
    b = (origins * directions).sum(-1)
    discriminant = b * b - ((origins * origins).sum(-1) - radius * radius)
    hit = discriminant > 0
    half = torch.where(hit, torch.where(hit, discriminant, 1.0).sqrt(), 0.0)  # sqrt has no gradient at 0
    return -b - half, -b + half, hit
