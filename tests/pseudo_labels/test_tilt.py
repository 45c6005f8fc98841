"""Whether lifted shapes stand upright, as their normals tell."""

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from lift3d.pseudo_labels.tilt import GAIN, tilts, upright
from lift3d.scene.cameras import Cameras, ViewPrior
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.surface import Surface

RADII = torch.tensor([0.5, 0.7, 0.6])


def turn(w: Tensor) -> Tensor:
    """Rotation matrices of rotation vectors."""
    cross = torch.zeros(*w.shape[:-1], 3, 3)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        cross[..., i, j], cross[..., j, i] = -w[..., k], w[..., k]
    return torch.linalg.matrix_exp(cross)


def ellipsoid() -> Mesh:
    ball = trimesh.creation.icosphere(4)
    normals = ball.vertices / RADII.numpy()
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(np.float32(ball.vertices * RADII.numpy()), np.int32(ball.faces), np.float32(normals))


def with_turned_normals(code: Tensor) -> Surface:
    """Ellipsoids in their place, but with normals turned by the codes, which are rotation vectors."""

    def sdf(points: Tensor) -> tuple[Tensor, Tensor]:
        return (points / RADII).norm(dim=-1, keepdim=True) - 1, points[..., :0]

    def with_gradient(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return *sdf(points), (points / RADII**2) @ turn(code).mT

    return Surface(sdf, lambda *_: None, with_gradient)


def test_by_how_much_normals_are_turned_is_found() -> None:
    true = 0.05 * torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    true -= true.mean(0)
    found = tilts(with_turned_normals, ellipsoid(), true)
    assert torch.equal(found[:, 1], torch.zeros(24))  # of yaw it says nothing
    for axis in (0, 2):
        torch.testing.assert_close(found[:, axis], GAIN[axis] * true[:, axis], atol=0.008, rtol=0.05)


@pytest.mark.parametrize("pivot", [(0.0, 0.0, 0.0), (0.0, 0.1, 0.5)])
def test_an_upright_object_looks_like_the_tilted_one(pivot: tuple[float, ...]) -> None:
    rng = torch.Generator().manual_seed(1)
    views = ViewPrior(pivot=pivot).sample(5, rng).double()
    lights = LightPrior().sample(5, rng).double()
    tilt = (0.2 * torch.randn(5, 3, generator=rng)).double()
    points, center = torch.randn(5, 30, 3, generator=rng).double() / 3, torch.tensor(pivot).double()
    rotation = turn(tilt.float()).double()
    tilted = (points - center) @ rotation.mT + center
    new_views, new_lights = upright(views, lights, tilt, pivot)
    torch.testing.assert_close(
        Cameras.from_view(new_views).project(points, 64),
        Cameras.from_view(views).project(tilted, 64), atol=1e-4, rtol=0,
    )  # fmt: skip
    cosines = [
        torch.einsum("npk,nk->np", n, Lights.from_vector(x).direction)
        for n, x in ((points, new_lights), (points @ rotation.mT, lights))
    ]
    torch.testing.assert_close(*cosines, atol=1e-5, rtol=0)
    torch.testing.assert_close(new_lights[:, [0, 1, 4]], lights[:, [0, 1, 4]])
