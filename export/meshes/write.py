"""A mesh in the format that its file is named for."""

from collections.abc import Callable
from pathlib import Path

from lift3d.errors import ConfigError
from lift3d.export.meshes.glb import write_glb
from lift3d.export.meshes.obj import write_obj
from lift3d.export.meshes.ply import write_ply
from lift3d.export.meshes.stl import write_stl
from lift3d.export.meshes.texture import Textures
from lift3d.scene.mesh import Mesh

WRITERS: dict[str, Callable[..., None]] = {
    ".glb": write_glb,
    ".obj": write_obj,
    ".ply": write_ply,
    ".stl": write_stl,
}
TEXTURED = (".glb", ".obj")  # formats that can hold textures


def write_mesh(path: Path | str, mesh: Mesh, textures: Textures | None = None) -> None:
    """Writes a .glb, .obj, .ply or .stl file, with the material as ``textures`` or else at the vertices.

    .glb and .obj files are y-up, as the model is; .ply and .stl files are z-up; a .stl file has no material.
    Raises ``ConfigError`` for other suffixes and for textures that the format
    cannot hold.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ConfigError(f"{path} has no known mesh format, expected one of {', '.join(WRITERS)}")
    if textures is None:
        WRITERS[suffix](mesh, path)
    elif suffix in TEXTURED:
        WRITERS[suffix](mesh, path, textures)
    else:
        raise ConfigError(f"{suffix} files hold no textures; write a {' or '.join(TEXTURED)} file")
