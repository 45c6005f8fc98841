"""Triangle meshes in the world frame, as numpy arrays: what exporters, viewers and scipy want.

Faces run counter-clockwise seen from outside: normals point outwards and the signed volume is positive. Every
function returns a new mesh; vertex attributes follow their vertices.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lift3d.errors import ConfigError, Lift3DError, optional

_SIMPLIFY = Lock()  # fast_simplification has one mesh at a time, in global variables


@dataclass(frozen=True, repr=False)
class Mesh:
    """Vertices, faces and optional attributes per vertex (materials as in ``shading.Material``)."""

    vertices: Float32[ndarray, "n 3"]
    faces: Int32[ndarray, "m 3"]
    normals: Float32[ndarray, "n 3"] | None = None  # unit
    albedo: Float32[ndarray, "n 3"] | None = None  # [0, 1], display-referred
    specular: Float32[ndarray, " n"] | None = None  # [0, 1]
    shininess: Float32[ndarray, " n"] | None = None  # 4..100

    def attributes(self) -> dict[str, ndarray]:
        """The vertex attributes that are present, by field name."""
        names = [field.name for field in fields(self) if field.name not in ("vertices", "faces")]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def save(self, path: Path | str) -> None:
        """Writes a .glb, .obj, .ply or .stl file, the material at the vertices (``lift3d.write_mesh``)."""
        from lift3d import write_mesh

        write_mesh(path, self)

    def __repr__(self) -> str:
        names = ", ".join(self.attributes())
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces; {names or 'no attributes'})"


@dataclass(frozen=True)
class MeshReport:
    """What is right and wrong with a mesh. An edge is undirected and counted once."""

    n_vertices: int  # referenced by a face
    n_edges: int
    n_faces: int
    n_components: int  # of the surface, joined by edges
    boundary_edges: int  # of one face
    nonmanifold_edges: int  # of three faces or more
    inconsistent_edges: int  # of two faces that run through it in the same direction
    repeated_corners: int  # faces that name a vertex twice
    volume: float  # signed; meaningful where watertight

    @property
    def watertight(self) -> bool:
        """Every edge joins exactly two faces."""
        return self.n_faces > 0 and not (
            self.boundary_edges or self.nonmanifold_edges or self.repeated_corners
        )

    @property
    def solid(self) -> bool:
        """Watertight, with faces that agree on the outside, which is outside."""
        return self.watertight and not self.inconsistent_edges and self.volume > 0

    @property
    def euler(self) -> int:
        """V - E + F: 2 per sphere, 0 per torus."""
        return self.n_vertices - self.n_edges + self.n_faces


def require_material(mesh: Mesh, why: str) -> None:
    """``ConfigError`` where albedo, specular or shininess is missing, and ``why`` they are needed."""
    if missing := [name for name in ("albedo", "specular", "shininess") if getattr(mesh, name) is None]:
        raise ConfigError(f"mesh has no {', '.join(missing)}: {why}")


def face_normals(mesh: Mesh) -> Float64[ndarray, "m 3"]:
    """Normals whose length is twice the face's area."""
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces.T]
    return np.cross(b - a, c - a)


def vertex_normals(mesh: Mesh) -> Float32[ndarray, "n 3"]:
    """Unit means of the adjacent faces' normals, weighted by area; 0 at unreferenced vertices."""
    corners, per_face = mesh.faces.ravel(), np.repeat(face_normals(mesh), 3, axis=0)
    total = np.stack(
        [np.bincount(corners, weights=axis, minlength=len(mesh.vertices)) for axis in per_face.T], -1
    )
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    return (total / np.where(length > 0, length, 1.0)).astype(np.float32)


def face_volumes(mesh: Mesh) -> Float64[ndarray, " m"]:
    """Signed volumes of the tetrahedra of faces and origin; they add up to the volume of a closed mesh."""
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces.T]
    return (a * np.cross(b, c)).sum(-1) / 6.0


def select_vertices(mesh: Mesh, index: Int[ndarray, " k"], faces: Int[ndarray, "j 3"]) -> Mesh:
    """The vertices ``index`` of ``mesh`` with their attributes, under new ``faces``."""
    attributes = {name: array[index] for name, array in mesh.attributes().items()}
    return Mesh(mesh.vertices[index], faces.astype(np.int32), **attributes)


def drop_unreferenced(mesh: Mesh) -> Mesh:
    """Without the vertices that no face names; the order of the others stays."""
    named = np.zeros(len(mesh.vertices), bool)
    named[mesh.faces] = True
    if named.all():
        return mesh
    return select_vertices(mesh, np.flatnonzero(named), (named.cumsum() - 1)[mesh.faces])


def keep_faces(mesh: Mesh, keep: Bool[ndarray, " m"]) -> Mesh:
    """The chosen faces and the vertices they name."""
    if keep.all():
        return mesh
    return drop_unreferenced(replace(mesh, faces=mesh.faces[keep]))


def face_components(mesh: Mesh) -> Int[ndarray, " m"]:
    """Component of every face; faces that share an edge are connected."""
    a, b, _ = _adjacent_faces(mesh.faces)
    return _components(len(mesh.faces), a, b)


def largest_component(mesh: Mesh) -> Mesh:
    """The component with the largest area."""
    label = face_components(mesh)
    area = np.bincount(label, weights=np.linalg.norm(face_normals(mesh), axis=-1))
    return keep_faces(mesh, label == area.argmax()) if len(area) else mesh


