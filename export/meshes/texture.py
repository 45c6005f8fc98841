"""Textures: an atlas of a mesh (xatlas), and textures of its material in it, baked from the fields.

A texel is the square of a map around its center ((column + .5) / size, (row + .5) / size); (0, 0) is the
upper left corner and v runs downwards, as in glTF. Every texel that a chart covers belongs to the one face it
lies in, and has the material of that face's point, pulled onto the surface: what the vertices say is not
asked. Texels outside the charts repeat the nearest one inside, so no filter reaches an empty one.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.export.meshes.tangent_space import tangents, to_tangent_space
from lift3d.model import LiftedGAN
from lift3d.scene.images import to_uint8
from lift3d.scene.isosurface import cell_size
from lift3d.scene.mesh import Mesh, require_material, resample, select_vertices
from lift3d.scene.surface_mesh import lay_on

PADDING = 4  # texels between charts
SIZES = (16, 8192)  # sides of a map, texels
CANDIDATES = 2**22  # texels that are tested against faces at once


@dataclass(frozen=True)
class Textures:
    """Textures of a mesh's material, instead of its vertex attributes. Rows run downwards."""

    uv: Float32[ndarray, "n 2"]  # of every vertex, from the maps' upper left corner (0, 0) to (1, 1)
    albedo: Float32[ndarray, "h w 3"]  # [0, 1], display-referred
    specular: Float32[ndarray, "h w"]  # [0, 1]
    shininess: Float32[ndarray, "h w"]  # 4..100
    normal: Float32[ndarray, "h w 3"] | None = None  # unit, in tangent_space


@dataclass(frozen=True)
class Texels:
    """The k texels that charts cover, and where on the mesh they lie."""

    row: Int[ndarray, " k"]
    column: Int[ndarray, " k"]
    face: Int[ndarray, " k"]
    barycentric: Float[ndarray, "k 3"]


Materials = Callable[[Float32[ndarray, "k 3"]], Mesh]  # points near the surface -> points on it


