"""Which axis of a mesh file points up: "y" as in the model, or "z".

A turn about x takes one to the other: our (x, y, z), y up, becomes (x, -z, y), z up.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from lift3d.errors import ConfigError
from lift3d.scene.mesh import Mesh

UPS = ("y", "z")


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
