"""Deferred shading: mesh attributes at every pixel once, then any number of lights.

Views [v], h x w pixels, channels last. Results are on the device of the cameras; maps are 0 in the
background.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.render.maps import GBuffer, Maps, shade_maps
from lift3d.render.rasterize import Scene, get_rasterizer
from lift3d.render.rasterize.fragments import Fragments, interpolate
from lift3d.scene.cameras import Cameras
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh, require_material, vertex_normals
from lift3d.scene.shading import Material


@dataclass(frozen=True)
class Hits:
    """Where the rays through pixel centers first meet a mesh; 0 where they miss it."""

    mask: Bool[Tensor, "v h w"]
    t: Float[Tensor, "v h w"]  # distance from the camera
    cosine: Float[Tensor, "v h w"]  # of the angle between the surface's normal and the way back


def mesh_hits(mesh: Mesh, cameras: Cameras, size: int) -> Hits:
    """Hits of the rays of v cameras."""
    fragments = prepare(mesh, cameras.device).fragments(cameras, size)
    normals = vertex_normals(mesh) if mesh.normals is None else mesh.normals
    attributes = torch.from_numpy(np.concatenate((mesh.vertices, normals), -1)).to(cameras.device)
    faces = torch.from_numpy(mesh.faces).to(cameras.device)
    position, normal = interpolate(attributes, faces, fragments).split(3, -1)
    back = cameras.origins[:, None, None] - position
    cosine = (normalize(normal) * normalize(back)).sum(-1)
    return Hits(fragments.mask, back.norm(dim=-1) * fragments.mask, cosine)


def gbuffer(mesh: Mesh, fragments: Fragments, cameras: Cameras) -> GBuffer:
    """Interpolated attributes; missing vertex normals are computed, a missing material is an error."""
    require_material(mesh, "shading needs all three as vertex attributes")
    mask, device = fragments.mask, fragments.face.device
    normals = vertex_normals(mesh) if mesh.normals is None else mesh.normals
    columns = (mesh.vertices, normals, mesh.albedo, mesh.specular[:, None], mesh.shininess[:, None])
    attributes = torch.from_numpy(np.concatenate(columns, -1)).to(device)
    faces = torch.from_numpy(mesh.faces).to(device)
    position, normal, *material = interpolate(attributes, faces, fragments).split((3, 3, 3, 1, 1), -1)
    cameras = cameras.to(position)
    to_camera = normalize(cameras.origins[..., None, None, :] - position)
    z_depth = cameras.z_depth(position.flatten(-3, -2)).unflatten(-1, mask.shape[-2:])
    return GBuffer(
        mask, position, normalize(normal), to_camera * mask[..., None], z_depth * mask, Material(*material)
    )


def box_average(image: Float[Tensor, "*s h w c"], factor: int) -> Float[Tensor, "*s h_small w_small c"]:
    """Mean of every factor x factor block of pixels."""
    return image.unflatten(-2, (-1, factor)).unflatten(-4, (-1, factor)).mean((-4, -2))


def prepare(mesh: Mesh, device: torch.device | str) -> Scene:
    """A mesh made ready to be rasterized on a device, any number of times."""
    vertices, faces = torch.from_numpy(mesh.vertices).to(device), torch.from_numpy(mesh.faces).to(device)
    return get_rasterizer("auto", device).prepare(vertices, faces)


def render_mesh(
    mesh: Mesh,
    cameras: Cameras,
    lights: Lights,
    size: int,
    background: tuple[float, float, float],
    scene: Scene | None = None,
) -> Maps:
    """Rasterizes a mesh with material from v cameras and shades it under lights [l] or [v, l]. ``scene`` is
    what ``prepare`` made of the mesh on the cameras' device; None prepares it.
    """
    scene = prepare(mesh, cameras.device) if scene is None else scene
    return shade_maps(gbuffer(mesh, scene.fragments(cameras, size), cameras), lights, background)
