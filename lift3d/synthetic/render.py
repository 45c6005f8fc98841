"""Head renders with exact ground truth, by the project's own rasterizer and shading.

A head of a split has ``VIEWS_PER_HEAD`` renders, which share its shape and look and differ in view and light.
Rendering one of them twice gives the same bits.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.render.maps import GBuffer, Maps, Renders, shade_maps
from lift3d.render.mesh import box_average
from lift3d.render.rasterize import Rasterizer, get_rasterizer, interpolate
from lift3d.scene.cameras import Cameras, ViewPrior
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.mesh import Mesh
from lift3d.synthetic.heads import HeadModel, load_head_model, sample_shape, stream
from lift3d.synthetic.paint import Look, attributes, paint, sample_look

VIEWS_PER_HEAD = 4
BACKGROUND = 1.0
WHITE = (BACKGROUND,) * 3
VIEW_PRIOR = ViewPrior(std=(0.13, 0.35, 0.04, 0.0, 0.0, 0.0), limit=(0.4, 0.9, 0.1, 0.0, 0.0, 0.0))
LIGHT_PRIOR = LightPrior(
    l_x=(-1.0, 1.0), l_y=(-0.3, 0.9), diffuse=(0.35, 0.8), level=(0.9, 1.05), coupling=0.75
)


def _generator(split: str, kind: str, index: int) -> torch.Generator:
    """The torch counterpart of ``stream``."""
    return torch.Generator().manual_seed(int(stream(split, kind, index).integers(2**62)))


def render_painted(
    mesh: Mesh,
    look: Look,
    model: HeadModel,
    views: Float[Tensor, "t 6"],
    lights: Float[Tensor, "t 5"],
    size: int,
    supersample: int = 2,
    rasterizer: Rasterizer | None = None,
) -> Renders:
    """Renders a head mesh (vertices in the head model's order, with normals) from views, each under its own
    light, before white. Maps are exact at pixel centers; colors are means of supersample x supersample points
    of a pixel.
    """
    faces = torch.from_numpy(mesh.faces)
    scene = (rasterizer or get_rasterizer("auto")).prepare(torch.from_numpy(mesh.vertices), faces)
    columns = torch.from_numpy(np.concatenate((mesh.vertices, mesh.normals, attributes(model)), -1))
    cameras, lamps = Cameras.from_view(views), Lights.from_vector(lights)[:, None]

    def maps(pixels: int) -> Maps:
        """Of pixels x pixels, without antialiasing."""
        fragments = scene.fragments(cameras, pixels)
        position, normal, paintable = interpolate(columns, faces, fragments).split((3, 3, 8), -1)
        depth = cameras.z_depth(position.flatten(1, 2)).view(fragments.mask.shape)
        to_camera = normalize(cameras.origins[:, None, None] - position)
        material = paint(paintable, look, model)
        painted = GBuffer(fragments.mask, position, normalize(normal), to_camera, depth, material)
        return shade_maps(painted, lamps, WHITE)

    exact = maps(size)
    if supersample > 1:
        exact = replace(exact, colors=box_average(maps(size * supersample).colors, supersample))
    return Renders(exact, views, lights)


def render_parameters(
    split: str, head: int, n_renders: int
) -> tuple[Float[Tensor, "t 6"], Float[Tensor, "t 5"]]:
    """Views and lights of a head's renders."""
    key = lambda kind, k: _generator(split, f"{kind} {k}", head)  # noqa: E731
    views = torch.cat([VIEW_PRIOR.sample(1, key("view", k)) for k in range(n_renders)])
    lights = torch.cat([LIGHT_PRIOR.sample(1, key("light", k)) for k in range(n_renders)])
    return views, lights


def render_head(split: str, head: int, size: int, n_renders: int = VIEWS_PER_HEAD) -> Renders:
    """All renders of one head; number ``k`` is the same whatever ``n_renders`` is."""
    model = load_head_model()
    shape, look = sample_shape(model, split, head), sample_look(split, head)
    mesh = model.mesh(shape.identity, shape.expression)
    return render_painted(mesh, look, model, *render_parameters(split, head, n_renders), size)
