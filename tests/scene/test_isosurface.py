"""The sparse grid gives the dense grid's mesh, bit for bit, from fewer evaluations."""

import numpy as np
import pytest
import torch
from analytic import surface_of

from lift3d.errors import ConfigError, Lift3DError
from lift3d.scene import isosurface
from lift3d.scene.isosurface import (
    cell_size,
    dense_grid,
    extract_mesh,
    march,
    sparse_grid,
)
from lift3d.scene.mesh import report
from lift3d.scene.surface_mesh import project_to_surface


def sphere(p):
    return p.norm(dim=-1) - 0.7


def blobs(p):
    """Two balls that do not touch."""
    first = (p - p.new_tensor((-0.35, 0.0, 0.0))).norm(dim=-1) - 0.3
    second = (p - p.new_tensor((0.4, 0.1, 0.1))).norm(dim=-1) - 0.25
    return torch.minimum(first, second)


def torus(p):
    return torch.stack((p[:, :2].norm(dim=-1) - 0.6, p[:, 2]), -1).norm(dim=-1) - 0.15


def bumpy(p):
    """Not an exact SDF: its slope reaches about 1.4."""
    return p.norm(dim=-1) - 0.6 - 0.05 * torch.sin(8 * p).sum(-1) / 1.7


def shallow(p):
    return 0.3 * sphere(p)


class Counted:
    """An SDF that counts its points and the largest batch."""

    def __init__(self, sdf):
        self.sdf, self.n, self.largest = sdf, 0, 0

    def __call__(self, points):
        self.n, self.largest = self.n + len(points), max(self.largest, len(points))
        return self.sdf(points)


SURFACES = {
    "sphere": (sphere, 2),
    "blobs": (blobs, 4),
    "torus": (torus, 0),
    "bumpy": (bumpy, 2),
    "shallow": (shallow, 2),
}


@pytest.mark.parametrize("resolution", [64, 96, 128])
@pytest.mark.parametrize("name", SURFACES)
def test_sparse_is_dense(name, resolution):
    sdf, euler = SURFACES[name]
    sparse, dense = sparse_grid(sdf, resolution), dense_grid(sdf, resolution)
    np.testing.assert_array_equal(sparse.values < 0, dense.values < 0)
    found, expected = march(sparse), march(dense)
    np.testing.assert_array_equal(found.vertices, expected.vertices)
    np.testing.assert_array_equal(found.faces, expected.faces)
    assert report(found).solid and report(found).euler == euler


def test_evaluations_are_counted_and_few(monkeypatch):
    monkeypatch.setattr(isosurface, "BATCH", 5000)
    counted = Counted(torus)
    grid = sparse_grid(counted, 128)
    assert grid.n_evaluated == counted.n and counted.largest == 5000
    assert counted.n < 129**3 / 12
    assert (
        sparse_grid(torus, 128, lipschitz=1.0).n_evaluated
        < counted.n
        < sparse_grid(torus, 128, lipschitz=2.0).n_evaluated
    )


def test_no_point_is_evaluated_twice():
    seen = []
    grid = sparse_grid(lambda p: seen.append(p) or blobs(p), 128)
    assert len(torch.cat(seen).unique(dim=0)) == grid.n_evaluated


def test_batch_size_changes_nothing(monkeypatch):
    grids = []
    for batch in (777, 10**6):
        monkeypatch.setattr(isosurface, "BATCH", batch)
        grids.append(sparse_grid(bumpy, 64).values)
    np.testing.assert_array_equal(*grids)


def test_vertices_lie_on_the_sphere_and_volume_converges():
    volume = 4 / 3 * np.pi * 0.7**3
    for resolution, tolerance in ((32, 1e-2), (64, 2.5e-3), (128, 6e-4)):
        mesh = extract_mesh(sphere, resolution)
        assert mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32
        assert np.abs(np.linalg.norm(mesh.vertices, axis=-1) - 0.7).max() < cell_size(resolution) ** 2
        assert report(mesh).volume == pytest.approx(volume, rel=tolerance)


