"""A mesh in the format that its file is named for.

Its up axis is "y", as in the model, or "z": a turn about x takes (x, y, z), y up, to (x, -z, y), z up.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float32
from numpy import ndarray

from lift3d.defaults import UP
from lift3d.errors import ConfigError
from lift3d.export.meshes.glb import write_glb
from lift3d.export.meshes.obj import write_obj
from lift3d.export.meshes.ply import write_ply
from lift3d.export.meshes.texture import Textures
from lift3d.scene.mesh import Mesh
from lift3d.whole_file import require_suffix, write_whole

UPS = ("y", "z")


def write_stl(mesh: Mesh, path: Path | str) -> None:
    """Writes the triangles of a mesh, without material, as binary STL."""
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    write_whole(require_suffix(path, ".stl"), shape.export(file_type="stl"))


WRITERS: dict[str, Callable[..., None]] = {
    ".glb": write_glb,
    ".obj": write_obj,
    ".ply": write_ply,
    ".stl": write_stl,
}
TEXTURED = (".glb", ".obj")  # formats that can hold textures


def write_mesh(path: Path | str, mesh: Mesh, textures: Textures | None = None, up: str = UP) -> None:
    """Writes a .glb, .obj, .ply or .stl file, with the material as ``textures`` or else at the vertices.

    Files are y-up, as the model is, or z-up; .glb files are y-up by their standard. .stl files have no
    material. Raises ``ConfigError`` for other suffixes and axes and for textures that a format cannot hold.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ConfigError(f"{path} has no known mesh format, expected one of {', '.join(WRITERS)}")
    if suffix == ".glb" and up != "y":
        raise ConfigError(f"up is {up!r}, but .glb files are y-up by their standard; write another format")
    mesh = upright(mesh, up)
    if textures is None:
        WRITERS[suffix](mesh, path)
    elif suffix in TEXTURED:
        WRITERS[suffix](mesh, path, textures)
    else:
        raise ConfigError(f"{suffix} files hold no textures; write a {' or '.join(TEXTURED)} file")


def upright(mesh: Mesh, up: str) -> Mesh:
    """The mesh with ``up`` upwards. ``ConfigError`` for other axes."""
    if up not in UPS:
        raise ConfigError(f"up is {up!r}, expected one of {', '.join(UPS)}")
    if up == "y":
        return mesh
    normals = None if mesh.normals is None else _turned(mesh.normals)
    return replace(mesh, vertices=_turned(mesh.vertices), normals=normals)


def _turned(vectors: Float32[ndarray, "n 3"]) -> Float32[ndarray, "n 3"]:
    x, y, z = vectors.T
    return np.stack((x, -z, y), 1)