def consistent_winding(mesh: Mesh) -> Mesh:
    """Faces turned so that neighbors agree and every component encloses a positive volume.

    Vertex normals are kept: they come from the surface, not from the winding. Raises where a surface has one
    side only.
    """
    n_faces = len(mesh.faces)
    a, b, agree = _adjacent_faces(mesh.faces)
    if agree.all() and (np.bincount(_components(n_faces, a, b), weights=face_volumes(mesh)) > 0).all():
        return mesh
    # Two nodes per face: f "as it is" and f + n "turned". An edge links the states of its faces that agree,
    # so the two orientations of a surface are two components of this graph.
    turned_b = np.where(agree, b, b + n_faces)
    label = _components(
        2 * n_faces, np.r_[a, a + n_faces], np.r_[turned_b, (turned_b + n_faces) % (2 * n_faces)]
    )
    as_is, turned = label[:n_faces], label[n_faces:]
    if np.any(as_is == turned):
        raise Lift3DError(
            f"mesh: {int((as_is == turned).sum())} faces lie on a one-sided surface, expected an outside; "
            "remove the faces that twist it"
        )
    volume = np.bincount(label, weights=np.r_[face_volumes(mesh), -face_volumes(mesh)])
    flip = volume[turned] > volume[as_is]
    return replace(mesh, faces=np.where(flip[:, None], mesh.faces[:, ::-1], mesh.faces))


def clean(mesh: Mesh) -> Mesh:
    """What export wants: no face that repeats a corner, the largest component, outward winding."""
    mesh = keep_faces(mesh, ~_repeats_corner(mesh.faces))
    a, b, agree = _adjacent_faces(mesh.faces)
    if _components(len(mesh.faces), a, b).any() or not (agree.all() and face_volumes(mesh).sum() > 0):
        mesh = consistent_winding(largest_component(mesh))
    return mesh


def report(mesh: Mesh) -> MeshReport:
    """Counts of everything that can be wrong with a mesh's topology."""
    faces = mesh.faces
    edges, count = np.unique(np.sort(_half_edges(faces), axis=-1), axis=0, return_counts=True)
    _, _, agree = _adjacent_faces(faces)
    return MeshReport(
        n_vertices=len(np.unique(faces)),
        n_edges=len(edges),
        n_faces=len(faces),
        n_components=len(np.unique(face_components(mesh))),
        boundary_edges=int((count == 1).sum()),
        nonmanifold_edges=int((count > 2).sum()),
        inconsistent_edges=int((~agree).sum()),
        repeated_corners=int(_repeats_corner(faces).sum()),
        volume=float(face_volumes(mesh).sum()),
    )


def decimate(mesh: Mesh, n_faces: int) -> Mesh:
    """About ``n_faces`` faces by quadric edge collapse; a mesh that is small enough is returned as it is.

    Attributes are read off the old mesh, weighted by inverse distance over the three nearest vertices.
    """
    if n_faces < 4:
        raise ConfigError(f"decimate: {n_faces} faces asked for, expected at least 4")
    if n_faces >= len(mesh.faces):
        return mesh
    package = optional(
        "fast_simplification", "decimating a mesh needs a package: pip install fast-simplification"
    )
    with _SIMPLIFY:
        vertices, faces = package.simplify(mesh.vertices, mesh.faces, target_count=n_faces)
    small = drop_unreferenced(Mesh(np.asarray(vertices, np.float32), np.asarray(faces, np.int32)))
    return replace(small, **resample(mesh, small.vertices).attributes()) if mesh.attributes() else small


def resample(mesh: Mesh, points: Float32[ndarray, "k 3"]) -> Mesh:
    """Points near a mesh, without faces, with its attributes: means over the three nearest vertices, weighted
    by inverse distance.
    """
    distance, nearest = cKDTree(mesh.vertices).query(points, k=3)
    weights = 1.0 / (distance + 1e-9)
    weights /= weights.sum(-1, keepdims=True)
    attributes = {
        name: np.einsum("nk,nk...->n...", weights, array[nearest]).astype(np.float32)
        for name, array in mesh.attributes().items()
    }
    if "normals" in attributes:
        attributes["normals"] /= np.linalg.norm(attributes["normals"], axis=-1, keepdims=True).clip(1e-12)
    return Mesh(points, np.zeros((0, 3), np.int32), **attributes)


def _half_edges(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "3*m 2"]:
    """Directed edges, face by face."""
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def _repeats_corner(faces: Int[ndarray, "m 3"]) -> Bool[ndarray, " m"]:
    return (faces == np.roll(faces, 1, axis=-1)).any(-1)


def _adjacent_faces(
    faces: Int[ndarray, "m 3"],
) -> tuple[Int[ndarray, " e"], Int[ndarray, " e"], Bool[ndarray, " e"]]:
    """The two faces of every edge that has exactly two, and whether they agree on the outside.

    Faces that agree run through their common edge in opposite directions.
    """
    half = _half_edges(faces).astype(np.int64)
    one, other = half.T
    key = np.minimum(one, other) * (int(faces.max(initial=0)) + 1) + np.maximum(one, other)
    order = np.argsort(key)
    start = np.flatnonzero(np.diff(key[order], prepend=-1))
    count = np.diff(start, append=len(key))
    first, second = order[start[count == 2]], order[start[count == 2] + 1]
    return first // 3, second // 3, half[first, 0] != half[second, 0]


def _components(n: int, a: Int[ndarray, " e"], b: Int[ndarray, " e"]) -> Int[ndarray, " n"]:
    """Component of each of n nodes under the undirected edges (a, b)."""
    return connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n)), directed=False)[1]
