"""The zero surface of an SDF as a mesh: coarse-to-fine evaluation, then marching cubes (Lewiner et al. 2003).

An SDF is a callable: points [n, 3] -> [n], negative inside, on the device it was built for. The surface is
cut at a ball of ``radius`` around the origin (the maximum of the SDF and the ball's), so it is always closed.
A grid of resolution R has R cells and R + 1 nodes per axis over [-half, half]^3, a little more than the ball;
the nodes of R / 2 are every second node of R.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from numpy import ndarray
from skimage.measure import marching_cubes
from torch import Tensor

from lift3d.errors import ConfigError, Lift3DError
from lift3d.scene.mesh import Mesh

SDF = Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]
COARSE = 16  # resolution at which everything is evaluated
MARGIN = 0.75  # cells within which a prediction may have the wrong sign, if an SDF changes by 1 a unit
BATCH = 2**16  # points per call of the SDF


@dataclass(frozen=True)
class Grid:
    """SDF values at the nodes of a cubic grid; where nothing was evaluated, values of the right sign only."""

    values: Float32[ndarray, "k k k"]  # axes x, y, z
    half: float  # world units
    n_evaluated: int  # points at which the SDF was called


def extract_mesh(sdf: SDF, resolution: int = 128, **settings: float | torch.device | str) -> Mesh:
    """The surface sdf = 0 in the ball as a closed mesh without attributes; settings as of ``sparse_grid``."""
    return march(sparse_grid(sdf, resolution, **settings))


def sparse_grid(
    sdf: SDF, resolution: int, radius: float = 1.0, lipschitz: float = 1.5, device: torch.device | str = "cpu"
) -> Grid:
    """Like ``dense_grid``, but evaluated only around the surface: same mesh, far fewer calls.

    Each level is predicted from the one before, by trilinear interpolation. Evaluated are the ends of all
    edges along which the sign changes, until there are no new ones: the surface is followed wherever it
    leads. Before the last level, so are nodes whose prediction may have the wrong sign, for a function that
    changes by at most ``lipschitz`` per world unit (an exact SDF: 1; learned ones are steeper in places,
    hence the margin). A part that touches no other and shows at none of these nodes is left out; the mesh is
    closed in any case.
    """
    levels = _levels(resolution)
    half = _half_width(resolution, radius)

    def evaluate(values: Float32[ndarray, "k k k"], wanted: Bool[ndarray, "k k k"]) -> None:
        index = np.flatnonzero(wanted)
        nodes = np.stack(np.unravel_index(index, values.shape), -1)
        points = nodes * (2 * half / (len(values) - 1)) - half
        values.flat[index] = _evaluate(sdf, points, radius, device)

    values = np.empty((levels[0] + 1,) * 3, np.float32)
    known = np.ones(values.shape, bool)
    evaluate(values, known)
    n_evaluated = values.size
    for level in levels[1:]:
        coarse, values = known, _interpolated(values)
        known = np.zeros(values.shape, bool)
        known[::2, ::2, ::2] = coarse
        wanted = _ends_of_sign_changes(values)
        if level < resolution:
            wanted |= np.abs(values) <= MARGIN * lipschitz * 2 * half / level
        while (wanted := wanted & ~known).any():
            evaluate(values, wanted)
            known |= wanted
            n_evaluated += int(wanted.sum())
            wanted = _ends_of_sign_changes(values)
    return Grid(values, half, n_evaluated)


def dense_grid(sdf: SDF, resolution: int, radius: float = 1.0, device: torch.device | str = "cpu") -> Grid:
    """The SDF at every node: the reference twin of ``sparse_grid``."""
    half = _half_width(resolution, radius)
    nodes = np.indices((resolution + 1,) * 3).reshape(3, -1).T
    values = _evaluate(sdf, nodes * (2 * half / resolution) - half, radius, device)
    return Grid(values.reshape((resolution + 1,) * 3), half, len(nodes))


def march(grid: Grid) -> Mesh:
    """Marching cubes in world coordinates, faces outward."""
    low, high = float(grid.values.min()), float(grid.values.max())
    if not low < 0 < high:
        raise Lift3DError(
            f"surface: the SDF runs from {low:.3g} to {high:.3g} in the grid, expected negative values "
            "inside an object; train longer, or raise the resolution if the object is thin"
        )
    box, corner = _box(grid.values <= 0)
    vertices, faces, _, _ = marching_cubes(grid.values[box], 0.0, gradient_direction="descent")
    cell = 2 * grid.half / (len(grid.values) - 1)
    vertices = (vertices.astype(np.float64) + corner) * cell - grid.half
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def cell_size(resolution: int, radius: float = 1.0) -> float:
    """Edge of a grid cell in world units."""
    return 2 * _half_width(resolution, radius) / resolution


def _half_width(resolution: int, radius: float) -> float:
    """The ball and one cell more, so that the outermost nodes are outside."""
    return radius * (1.0 + 2.0 / resolution)


def _levels(resolution: int) -> list[int]:
    """16, 32, ... resolution: the first is one of 16 to 32, or the resolution if that is less."""
    levels = [resolution]
    while levels[0] > COARSE and levels[0] % 2 == 0:
        levels.insert(0, levels[0] // 2)
    if levels[0] > 2 * COARSE or resolution < 2:
        raise ConfigError(
            f"surface: resolution is {resolution}, expected a small number times a power of 2 (192, 256)"
        )
    return levels


def _evaluate(
    sdf: SDF, points: Float64[ndarray, "n 3"], radius: float, device: torch.device | str
) -> Float32[ndarray, " n"]:
    """max(SDF, ball) at points."""
    values = np.empty(len(points), np.float32)
    for start in range(0, len(points), BATCH):
        part = points[start : start + BATCH]
        with torch.no_grad():
            found = sdf(torch.from_numpy(part.astype(np.float32, "C")).to(device)).float().cpu().numpy()
        values[start : start + BATCH] = np.maximum(found, np.linalg.norm(part, axis=-1) - radius)
    if not np.isfinite(values).all():
        raise Lift3DError(
            f"surface: the SDF is not finite at {int((~np.isfinite(values)).sum())} of {len(values)} points"
        )
    return values


def _interpolated(values: Float32[ndarray, "k k k"]) -> Float32[ndarray, "q q q"]:
    """Trilinear interpolation at the nodes of twice the resolution."""
    fine = np.empty((2 * len(values) - 1,) * 3, np.float32)
    fine[::2, ::2, ::2] = values
    fine[1::2, ::2, ::2] = (values[:-1] + values[1:]) / 2
    fine[:, 1::2, ::2] = (fine[:, :-1:2, ::2] + fine[:, 2::2, ::2]) / 2
    fine[:, :, 1::2] = (fine[:, :, :-1:2] + fine[:, :, 2::2]) / 2
    return fine


def _box(inside: Bool[ndarray, "k k k"]) -> tuple[tuple[slice, ...], Int[ndarray, "3"]]:
    """The smallest box of nodes with those inside and their neighbors, and its first node."""
    rows = [np.flatnonzero(inside.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    first = np.array([max(0, row[0] - 1) for row in rows])
    return tuple(slice(a, row[-1] + 2) for a, row in zip(first, rows, strict=True)), first


def _ends_of_sign_changes(values: Float32[ndarray, "k k k"]) -> Bool[ndarray, "k k k"]:
    """Nodes with a neighbor along an axis on the other side of the surface."""
    inside = values <= 0  # as marching cubes sees it
    found = np.zeros(inside.shape, bool)
    for axis in range(3):
        before, after = _ends(inside, axis)
        for end in _ends(found, axis):
            end |= before ^ after
    return found


def _ends(nodes: ndarray, axis: int) -> tuple[ndarray, ndarray]:
    """Two views: without the last node along an axis, and without the first."""
    along = np.moveaxis(nodes, axis, 0)
    return np.moveaxis(along[:-1], 0, axis), np.moveaxis(along[1:], 0, axis)
