"""Material where no image ever looks.

Images show an object from the views of a prior. Of the backs of heads, a network that learned from them knows
nothing, and what it says there echoes the front. The material of such points fades to the mean of their
neighborhood: over points at the rim of what images show, weighted by distance^-4 (Shepard 1968).
"""

from dataclasses import replace
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.scene.cameras import ViewPrior, rotation
from lift3d.scene.geometry import FACING
from lift3d.scene.shading import Material
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal

REACH = 2.0  # standard deviations of pitch and yaw from the mean that count as views of a prior
RIM = (FACING[1], 0.8)  # cosines between normal and the nearest view: still shown well, but near the edge
N_RIM = 512  # points at the rim


def facing(normals: Float[Tensor, "*s 3"], prior: ViewPrior) -> Float[Tensor, "*s"]:
    """Cosine between a unit normal and the direction to that camera of the prior which sees it best."""
    pitch, yaw, roll = prior.mean[:3]
    reach = [min(REACH * std, limit) for std, limit in zip(prior.std, prior.limit, strict=True)]
    views = [(pitch + i * reach[0], yaw + j * reach[1], roll) for i, j in product((-1, 0, 1), repeat=2)]
    toward = rotation(*normals.new_tensor(views).unbind(-1))[:, 2]
    return (normals @ toward.T).amax(-1)


def seen(normals: Float[Tensor, "*s 3"], prior: ViewPrior) -> Float[Tensor, "*s"]:
    """How much the images of a prior say of points with these normals, 0 to 1, as ``geometry.visibility``."""
    low, high = FACING
    return ((facing(normals, prior) - low) / (high - low)).clamp(0.0, 1.0)


def fading(surface: Surface, points: Float[Tensor, "k 3"], prior: ViewPrior) -> Surface:
    """One object's ``surface`` (b = 1), whose material fades where the prior's images show nothing.

    ``points`` are anywhere on it, from all sides. Without any at the rim, the surface is returned as it is.
    """
    _, feature, gradient = sdf_and_gradient(surface, points[None], create_graph=False)
    normals = smooth_normal(gradient)
    cosine = facing(normals[0], prior)
    at_rim = ((cosine >= RIM[0]) & (cosine <= RIM[1])).nonzero()[:, 0]
    if not len(at_rim):
        return surface
    at_rim = at_rim[:: -(-len(at_rim) // N_RIM)]
    rim = points[at_rim]
    known = _columns(surface.material(rim[None], normals[:, at_rim], feature[:, at_rim]))[0]

    def material(
        points: Float[Tensor, "1 p 3"], normals: Float[Tensor, "1 p 3"], feature: Float[Tensor, "1 p h"]
    ) -> Material:
        found = _columns(surface.material(points, normals, feature))
        share = seen(normals, prior)
        faded = share < 1
        weights = _squared_distances(points[faded], rim).clamp_min(1e-6).square_().reciprocal_()
        mean = weights @ known / weights.sum(-1, keepdim=True)
        found[faded] = mean.lerp(found[faded], share[faded][:, None])
        return Material(*found.split((3, 1, 1), -1))

    return replace(surface, material=material)


def _squared_distances(a: Float[Tensor, "n 3"], b: Float[Tensor, "k 3"]) -> Float[Tensor, "n k"]:
    """By one matrix product, to about 1e-7."""
    squares = (a * a).sum(-1, keepdim=True) + (b * b).sum(-1)
    return torch.addmm(squares, a, b.T, alpha=-2.0)


def _columns(material: Material) -> Float[Tensor, "1 p 5"]:
    return torch.cat((material.albedo, material.specular, material.shininess), -1)
