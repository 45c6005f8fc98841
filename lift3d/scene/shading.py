"""Phong image formation, shared by the volume renderer, meshes and synthetic heads (method.md, section 2):

    C = a * (k_a + k_d max(n.l, 0) + k_n min(n.l, 0)) + s k_d [n.l > 0] max(r.o, 1e-4)^p,   clamped to >= 0

with unit normal n, unit direction o towards the camera, r = 2 (n.l) n - l. True Phong (r.o, not n.h);
display-referred values; directions in the world frame. All arguments broadcast, so one set of maps can be
shaded under many lights.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.scene.geometry import dot
from lift3d.scene.lights import Lights


@dataclass(frozen=True)
class Material:
    """Reflectance at points."""

    albedo: Float[Tensor, "*#s 3"]  # [0, 1]
    specular: Float[Tensor, "*s 1"]  # intensity, [0, 1]
    shininess: Float[Tensor, "*s 1"]  # Phong exponent, 4..100


@dataclass(frozen=True)
class Shading:
    """The light-dependent factors of the image: color = albedo * diffuse + specular, clamped to >= 0."""

    diffuse: Float[Tensor, "*s 1"]
    specular: Float[Tensor, "*s 1"]


def shading(
    normal: Float[Tensor, "*#s 3"], to_camera: Float[Tensor, "*#s 3"], material: Material, lights: Lights
) -> Shading:
    """Diffuse and specular factors of every point; ``lights`` must broadcast against the points' axes."""
    direction = lights.direction
    ambient, diffuse, negative = (x[..., None] for x in (lights.ambient, lights.diffuse, lights.negative))
    cosine = dot(normal, direction)
    factor = ambient + diffuse * cosine.clamp_min(0.0) + negative * cosine.clamp_max(0.0)
    reflected = 2.0 * cosine * dot(normal, to_camera) - dot(direction, to_camera)  # r.o, without r
    lobe = reflected.clamp_min(1e-4) ** material.shininess
    return Shading(factor, torch.where(cosine > 0, material.specular * diffuse * lobe, 0.0))


def shade(
    normal: Float[Tensor, "*#s 3"], to_camera: Float[Tensor, "*#s 3"], material: Material, lights: Lights
) -> Float[Tensor, "*s 3"]:
    """Colors >= 0 (not clamped above) of points under ``lights``; see the module docstring."""
    factors = shading(normal, to_camera, material, lights)
    return (material.albedo * factors.diffuse + factors.specular).clamp_min(0.0)
