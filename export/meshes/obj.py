"""Wavefront OBJ files of meshes, y up, with a material file beside.

Vertex colors follow the coordinates (``v x y z r g b``, sRGB), as MeshLab and Blender read them. Programs
that read only the material get its means: Kd (linear), Pr roughness, Ns Phong exponent, Ks as Principled's
specular level. With textures the albedo is a picture beside (``map_Kd``) instead of vertex colors; of the
rest OBJ has means only, since its readers take every picture for a color.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift3d import __version__
from lift3d.export.meshes.pbr import mean_lobe
from lift3d.export.meshes.texture import Textures, png
from lift3d.scene.color import srgb_to_linear
from lift3d.scene.mesh import Mesh
from lift3d.whole_file import require_suffix, write_whole


def write_obj(mesh: Mesh, path: Path | str, textures: Textures | None = None) -> None:
    """Write ``path`` and the .mtl file of the same name, with ``maps`` also the picture NAME-albedo.png."""
    path = require_suffix(path, ".obj")
    material, picture = path.with_suffix(".mtl"), path.with_name(f"{path.stem}-albedo.png")
    colored = textures is None and mesh.albedo is not None
    columns = np.hstack((mesh.vertices, mesh.albedo)) if colored else mesh.vertices
    lines = [f"# lift3d {__version__}", f"mtllib {material.name}", *_lines("v", columns)]
    if textures is not None:
        lines += _lines("vt", textures.uv * (1, -1) + (0, 1))  # v runs upwards here
    if mesh.normals is not None:
        lines += _lines("vn", mesh.normals)
    corner = "{0}/{1}/{2}" if mesh.normals is not None else "{0}/{1}" if textures is not None else "{0}"
    numbers = range(1, len(mesh.vertices) + 1)
    corners = [corner.format(i, i if textures is not None else "", i) for i in numbers]
    faces = [f"f {corners[a]} {corners[b]} {corners[c]}" for a, b, c in mesh.faces.tolist()]
    if textures is not None:
        write_whole(picture, png(textures.albedo))
    write_whole(material, _material(mesh) + (f"map_Kd {picture.name}\n".encode() if textures else b""))
    write_whole(path, "\n".join([*lines, "usemtl lift3d", *faces, ""]).encode())


def _material(mesh: Mesh) -> bytes:
    albedo = np.full(3, 0.8) if mesh.albedo is None else srgb_to_linear(mesh.albedo).mean(0)
    roughness, f0 = mean_lobe(mesh)
    exponent = 0.0 if mesh.shininess is None else float(mesh.shininess.mean())
    level = np.full(3, min(f0 / 0.08, 1.0))
    numbers = {"Kd": albedo, "Ks": level, "Ns": [exponent], "Pr": [roughness], "Pm": [0.0]}
    lines = [_line(name, row) for name, row in numbers.items()]
    return "\n".join(["newmtl lift3d", *lines, "illum 2", ""]).encode()


def _lines(name: str, rows: NDArray) -> list[str]:
    return [_line(name, row) for row in rows.tolist()]


def _line(name: str, numbers: NDArray | list) -> str:
    """A keyword and its numbers; 9 digits give every float32 back."""
    return " ".join([name, *(f"{number:.9g}" for number in numbers)])