def check_size(size: int) -> int:
    """A side of a map that is possible."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"texture size is {size}, expected {SIZES[0]} to {SIZES[1]} texels")
    return size


def unwrap(mesh: Mesh, size: int) -> tuple[Mesh, Float32[ndarray, "n 2"]]:
    """The mesh, cut open along seams, and the place of each of its vertices in the atlas.

    Vertices on a seam are repeated, with their attributes; faces keep their order. Raises ``ConfigError`` for
    an empty mesh and for sizes outside ``SIZES``."""
    import xatlas

    check_size(size)
    if not len(mesh.faces):
        raise ConfigError("the mesh has no faces, so it has no texture; export another sample")
    atlas = xatlas.Atlas()
    atlas.add_mesh(np.ascontiguousarray(mesh.vertices), np.ascontiguousarray(mesh.faces.astype(np.uint32)))
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding, pack.bilinear = size, PADDING, True
    charts = xatlas.ChartOptions()
    charts.max_iterations = 1  # a second one takes a third longer, for the same stretch
    atlas.generate(charts, pack)
    vertices, faces, uv = atlas[0]
    if atlas.atlas_count != 1:
        raise ConfigError(f"texture size {size} is too small for this mesh; give a larger one, or decimate")
    cut = select_vertices(mesh, vertices.astype(np.int64), faces.astype(np.int32))
    return cut, np.clip(uv, 0.0, 1.0).astype(np.float32)


def bake(mesh: Mesh, size: int, materials: Materials, normals: bool = False) -> tuple[Mesh, Textures]:
    """The mesh cut open, and the textures of its material, ``size`` texels a side, ``normals`` too."""
    cut, uv = unwrap(mesh, size)
    texels = cover(cut, uv, size)
    found = materials(interpolate(cut.vertices, cut, texels))
    columns = [found.albedo, found.specular[:, None], found.shininess[:, None]]
    if normals:
        if found.normals is None or cut.normals is None:
            raise ConfigError("mesh has no normals: a normal map needs them")
        frames = (interpolate(x, cut, texels) for x in (cut.normals, *tangents(cut, uv)))
        columns.append(to_tangent_space(found.normals, *frames))
    image = np.zeros((size, size, 5 + 3 * normals), np.float32)
    empty = np.ones((size, size), bool)
    image[texels.row, texels.column] = np.concatenate(columns, -1)
    empty[texels.row, texels.column] = False
    rows, columns = distance_transform_edt(empty, return_distances=False, return_indices=True)
    image = image[rows, columns]
    normal = image[..., 5:] if normals else None
    return cut, Textures(uv, image[..., :3], image[..., 3], image[..., 4], normal)


def from_fields(model: LiftedGAN, code: Float[Tensor, " c"], resolution: int) -> Materials:
    """Materials of a lifted object's fields, at the texels' points after a Newton step onto the surface of a
    mesh of ``resolution`` cells a side.
    """

    def materials(points: Float32[ndarray, "k 3"]) -> Mesh:
        mesh = Mesh(points, np.zeros((0, 3), np.int32))
        return lay_on(mesh, model.shown_surface(code), cell_size(resolution), model.device)

    return materials


def from_vertices(dense: Mesh) -> Materials:
    """Materials of a mesh whose vertices are all that is known (``mesh.resample``)."""
    require_material(dense, "a texture needs all three")
    return lambda points: resample(dense, points)


def interpolate(values: Float[ndarray, "n ..."], mesh: Mesh, texels: Texels) -> Float32[ndarray, "k ..."]:
    """Vertex values at texels."""
    corners = values[mesh.faces[texels.face]]
    return np.einsum("kc,kc...->k...", texels.barycentric, corners).astype(np.float32)


def cover(mesh: Mesh, uv: Float32[ndarray, "n 2"], size: int) -> Texels:
    """Every texel whose center lies in a face of the atlas, once."""
    corners = uv[mesh.faces].astype(np.float64) * size - 0.5  # m 3 2, in texels
    low = np.ceil(corners.min(1) - 1e-9).astype(np.int64).clip(0, size)
    extent = (np.floor(corners.max(1) + 1e-9).astype(np.int64).clip(-1, size - 1) - low + 1).clip(0)
    side = extent.max(1)
    order = np.argsort(side, kind="stable")
    order = order[side[order] > 0]
    parts = []
    while len(order):
        count = max(1, min(len(order), CANDIDATES // int(side[order[0]]) ** 2))
        while count > 1 and count * int(side[order[count - 1]]) ** 2 > CANDIDATES:
            count //= 2
        parts.append(_inside(corners, low, order[:count], int(side[order[count - 1]]), size))
        order = order[count:]
    column, row, face, barycentric = (np.concatenate(x) for x in zip(*parts, strict=True))
    _, first = np.unique(row * size + column, return_index=True)  # texels on an edge have two faces
    return Texels(row[first], column[first], face[first], barycentric[first])


def _inside(
    corners: Float[ndarray, "m 3 2"],
    low: Int[ndarray, "m 2"],
    faces: Int[ndarray, " f"],
    side: int,
    size: int,
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Columns, rows, faces and barycentric coordinates of the texels of a block of side x side per face that
    lie inside it.
    """
    steps = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(1, -1, 2)
    texels = low[faces][:, None] + steps
    a, b, c = (corners[faces, k][:, None] for k in range(3))
    cross = lambda p, q: p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]  # noqa: E731
    area = cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        beta, gamma = cross(texels - a, c - a) / area, cross(b - a, texels - a) / area
    weights = np.stack((1 - beta - gamma, beta, gamma), -1)
    inside = (weights >= -1e-9).all(-1) & (texels < size).all(-1) & np.isfinite(weights).all(-1)
    block, index = np.nonzero(inside)
    x, y = texels[block, index].T
    return x, y, faces[block], weights[block, index]


def png(values: Float[ndarray, "h w c"]) -> bytes:
    """A picture of 3 or 4 channels in [0, 1] as a PNG file of 8 bits per channel."""
    out = io.BytesIO()
    Image.fromarray(to_uint8(values)).save(out, "PNG")
    return out.getvalue()
