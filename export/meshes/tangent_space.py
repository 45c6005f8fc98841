"""Normals in tangent space, as normal textures hold them (MikkTSpace, the convention of glTF and Blender).

At every vertex, T points to where u grows and B = w cross(N, T) to the top of the map. T, w and the mesh's
normals N are interpolated over faces without normalizing; (x, y, z) then stands for the direction
x T + y B + z N. Readers of a file build the same frames from its positions, normals and texture coordinates.
"""

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy import ndarray

from lift3d.scene.mesh import Mesh


def tangents(
    mesh: Mesh, uv: Float32[ndarray, "n 2"]
) -> tuple[Float64[ndarray, "n 3"], Float64[ndarray, " n"]]:
    """Unit T and sign w of every vertex: means over its faces, weighted by their angles there.

    ``uv`` as in ``texture.Textures``. Where a vertex has no direction of growing u, T is across the normal.
    """
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    places = uv[mesh.faces].astype(np.float64) * (1, -1)
    (a, b), (s, t) = (np.moveaxis(x[:, 1:] - x[:, :1], 1, 0) for x in (corners, places))
    area = s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]
    direction = np.sign(area)[:, None] * (t[:, 1:] * a - s[:, 1:] * b)
    normals = mesh.normals.astype(np.float64)
    total, sign = np.zeros((len(uv), 3)), np.zeros(len(uv))
    for k in range(3):
        vertex = mesh.faces[:, k]
        n = normals[vertex]
        edges = [_unit(_across(corners[:, (k + i) % 3] - corners[:, k], n)) for i in (1, 2)]
        angle = np.arccos(np.clip((edges[0] * edges[1]).sum(-1), -1.0, 1.0))
        np.add.at(total, vertex, angle[:, None] * _unit(_across(direction, n)))
        np.add.at(sign, vertex, angle * np.sign(area))
    lost = np.linalg.norm(total, axis=-1) < 1e-9
    axis = np.eye(3)[np.abs(normals[lost]).argmin(-1)]
    total[lost] = _across(axis, normals[lost])
    return _unit(total), np.where(sign < 0, -1.0, 1.0)


def to_tangent_space(
    directions: Float[ndarray, "k 3"],
    normal: Float[ndarray, "k 3"],
    tangent: Float[ndarray, "k 3"],
    sign: Float[ndarray, " k"],
) -> Float32[ndarray, "k 3"]:
    """Unit (x, y, z) of directions in interpolated frames; straight up where a frame is flat."""
    bitangent = sign[:, None] * np.cross(normal, tangent)
    frame = np.stack((tangent, bitangent, normal), -1).astype(np.float64)
    flat = np.abs(np.linalg.det(frame)) < 1e-6
    frame[flat] = np.eye(3)
    inside = _unit(np.linalg.solve(frame, directions.astype(np.float64)[..., None])[..., 0])
    return np.where(flat[:, None], (0.0, 0.0, 1.0), inside).astype(np.float32)


def _across(vectors: Float64[ndarray, "k 3"], normal: Float64[ndarray, "k 3"]) -> Float64[ndarray, "k 3"]:
    """The part of vectors that is perpendicular to unit normals."""
    return vectors - (vectors * normal).sum(-1, keepdims=True) * normal


def _unit(vectors: Float64[ndarray, "k 3"]) -> Float64[ndarray, "k 3"]:
    """Vectors of length 1, or 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 1e-30, length, 1.0)
