"""Meshes of a surface: their vertices are laid on it, and get its normals and material."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.scene.mesh import Mesh
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal

VERTICES_AT_ONCE = 1 << 12  # few enough for a processor's caches
CLOSE = 1e-4  # world units: over shorter steps no material changes


@torch.no_grad()
def project_to_surface(
    mesh: Mesh, surface: Surface, max_step: float, device: torch.device | str = "cpu"
) -> Mesh:
    """One Newton step x - f n / |grad f| of every vertex towards the surface of one object (b = 1), at most
    ``max_step`` long; n, the unit gradient, becomes the vertex normal.

    Marching cubes errs by O(cell^2); this removes nearly all of it where the SDF is smooth.
    ``isosurface.cell_size`` is a good limit.
    """
    parts = []
    for points in _split(mesh, device):
        value, _, gradient = (x[0] for x in sdf_and_gradient(surface, points[None], False))
        parts.append((points - _newton(value, gradient, max_step), smooth_normal(gradient)))
    return _replaced(mesh, ("vertices", "normals"), parts)


@torch.no_grad()
def lay_on(mesh: Mesh, surface: Surface, max_step: float, device: torch.device | str = "cpu") -> Mesh:
    """The vertices on the surface of one object (b = 1), with its normals and material there.

    A Newton step x - f n / |grad f|, n the unit gradient, of at most ``max_step``. Where it is longer than
    ``CLOSE``, f and all that is found with it are evaluated again, and another step is taken, at most twice.
    Twice the speed of its readable twin, ``with_material`` after ``project_to_surface``, which evaluates
    everything again.
    """
    parts = []
    for points in _split(mesh, device):
        value, feature, gradient = (x[0] for x in sdf_and_gradient(surface, points[None], False))
        step = _newton(value, gradient, max_step)
        points, far = points - step, step.norm(dim=-1) > CLOSE
        for longest in (max_step, CLOSE):
            rows = far.nonzero()[:, 0]
            if not len(rows):
                break
            again = (x[0] for x in sdf_and_gradient(surface, points[rows][None], False))
            value[rows], feature[rows], gradient[rows] = again
            step = _newton(value[rows], gradient[rows], longest)
            points[rows] -= step
            far[rows] = step.norm(dim=-1) > CLOSE
        normal = smooth_normal(gradient)
        found = surface.material(points[None], normal[None], feature[None])
        parts.append((points, normal, found.albedo[0], found.specular[0, :, 0], found.shininess[0, :, 0]))
    return _replaced(mesh, ("vertices", "normals", "albedo", "specular", "shininess"), parts)


@torch.no_grad()
def with_material(mesh: Mesh, surface: Surface, device: torch.device | str = "cpu") -> Mesh:
    """The mesh with the material of one object (b = 1) at its vertices."""
    parts = []
    for points in _split(mesh, device):
        _, feature, gradient = sdf_and_gradient(surface, points[None], False)
        found = surface.material(points[None], smooth_normal(gradient), feature)
        parts.append((found.albedo[0], found.specular[0, :, 0], found.shininess[0, :, 0]))
    return _replaced(mesh, ("albedo", "specular", "shininess"), parts)


def _newton(
    value: Float[Tensor, "n 1"], gradient: Float[Tensor, "n 3"], longest: float
) -> Float[Tensor, "n 3"]:
    length = gradient.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return (value / length).clamp(-longest, longest) * gradient / length


def _split(mesh: Mesh, device: torch.device | str) -> Iterator[Float[Tensor, "_ 3"]]:
    yield from torch.from_numpy(mesh.vertices).to(device).split(VERTICES_AT_ONCE)


def _replaced(mesh: Mesh, names: tuple[str, ...], parts: list[tuple[Tensor, ...]]) -> Mesh:
    columns = [torch.cat(column).cpu().contiguous().numpy() for column in zip(*parts, strict=True)]
    return replace(mesh, **dict(zip(names, columns, strict=True)))
