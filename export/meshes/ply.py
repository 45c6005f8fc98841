"""PLY files of meshes: binary.

Colors are 8 bits, sRGB. Specular intensity and Phong exponent are
the float properties ``ks`` and ``phong``.
"""

from pathlib import Path

import numpy as np

from lift3d import __version__
from lift3d.scene.images import to_uint8
from lift3d.scene.mesh import Mesh
from lift3d.whole_file import require_suffix, write_whole

_PLY_NAMES = {"<f4": "float", "|u1": "uchar"}


def write_ply(mesh: Mesh, path: Path | str) -> None:
    """Write a mesh with the attributes it has."""
    named = {
        "x y z": mesh.vertices,
        "nx ny nz": mesh.normals,
        "red green blue": None if mesh.albedo is None else to_uint8(mesh.albedo),
        "ks": mesh.specular,
        "phong": mesh.shininess,
    }
    columns = {}
    for names, array in named.items():
        if array is not None:
            columns |= dict(zip(names.split(), np.atleast_2d(array.T), strict=True))
    kinds = {name: "|u1" if column.dtype == np.uint8 else "<f4" for name, column in columns.items()}
    vertices = np.empty(len(mesh.vertices), list(kinds.items()))
    for name, column in columns.items():
        vertices[name] = column
    faces = np.empty(len(mesh.faces), [("n", "u1"), ("corners", "<i4", (3,))])
    faces["n"], faces["corners"] = 3, mesh.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment lift3d {__version__}; ks: specular intensity, phong: exponent of (r.v)",
        f"element vertex {len(vertices)}",
        *(f"property {_PLY_NAMES[kind]} {name}" for name, kind in kinds.items()),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    data = "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()
    write_whole(require_suffix(path, ".ply"), data)
