"""STL files of meshes: binary, shape alone."""

from pathlib import Path

import trimesh

from lift3d.scene.mesh import Mesh
from lift3d.whole_file import require_suffix, write_whole


def write_stl(mesh: Mesh, path: Path | str) -> None:
    """Write the triangles of a mesh."""
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    write_whole(require_suffix(path, ".stl"), shape.export(file_type="stl"))
