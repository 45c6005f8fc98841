"""Wavefront OBJ files of meshes, y up, with a material file beside.

Vertex colours follow the coordinates (``v x y z r g b``, sRGB), as MeshLab and Blender read them. Programs
that read only the material get its means: Kd (linear), Pr roughness, Ns Phong exponent, Ks as Principled's
specular level.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift3d import __version__
from lift3d.color import srgb_to_linear
from lift3d.export.pbr import mean_lobe
from lift3d.export.whole_file import require_suffix, write_whole
from lift3d.mesh import Mesh


def write_obj(mesh: Mesh, path: Path | str) -> None:
    """Write ``path`` and the .mtl file of the same name."""
    path = require_suffix(path, ".obj")
    material = path.with_suffix(".mtl")
    columns = mesh.vertices if mesh.albedo is None else np.hstack((mesh.vertices, mesh.albedo))
    corners = mesh.faces + 1
    lines = [f"# lift3d {__version__}", f"mtllib {material.name}", *_lines("v", columns)]
    if mesh.normals is None:
        faces = _lines("f", corners)
    else:
        lines += _lines("vn", mesh.normals)
        faces = [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in corners.tolist()]
    write_whole(material, _material(mesh))
    write_whole(path, "\n".join([*lines, "usemtl lift3d", *faces, ""]).encode())


def _material(mesh: Mesh) -> bytes:
    albedo = np.full(3, 0.8) if mesh.albedo is None else srgb_to_linear(mesh.albedo).mean(0)
    roughness, f0 = mean_lobe(mesh)
    exponent = 0.0 if mesh.shininess is None else float(mesh.shininess.mean())
    level = np.full(3, min(f0 / 0.08, 1.0))
    numbers = {"Kd": albedo, "Ks": level, "Ns": [exponent], "Pr": [roughness], "Pm": [0.0]}
    return "\n".join(
        ["newmtl lift3d", *(_line(name, row) for name, row in numbers.items()), "illum 2", ""]
    ).encode()


def _lines(name: str, rows: NDArray) -> list[str]:
    return [_line(name, row) for row in rows.tolist()]


def _line(name: str, numbers: NDArray | list) -> str:
    """A keyword and its numbers; 9 digits give every float32 back."""
    return " ".join([name, *(f"{number:.9g}" for number in numbers)])
