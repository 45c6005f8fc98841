"""A mesh in the format that its file is named for."""

from collections.abc import Callable
from pathlib import Path

from lift3d.defaults import UP
from lift3d.errors import ConfigError
from lift3d.export.meshes.axes import upright
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
