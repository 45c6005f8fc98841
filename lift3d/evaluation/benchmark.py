"""The ground-truth benchmark: a lifted model against held-out head renders, beside predictors that know less
or more.

Protocol (docs/method.md): 64 benchmark heads x 4 renders at 64 x 64; pixels inside both masks, eroded by one.
Rows: "lifted" predicts code, view and light from the image alone; "ellipsoid" and "mean head, canonical pose"
ignore the image; "random head" and "mean head, true pose" are told the pose. Normals are compared in camera
space, so that a wrong pose counts once, as depth does. SIDE is x 100; MAD, view and light errors are degrees.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.evaluation import metrics
from lift3d.evaluation.specular import SpecularRow, specular_rows
from lift3d.model import LiftedGAN
from lift3d.networks.fields import ellipsoid_sdf
from lift3d.observer import Observer, observed
from lift3d.render.maps import Renders
from lift3d.render.mesh import render_mesh
from lift3d.renderers import MeshRenderer
from lift3d.scene.batch import stack
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import colors_to_images, resize
from lift3d.scene.isosurface import cell_size, extract_mesh
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.surface import Surface, distances
from lift3d.scene.surface_mesh import project_to_surface
from lift3d.synthetic.heads import load_head_model, sample_shape
from lift3d.synthetic.render import VIEWS_PER_HEAD, WHITE, render_head

N_HEADS, SIZE = 64, 64
SPLIT = "benchmark"
ELLIPSOID = (0.50, 0.72, 0.60)  # radii of the simplest predictor, world units
CANONICAL = (0.0,) * 6
MESH_RESOLUTION = 96


@dataclass(frozen=True)
class Row:
    """Mean errors of one predictor; None where the predictor says nothing of the kind."""

    name: str
    side_x100: float
    mad_deg: float
    mask_iou: float
    albedo: float | None = None  # mean absolute error, [0, 1]
    albedo_scaled: float | None = None  # after the best factor per image
    specular: float | None = None  # mean absolute error, [0, 1]
    view_deg: float | None = None
    light_deg: float | None = None
    n_empty: int = 0  # images without a common pixel
    highlights: tuple[SpecularRow, ...] = ()  # specularity where it can be seen, beside a constant and none


Predictor = Callable[[int, Renders], Renders]  # number of an image, its render (honest ones use ``image``)


def benchmark_renders(n_heads: int = N_HEADS, observer: Observer | None = None) -> Renders:
    """The images of the benchmark split, ``VIEWS_PER_HEAD`` a head; the first n heads."""
    heads = observed(observer, "rendering the benchmark", range(n_heads))
    return stack([render for head in heads for render in render_head(SPLIT, head, SIZE)])


def evaluate(model: LiftedGAN, n_heads: int = N_HEADS, observer: Observer | None = None) -> list[Row]:
    """All rows of the benchmark, "lifted" first."""
    if not 1 <= n_heads <= N_HEADS:
        raise ConfigError(f"number of benchmark heads is {n_heads}, expected 1..{N_HEADS}")
    renders = benchmark_renders(n_heads, observer)
    predictors = {"lifted": lifted(model)} | baselines()
    return [measure(name, predictor, renders, observer) for name, predictor in predictors.items()]


def measure(name: str, predictor: Predictor, renders: Renders, observer: Observer | None = None) -> Row:
    """Mean errors of one predictor over renders."""
    found = stack([predictor(i, render) for i, render in enumerate(observed(observer, name, renders))])
    shape = metrics.geometry_errors(found, renders)
    row = {
        "side_x100": metrics.mean(shape.side).value,
        "mad_deg": metrics.mean(shape.mad).value,
        "mask_iou": metrics.mean(shape.iou).value,
        "n_empty": metrics.mean(shape.side).n_empty,
    }
    if found.light is not None:
        material = metrics.material_errors(found.maps, renders.maps)
        for key in ("albedo", "albedo_scaled", "specular"):
            row[key] = metrics.mean(getattr(material, key)).value
        row["view_deg"] = metrics.view_error(found.view, renders.view).mean().item()
        row["light_deg"] = metrics.light_error(found.light, renders.light).mean().item()
        row["highlights"] = tuple(specular_rows(found, renders))
    return Row(name, **row)


def lifted(model: LiftedGAN, resolution: int = MESH_RESOLUTION) -> Predictor:
    """Code, view and light from the image; the surface at the predicted view."""

    @torch.no_grad()
    def predict(_: int, render: Renders) -> Renders:
        image = resize(colors_to_images(render.image[None]), model.config.size)
        (code,), view, light = model.encode(image)
        cameras, lights = Cameras.from_view(view), Lights.from_vector(light)
        maps = model.render(code, cameras, lights, SIZE, MeshRenderer(resolution=resolution))
        return Renders(maps, view, light)[0]

    return predict


def baselines() -> dict[str, Predictor]:
    """Predictors that need no model."""
    heads = load_head_model()
    neutral = np.zeros(len(heads.modes)), np.zeros(len(heads.expressions))
    mean = heads.mesh(*neutral)
    radii = torch.tensor(ELLIPSOID)
    surface = Surface(lambda x: (ellipsoid_sdf(x, radii), x), lambda *_: None)
    ellipsoid = project_to_surface(extract_mesh(distances(surface), 64), surface, cell_size(64))

    def other(i: int) -> Mesh:
        shape = sample_shape(heads, SPLIT, (i // VIEWS_PER_HEAD + 17) % N_HEADS)
        return heads.mesh(shape.identity, shape.expression)

    return {
        "ellipsoid, canonical pose": lambda i, render: _plain(ellipsoid, torch.tensor(CANONICAL)),
        "mean head, canonical pose": lambda i, render: _plain(mean, torch.tensor(CANONICAL)),
        "random head, true pose": lambda i, render: _plain(other(i), render.view),
        "mean head, true pose": lambda i, render: _plain(mean, render.view),
    }


def _plain(mesh: Mesh, view: Float[Tensor, "6"]) -> Renders:
    """Geometry alone: the mesh with a placeholder material that no row reports."""
    n = len(mesh.vertices)
    ones = np.ones(n, np.float32)
    mesh = Mesh(mesh.vertices, mesh.faces, mesh.normals, np.ones((n, 3), np.float32), ones, ones)
    light = Lights.from_vector(torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]))
    maps = render_mesh(mesh, Cameras.from_view(view[None]), light, SIZE, WHITE)
    return Renders(maps[0], view, None)
