"""Head renders with exact ground truth, through the project's own rasterizer and ``shade``.

A head of a split has ``VIEWS_PER_HEAD`` renders, which share its shape and look and differ in view and light.
Rendering one of them twice gives the same bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.render.mesh import box_average
from lift3d.render.rasterize import Rasterizer, get_rasterizer, interpolate
from lift3d.scene.cameras import Cameras, ViewPrior
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.shading import Material, shade
from lift3d.synthetic.heads import HeadModel, load_head_model, sample_shape, stream
from lift3d.synthetic.paint import Look, attributes, paint, sample_look

VIEWS_PER_HEAD = 4
BACKGROUND = 1.0  # white
VIEW_PRIOR = ViewPrior(std=(0.13, 0.35, 0.04, 0.0, 0.0, 0.0), limit=(0.4, 0.9, 0.1, 0.0, 0.0, 0.0))
LIGHT_PRIOR = LightPrior(
    l_x=(-1.0, 1.0), l_y=(-0.3, 0.9), diffuse=(0.35, 0.8), level=(0.9, 1.05), coupling=0.75
)


@dataclass(frozen=True)
class HeadRender:
    """One image with everything that made it; maps are exact at pixel centers and 0 in the background."""

    image: Float[Tensor, "h w 3"]  # [0, 1], antialiased over the white background
    mask: Bool[Tensor, "h w"]
    depth: Float[Tensor, "h w"]  # z-depth, world units
    normal: Float[Tensor, "h w 3"]  # unit, world frame
    albedo: Float[Tensor, "h w 3"]
    specular: Float[Tensor, "h w"]
    shininess: Float[Tensor, "h w"]
    view: Float[Tensor, "6"]
    light: Float[Tensor, "5"]  # (k_a, k_d, l_x, l_y, k_n)


def _generator(split: str, kind: str, index: int) -> torch.Generator:
    """The torch counterpart of ``stream``."""
    return torch.Generator().manual_seed(int(stream(split, kind, index).integers(2**62)))


def render_mesh(
    mesh: Mesh,
    look: Look,
    model: HeadModel,
    view: Float[Tensor, "6"],
    light: Float[Tensor, "5"],
    size: int,
    supersample: int = 2,
    rasterizer: Rasterizer | None = None,
) -> HeadRender:
    """Renders a head mesh (vertices in the head model's order, with normals) at one view under one light."""
    return next(_renders(mesh, look, model, view[None], light[None], size, supersample, rasterizer))


def _renders(
    mesh: Mesh,
    look: Look,
    model: HeadModel,
    views: Float[Tensor, "t 6"],
    lights: Float[Tensor, "t 5"],
    size: int,
    supersample: int,
    rasterizer: Rasterizer | None,
) -> Iterator[HeadRender]:
    """Renders of one head; the rasterizer's acceleration tree is built once."""
    faces = torch.from_numpy(mesh.faces)
    scene = (rasterizer or get_rasterizer("auto")).prepare(torch.from_numpy(mesh.vertices), faces)
    columns = torch.from_numpy(np.concatenate((mesh.vertices, mesh.normals, attributes(model)), -1))

    def surface(cameras: Cameras, pixels: int) -> tuple[Tensor, Tensor, Tensor, Material]:
        """Mask, position, normal and material of the pixels x pixels image."""
        fragments = scene.fragments(cameras, pixels)
        position, normal, paintable = interpolate(columns, faces, fragments).split((3, 3, 8), -1)
        return fragments.mask, position, normalize(normal), paint(paintable, look, model)

    for view, light in zip(views, lights, strict=True):
        cameras, lamp = Cameras.from_view(view), Lights.from_vector(light)
        mask, position, normal, material = surface(cameras, size * supersample)
        color = shade(normal, normalize(cameras.origins - position), material, lamp).clamp(0, 1)
        color = torch.where(mask[..., None], color, torch.full_like(color, BACKGROUND))
        if supersample > 1:
            color = box_average(color, supersample)
            mask, position, normal, material = surface(cameras, size)
        inside = mask[..., None]
        yield HeadRender(
            image=color,
            mask=mask,
            depth=cameras.z_depth(position.reshape(-1, 3)).reshape(mask.shape) * mask,
            normal=normal * inside,
            albedo=material.albedo * inside,
            specular=material.specular[..., 0] * mask,
            shininess=material.shininess[..., 0] * mask,
            view=view,
            light=light,
        )


def render_parameters(
    split: str, head: int, n_renders: int
) -> tuple[Float[Tensor, "t 6"], Float[Tensor, "t 5"]]:
    """Views and lights of a head's renders."""
    key = lambda kind, k: _generator(split, f"{kind} {k}", head)  # noqa: E731
    views = torch.cat([VIEW_PRIOR.sample(1, key("view", k)) for k in range(n_renders)])
    lights = torch.cat([LIGHT_PRIOR.sample(1, key("light", k)) for k in range(n_renders)])
    return views, lights


def render_head(
    split: str, head: int, size: int, supersample: int = 2, n_renders: int = VIEWS_PER_HEAD
) -> list[HeadRender]:
    """All renders of one head; number ``k`` is the same whatever ``n_renders`` is."""
    model = load_head_model()
    shape, look = sample_shape(model, split, head), sample_look(split, head)
    mesh = model.mesh(shape.identity, shape.expression)
    views, lights = render_parameters(split, head, n_renders)
    return list(_renders(mesh, look, model, views, lights, size, supersample, None))