def test_axes_are_not_swapped():
    mesh = extract_mesh(lambda p: (p - p.new_tensor((0.1, -0.3, 0.5))).norm(dim=-1) - 0.2, 64)
    np.testing.assert_allclose(mesh.vertices.mean(0), (0.1, -0.3, 0.5), atol=2e-3)


def test_a_surface_that_leaves_the_ball_is_closed_there():
    """A half space cut at the ball: a hemisphere."""
    mesh = extract_mesh(lambda p: p[:, 0], 64, radius=0.8)
    assert report(mesh).solid
    assert report(mesh).volume == pytest.approx(2 / 3 * np.pi * 0.8**3, rel=1e-2)
    assert np.linalg.norm(mesh.vertices, axis=-1).max() < 0.8 + cell_size(64, 0.8) ** 2


@pytest.mark.parametrize("name", ["sphere", "torus", "bumpy"])
def test_newton_step_removes_the_interpolation_error(name):
    sdf = SURFACES[name][0]
    mesh = extract_mesh(sdf, 64)
    moved = project_to_surface(mesh, surface_of(sdf), cell_size(64))
    before, after = (sdf(torch.from_numpy(m.vertices)).abs().max().item() for m in (mesh, moved))
    assert after < before / 20 and np.array_equal(mesh.faces, moved.faces)
    np.testing.assert_allclose(np.linalg.norm(moved.normals, axis=-1), 1.0, atol=1e-5)
    if name == "sphere":
        np.testing.assert_allclose(moved.normals, moved.vertices / 0.7, atol=1e-5)


def test_newton_step_is_bounded():
    mesh = extract_mesh(sphere, 32)
    moved = project_to_surface(mesh, surface_of(lambda p: p.norm(dim=-1) - 0.1), max_step=0.01)
    np.testing.assert_allclose(np.linalg.norm(moved.vertices - mesh.vertices, axis=-1), 0.01, rtol=1e-3)


def test_newton_step_keeps_parameters_free_of_gradients():
    radius = torch.tensor(0.7, requires_grad=True)
    mesh = extract_mesh(lambda p: p.norm(dim=-1) - radius, 32)
    project_to_surface(mesh, surface_of(lambda p: p.norm(dim=-1) - radius), 0.1)
    assert radius.grad is None


def test_mesh_stays_closed_where_the_bound_is_wrong():
    """A function 8 times steeper than promised loses detail, never the inside."""
    assert report(extract_mesh(lambda p: 8 * bumpy(p), 128, lipschitz=1.0)).solid


def test_a_plate_thinner_than_the_coarsest_cells_is_followed():
    """It shows at a few nodes of the first level only, and lies across all of them."""
    turn = torch.tensor([[0.8, 0.6, 0.0], [-0.48, 0.64, 0.6], [0.36, -0.48, 0.8]])

    def plate(p):
        return ((p @ turn).abs() - p.new_tensor((0.5, 0.4, 0.012))).amax(-1)

    sparse, dense = sparse_grid(plate, 128), dense_grid(plate, 128)
    np.testing.assert_array_equal(sparse.values < 0, dense.values < 0)
    assert sparse.n_evaluated < dense.n_evaluated / 10


def test_empty_surface():
    with pytest.raises(
        Lift3DError, match=r"the SDF runs from 0.5 to .* expected negative values inside an object"
    ):
        extract_mesh(lambda p: p.norm(dim=-1) + 0.5, 64)


def test_not_finite():
    with pytest.raises(Lift3DError, match="not finite at 4913 of 4913 points"):
        extract_mesh(lambda p: p[:, 0] * torch.nan, 64)


@pytest.mark.parametrize("resolution", [1, 130, 257])
def test_resolution_must_halve(resolution):
    with pytest.raises(
        ConfigError, match=f"resolution is {resolution}, expected a small number times a power of 2"
    ):
        sparse_grid(sphere, resolution)
