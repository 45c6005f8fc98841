"""A surface as callables: signed distance, feature and material at points, whatever computes them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lift3d.scene.shading import Material

SDF = Callable[[Float[Tensor, "b p 3"]], tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"]]]
SDFGradient = Callable[
    [Float[Tensor, "b p 3"]], tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"], Float[Tensor, "b p 3"]]
]


@dataclass(frozen=True)
class Surface:
    """A shape with a material, as callables: what the renderers need to know, learned or analytic."""

    sdf: SDF  # points -> signed distance, feature
    material: Callable[[Tensor, Tensor, Tensor], Material]  # points, unit normals, feature -> material
    sdf_gradient: SDFGradient | None = None  # and its spatial gradient, differentiable, if it is known
    distance: Callable[[Tensor], Tensor] | None = None  # ``sdf`` without feature and graph, if there is a way


@torch.no_grad()
def signed_distance(surface: Surface, points: Float[Tensor, "b p 3"]) -> Float[Tensor, "b p 1"]:
    """Signed distance alone, not differentiable; ``surface.sdf(points)[0]`` is its readable twin."""
    return surface.sdf(points)[0] if surface.distance is None else surface.distance(points)


def distances(surface: Surface) -> Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]:
    """The signed distance of one object (b = 1), as ``isosurface`` wants it."""
    return lambda points: signed_distance(surface, points[None])[0, :, 0]


def sdf_and_gradient(
    surface: Surface, points: Float[Tensor, "b p 3"], create_graph: bool
) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"], Float[Tensor, "b p 3"]]:
    """Signed distance, feature and spatial gradient; differentiable once more with ``create_graph``.

    By the surface's own ``sdf_gradient``, or else by automatic differentiation.
    """
    if surface.sdf_gradient is None:
        return sdf_and_gradient_reference(surface, points, create_graph)
    with torch.set_grad_enabled(create_graph and torch.is_grad_enabled()):
        return surface.sdf_gradient(points)


def sdf_and_gradient_reference(
    surface: Surface, points: Float[Tensor, "b p 3"], create_graph: bool
) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"], Float[Tensor, "b p 3"]]:
    """Readable twin of ``sdf_and_gradient``, by automatic differentiation of ``surface.sdf``.

    Without ``create_graph`` the graph is used up: detach the results, or call this under ``no_grad``.
    """
    with torch.enable_grad():
        if not points.requires_grad:  # otherwise the graph leads on to the cameras
            points = points.detach().requires_grad_(True)
        sdf, feature = surface.sdf(points)
        (gradient,) = torch.autograd.grad(sdf.sum(), points, create_graph=create_graph)
    return sdf, feature, gradient


def smooth_normal(gradient: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s 3"]:
    """Unit normal of an SDF gradient; finite where the gradient vanishes."""
    return F.normalize(gradient, dim=-1, eps=1e-6)
