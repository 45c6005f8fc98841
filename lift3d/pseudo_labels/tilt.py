"""How upright lifted shapes are: by their normals, which distillation (train/distill.py) takes from shading.

Shading says how normals are turned before the camera. Where E_v errs in the view, E_I makes up for it with
normals that are turned the other way in the object's frame, while outlines and remembered distances keep the
surface in its place. So normals of one object that are all turned against those of the mean shape tell in
what E_v errs: n_i = n + w x n at the same points. They make up for a part only: ``GAIN`` is what is left of
E_v's errors over what the normals tell, as measured on heads of known views (docs/experiments.md). Yaw is
not corrected: symmetry settles it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.scene.cameras import Cameras
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal

GAIN = (2.0, 0.0, 2.0)  # about x, y, z
N_POINTS = 600
FRONT = 0.2  # z of the normals of points that count: images show them
CHUNK = 16  # shapes at a time
LOWEST = 0.05  # z of a light's direction: a vector has no lights from behind
SurfaceOf = Callable[[Tensor], Surface]  # of codes


@torch.no_grad()
def tilts(surface: SurfaceOf, mesh: Mesh, codes: Float[Tensor, "n c"]) -> Float[Tensor, "n 3"]:
    """Rotation vectors w, in radians, by which the normals of the shapes of codes are turned against their
    mean, times ``GAIN``; their mean is 0. ``mesh`` is the mean shape, whose front is looked at.
    """
    front = torch.from_numpy(mesh.normals[:, 2] > FRONT).nonzero()[:, 0]
    front = front[:: -(-len(front) // N_POINTS)]
    points = torch.from_numpy(mesh.vertices)[front].to(codes)
    gradients = [
        sdf_and_gradient(surface(part), points.expand(len(part), -1, -1), create_graph=False)[2]
        for part in codes.split(CHUNK)
    ]
    normals = smooth_normal(torch.cat(gradients))
    mean = normalize(normals.mean(0))
    axes = torch.eye(3).to(codes)
    turned = torch.stack([torch.cross(axis.expand_as(mean), mean, dim=-1) for axis in axes], -1)
    matrix = torch.einsum("pki,pkj->ij", turned, turned)
    right = torch.einsum("pki,npk->in", turned, normals - mean)
    found = torch.linalg.solve(matrix, right).T
    return (found - found.mean(0)) * found.new_tensor(GAIN)


def upright(
    views: Float[Tensor, "*s 6"],
    lights: Float[Tensor, "*s 5"],
    tilt: Float[Tensor, "*s 3"],
    pivot: tuple[float, ...] = (0.0, 0.0, 0.0),
) -> tuple[Float[Tensor, "*s 6"], Float[Tensor, "*s 5"]]:
    """Views and lights of objects that are tilted about a pivot p, in the frame of the upright ones: R R_tilt
    and t + R (p - R_tilt p), R_tilt^-1 l.
    """
    turn = torch.linalg.matrix_exp(_cross_matrix(tilt))
    cameras, lamps, point = Cameras.from_view(views), Lights.from_vector(lights), views.new_tensor(pivot)
    moved = (cameras.rotation @ (point - turn @ point)[..., None])[..., 0]
    turned = Cameras(cameras.rotation @ turn, cameras.translation + moved).to_view()
    direction = (lamps.direction[..., None, :] @ turn)[..., 0, :]
    direction = torch.cat((direction[..., :2], direction[..., 2:].clamp_min(LOWEST)), -1)
    return turned, Lights(direction, lamps.ambient, lamps.diffuse, lamps.negative).to_vector()


def _cross_matrix(w: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s 3 3"]:
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1)
    return rows.unflatten(-1, (3, 3))
