"""PLY files of meshes: binary.

Colors are 8 bits, sRGB. Specular intensity and Phong exponent are
the float properties ``ks`` and ``phong``.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift3d import __version__
from lift3d.scene.images import to_uint8
from lift3d.scene.mesh import Mesh
from lift3d.whole_file import require_suffix, write_whole

_PLY_NAMES = {"<f4": "float", "|u1": "uchar", "<i4": "int"}


def write_ply(mesh: Mesh, path: Path | str) -> None:
    """Write a mesh with the attributes it has."""
    columns = dict(zip("xyz", _rows(mesh.vertices), strict=True))
    if mesh.normals is not None:
        columns |= dict(zip(("nx", "ny", "nz"), _rows(mesh.normals), strict=True))
    if mesh.albedo is not None:
        columns |= dict(zip(("red", "green", "blue"), to_uint8(mesh.albedo).T, strict=True))
    if mesh.specular is not None:
        columns["ks"] = mesh.specular.astype("<f4")
    if mesh.shininess is not None:
        columns["phong"] = mesh.shininess.astype("<f4")
    vertices = np.empty(len(mesh.vertices), [(name, column.dtype.str) for name, column in columns.items()])
    for name, column in columns.items():
        vertices[name] = column
    faces = np.empty(len(mesh.faces), [("n", "u1"), ("corners", "<i4", (3,))])
    faces["n"], faces["corners"] = 3, mesh.faces
    properties = [f"property {_PLY_NAMES[column.dtype.str]} {name}" for name, column in columns.items()]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment lift3d {__version__}; ks: specular intensity, phong: exponent of (r.v)",
        f"element vertex {len(vertices)}",
        *properties,
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    data = "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()
    write_whole(require_suffix(path, ".ply"), data)


def _rows(vectors: NDArray) -> NDArray:
    """Rows x, y, z of vectors [n, 3]."""
    return vectors.T.astype("<f4")
