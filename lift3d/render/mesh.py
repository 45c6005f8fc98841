"""Deferred shading: mesh attributes at every pixel once, then any number of lights.

V views, L lights, h x w pixels, channels last. Maps are 0 in the background; ``Shaded.over`` fills in a
color.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.render.maps import RenderOutput, shade_maps
from lift3d.render.rasterize import get_rasterizer
from lift3d.render.rasterize.fragments import Fragments, Scene, interpolate
from lift3d.scene.cameras import Cameras
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh, vertex_normals
from lift3d.scene.shading import Material, shading


@dataclass(frozen=True)
class GBuffer:
    """Surface attributes at every pixel, in the world frame."""

    mask: Bool[Tensor, "*s h w"]
    position: Float[Tensor, "*s h w 3"]
    normal: Float[Tensor, "*s h w 3"]  # unit
    to_camera: Float[Tensor, "*s h w 3"]  # unit
    z_depth: Float[Tensor, "*s h w"]  # along the optical axis
    material: Material


@dataclass(frozen=True)
class Shaded:
    """Images of V views under L lights; color = albedo * diffuse + specular before supersampling."""

    color: Float[Tensor, "v l h w 3"]  # >= 0, not clamped above
    diffuse: Float[Tensor, "v l h w 1"]
    specular: Float[Tensor, "v l h w 1"]
    coverage: Float[Tensor, "v h w"]  # part of the pixel that shows surface; 0 or 1 without supersampling

    def over(self, background: float = 1.0) -> Float[Tensor, "v l h w 3"]:
        """Colors over a constant background (colors are already weighted by coverage)."""
        return self.color + background * (1.0 - self.coverage[:, None, ..., None])


def gbuffer(mesh: Mesh, fragments: Fragments, cameras: Cameras) -> GBuffer:
    """Interpolated attributes; missing vertex normals are computed, a missing material is an error."""
    missing = [name for name in ("albedo", "specular", "shininess") if getattr(mesh, name) is None]
    if missing:
        raise ConfigError(f"mesh has no {', '.join(missing)}: shading needs all three as vertex attributes")
    mask, device = fragments.mask, fragments.face.device
    normals = vertex_normals(mesh) if mesh.normals is None else mesh.normals
    columns = (mesh.vertices, normals, mesh.albedo, mesh.specular[:, None], mesh.shininess[:, None])
    attributes = torch.from_numpy(np.concatenate(columns, -1)).to(device)
    faces = torch.from_numpy(mesh.faces).to(device)
    position, normal, *material = interpolate(attributes, faces, fragments).split((3, 3, 3, 1, 1), -1)
    cameras = Cameras(cameras.rotation.to(position), cameras.translation.to(position))
    to_camera = normalize(cameras.origins[..., None, None, :] - position)
    z_depth = cameras.z_depth(position.flatten(-3, -2)).unflatten(-1, mask.shape[-2:])
    return GBuffer(
        mask, position, normalize(normal), to_camera * mask[..., None], z_depth * mask, Material(*material)
    )


def shade_lights(g: GBuffer, lights: Lights) -> Shaded:
    """Every view [V] under every light: lights [L], the same for all views, or [V, L]."""
    pixels = Lights(
        lights.direction[..., None, None, :],
        *(x[..., None, None] for x in (lights.ambient, lights.diffuse, lights.negative)),
    )
    material = Material(*(x[:, None] for x in (g.material.albedo, g.material.specular, g.material.shininess)))
    factors = shading(g.normal[:, None], g.to_camera[:, None], material, pixels)
    mask = g.mask[:, None, ..., None]
    color = (material.albedo * factors.diffuse + factors.specular).clamp_min(0.0)
    return Shaded(color * mask, factors.diffuse * mask, factors.specular * mask, g.mask.to(color.dtype))


def box_average(image: Float[Tensor, "*s h w c"], factor: int) -> Float[Tensor, "*s h_small w_small c"]:
    """Mean of every factor x factor block of pixels."""
    return image.unflatten(-2, (-1, factor)).unflatten(-4, (-1, factor)).mean((-4, -2))


def render(
    scene: Scene, mesh: Mesh, cameras: Cameras, lights: Lights, size: int, supersample: int = 1
) -> Shaded:
    """Images of all views under all lights; ``supersample`` renders that many times larger and averages."""
    shaded = shade_lights(gbuffer(mesh, scene.fragments(cameras, size * supersample), cameras), lights)
    if supersample == 1:
        return shaded
    maps = (box_average(x, supersample) for x in (shaded.color, shaded.diffuse, shaded.specular))
    return Shaded(*maps, box_average(shaded.coverage[..., None], supersample)[..., 0])


def render_mesh(
    mesh: Mesh, cameras: Cameras, lights: Lights, size: int, background: tuple[float, float, float]
) -> RenderOutput:
    """Rasterizes a mesh with material from v cameras and shades it under l lights."""
    scene = get_rasterizer("auto").prepare(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces))
    buffers = gbuffer(mesh, scene.fragments(cameras, size), cameras)
    return shade_maps(
        buffers.mask, buffers.z_depth, buffers.normal, buffers.to_camera, buffers.material, lights, background
    )
