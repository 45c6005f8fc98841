"""What depth, normals, cameras and meshes of one sample promise each other: one surface.

Depth is carried into the world by the cameras. There it must lie in the unit sphere, be at right angles to
the normals, be seen by the other cameras at the depth that they store, and lie on the mesh. Tolerances come
from the data: chords of a curve miss it by the square of their length, so that of a pixel's footprint bounds
what is read between pixels, that of an edge what a mesh leaves out; averages bring their scatter. Views may
be anywhere; points that leave another view's frame are not looked for in it.

What no check of one file can find: depth scaled about the only camera of a sample without a mesh.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.ndimage import binary_dilation, map_coordinates

from lift3d.export.hdf5.checks import Arrays, Problems, rays
from lift3d.render.rasterize import get_rasterizer
from lift3d.render.rasterize.fragments import interpolate
from lift3d.scene.cameras import AXES, Cameras
from lift3d.scene.mesh import Mesh, vertex_normals

SPHERE = 1.02  # radius that the object lies in, rounding and volume renderers allowed for
SHARP, UNSHARP = 5e-4, 5e-3  # median error of depth in renders of meshes and of volumes, world units
PIXEL_CHORD, EDGE_CHORD = 1.0, 0.6  # and what is missed between pixels and by edges, times length squared
LOST = 0.02  # share of points that may miss another silhouette by more than a pixel
FACING = 0.5  # cosine above which a point is expected to be seen by the other camera
ENOUGH = 30  # points whose median is worth a word
APART = 40.0  # degrees between two views that are compared, if there are such views
TURN = 1.0  # degrees between the normals of depth and the stored ones, on average
SCALE = 0.01  # of depth: looked for by itself, as views close to each other hardly show it


@dataclass(frozen=True)
class Surface:
    """Depth in the world."""

    points: Float[ndarray, "v h w 3"]
    normals: Float[ndarray, "v h w 3"]  # by central differences, towards the camera; 0 where there are none
    inside: Bool[ndarray, "v h w"]
    footprint: float  # median side of a pixel on the surface

    @staticmethod
    def of(arrays: Arrays) -> "Surface":
        """The surface of a sample with depth."""
        depth, directions = arrays["depth"].astype(np.float64), rays(arrays)
        inside = arrays["mask"] > 0 if "mask" in arrays else depth > 0
        points = arrays["cam2world"][:, None, None, :3, 3] + directions * depth[..., None]
        focal = arrays["cam_K"][:, 0, 0].astype(np.float64)[:, None, None]
        footprint = float(np.median((depth / focal)[inside])) if inside.any() else 0.0
        return Surface(points, _normals(points, inside, directions), inside, footprint)


def _normals(
    points: Float[ndarray, "v h w 3"], inside: Bool[ndarray, "v h w"], rays: Float[ndarray, "v h w 3"]
) -> Float[ndarray, "v h w 3"]:
    found = np.zeros_like(points)
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    right = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    normal = np.cross(down, right)
    whole = inside[:, 1:-1, 1:-1] & inside[:, 2:, 1:-1] & inside[:, :-2, 1:-1]
    whole &= inside[:, 1:-1, 2:] & inside[:, 1:-1, :-2]
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal *= -np.sign((normal * rays[:, 1:-1, 1:-1]).sum(-1, keepdims=True))
    found[:, 1:-1, 1:-1] = np.where(whole[..., None] & (length > 0), normal / np.maximum(length, 1e-300), 0)
    return found


def check_surface(arrays: Arrays, error: float = SHARP) -> Problems:
    """Problems of one sample whose ``GROUND`` is without fault; ``error`` is the renderer's, of depth."""
    surface = Surface.of(arrays) if "depth" in arrays else None
    if found := [*_sphere(arrays, surface)]:  # other units: no tolerance below means anything
        yield from found
        return
    yield from _turned(arrays, surface)
    if surface:
        yield from _views(arrays, surface, error + PIXEL_CHORD * surface.footprint**2)
    yield from _mesh(arrays, error)


def _sphere(arrays: Arrays, surface: Surface | None) -> Problems:
    """Depth and meshes in world units: nothing is outside of the unit sphere."""
    if surface:
        farthest = np.linalg.norm(surface.points, axis=-1)[surface.inside].max(initial=0)
        if not farthest <= SPHERE:
            yield "depth", f"reaches {farthest:.3g} from the origin by its camera, expected at most 1 unit"
    if "meshes/vertices" in arrays:
        farthest = np.linalg.norm(arrays["meshes/vertices"], axis=-1).max(initial=0)
        if not farthest <= np.sqrt(3) * SPHERE:
            yield "meshes/vertices", f"reach {farthest:.3g} from the origin, expected coordinates of -1..1"


def _turned(arrays: Arrays, surface: Surface | None) -> Problems:
    """Normals are at right angles to the surface that depth shows, and a mesh's to its faces."""
    if surface and "normals" in arrays:
        for view, (found, wanted) in enumerate(zip(surface.normals, arrays["normals"].astype(np.float64))):
            use = found.any(-1) & wanted.any(-1)
            if (angle := rotation_between(found[use], wanted[use])) > TURN:
                yield "normals", f"of view {view} are turned by {angle:.1f} degrees against depth and camera"
    if len(arrays.get("meshes/faces", ())):
        mesh = Mesh(arrays["meshes/vertices"], arrays["meshes/faces"])
        found, wanted = (x.astype(np.float64) for x in (vertex_normals(mesh), arrays["meshes/normals"]))
        if (angle := rotation_between(found, wanted)) > TURN:
            yield "meshes/normals", f"are turned by {angle:.1f} degrees against the faces"


def rotation_between(a: Float[ndarray, "n 3"], b: Float[ndarray, "n 3"]) -> float:
    """Degrees that unit vectors a must be turned by to fit b best (Wahba's problem, by SVD), less what their
    scatter lets one expect; 0 for too few of them.

    Vectors that are far apart, at steps of the surface, are left out.
    """
    close = (a * b).sum(-1) > 0.5
    if close.sum() < ENOUGH:
        return 0.0 if len(a) < ENOUGH else 90.0
    a, b = a[close], b[close]
    u, _, vt = np.linalg.svd(b.T @ a)
    rotation = u @ np.diag((1.0, 1.0, np.linalg.det(u @ vt))) @ vt
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    scatter = np.sqrt(np.square(a @ rotation.T - b).sum(-1).mean() / len(a))
    return float(np.degrees(max(angle - 4 * scatter, 0)))


def _views(arrays: Arrays, surface: Surface, limit: float) -> Problems:
    """Every view, carried into another one: on the silhouette there, at the depth there."""
    pairs = list(_pairs(arrays))
    for a, b in pairs:
        lost, error = _carried(arrays, surface, a, b, 1.0)
        if lost > LOST:
            yield "depth", f"of view {a}: {100 * lost:.0f} % of its points miss the object in view {b}"
        elif len(error) >= ENOUGH and np.median(error) > limit:
            away = f"is {np.median(error):.2g} away from view {b}'s"
            yield "depth", f"of view {a} {away}, expected at most {limit:.2g}"
    errors = {
        s: np.concatenate([np.zeros(0), *(_carried(arrays, surface, a, b, s)[1] for a, b in pairs)])
        for s in (1 - SCALE, 1.0, 1 + SCALE)
    }
    medians = {s: float(np.median(e)) for s, e in errors.items() if len(e) >= ENOUGH}
    best = min(medians, key=medians.get, default=1.0)
    if best != 1.0 and len(medians) == 3 and medians[best] < medians[1.0] / 2:
        yield "depth", f"of all views fits together if it is multiplied by {best}"


def _pairs(arrays: Arrays) -> Iterator[tuple[int, int]]:
    """Every view, and the one whose direction is nearest to ``APART`` degrees from its own."""
    axes = arrays["cam2world"][:, :3, 2].astype(np.float64)
    apart = np.degrees(np.arccos(np.clip(axes @ axes.T, -1, 1)))
    score = np.abs(apart - APART)
    np.fill_diagonal(score, np.inf)
    if len(axes) > 1:
        yield from enumerate(score.argmin(-1).tolist())


def _carried(
    arrays: Arrays, surface: Surface, a: int, b: int, scale: float
) -> tuple[float, Float[ndarray, " n"]]:
    """Points of view a in view b, all depths times ``scale``: the share that misses the silhouette, of those
    in the frame, and errors of depth where b sees the surface.
    """
    use, center = surface.inside[a], arrays["cam2world"][a, :3, 3].astype(np.float64)
    points, normals = center + scale * (surface.points[a][use] - center), surface.normals[a][use]
    pose, size = arrays["cam2world"][b].astype(np.float64), len(use)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    image = local @ arrays["cam_K"][b].astype(np.float64).T
    pixels = image[:, :2] / np.where(np.abs(image[:, 2:]) > 1e-9, image[:, 2:], 1e-9)
    framed = (local[:, 2] > 0) & (pixels > 1).all(-1) & (pixels < size - 1).all(-1)
    x, y = np.clip(np.floor(pixels), 0, size - 1).astype(int).T
    hit = _grown(surface.inside[b])[y, x]
    lost = float(1 - hit[framed].mean()) if framed.sum() >= ENOUGH else 0.0
    there, seen = _bilinear(scale * arrays["depth"][b], surface.inside[b], pixels)
    to_b = pose[:3, 3] - points
    seen &= framed & ((normals * to_b).sum(-1) > FACING * np.linalg.norm(to_b, axis=-1))
    return lost, np.abs(local[:, 2] - there)[seen]


def _mesh(arrays: Arrays, error: float) -> Problems:
    """The mesh, seen by the cameras: the mask's silhouette, the stored depth."""
    vertices, faces = arrays.get("meshes/vertices"), arrays.get("meshes/faces")
    if vertices is None or ("mask" not in arrays and "depth" not in arrays):
        return
    masks = arrays["mask"] > 0 if "mask" in arrays else arrays["depth"] > 0
    edges = np.linalg.norm(vertices[faces[:, 0]] - vertices[faces[:, 1]], axis=-1)
    limit = error + EDGE_CHORD * float(np.square(np.median(edges)) if len(edges) else 0)
    scene = get_rasterizer("embree").prepare(torch.from_numpy(vertices), torch.from_numpy(faces))
    for view, mask in enumerate(masks):
        camera = _camera(arrays, view)
        fragments = scene.fragments(camera, len(mask))
        covered = fragments.mask[0].numpy()
        footprint = float(np.linalg.norm(camera.origins.numpy()) / arrays["cam_K"][view, 0, 0])
        band = 1 + min(int(limit / footprint), len(mask) // 8)
        beyond = (covered & ~_grown(mask, band)).sum() + (mask & ~_grown(covered, band)).sum()
        if beyond > LOST * max(mask.sum(), 1):
            share = 100 * beyond / max(mask.sum(), 1)
            yield "meshes/vertices", f"miss the mask of view {view} by {share:.0f} % of its pixels"
        elif "depth" in arrays and (both := mask & covered).sum() >= ENOUGH:
            position = interpolate(torch.from_numpy(vertices), torch.from_numpy(faces), fragments)
            depth = camera.z_depth(position.flatten(1, 2))[0].numpy().reshape(mask.shape)
            away = float(np.median(np.abs(depth - arrays["depth"][view])[both]))
            if away > limit:
                away = f"is {away:.2g} away from the mesh"
                yield "depth", f"of view {view} {away}, expected at most {limit:.2g}"


def _camera(arrays: Arrays, view: int) -> Cameras:
    """One camera; its frame is square and its principal point the center."""
    pose = torch.from_numpy(arrays["cam2world"][view].astype(np.float32))
    rotation = (pose[:3, :3] * pose.new_tensor(AXES["opencv"])).mT
    fov = np.degrees(2 * np.arctan2(arrays["colors"].shape[2] / 2, arrays["cam_K"][view, 1, 1]))
    return Cameras(rotation[None], -(rotation @ pose[:3, 3])[None], float(fov))


def _bilinear(
    depth: Float[ndarray, "h w"], inside: Bool[ndarray, "h w"], pixels: Float[ndarray, "n 2"]
) -> tuple[Float[ndarray, " n"], Bool[ndarray, " n"]]:
    """Depth between pixel centers, and where all neighbors that count are on the object."""
    rows = pixels.T[::-1] - 0.5
    there, seen = (map_coordinates(x.astype(float), rows, order=1, mode="nearest") for x in (depth, inside))
    return there, seen > 1 - 1e-6


def _grown(mask: Bool[ndarray, "h w"], by: int = 1) -> Bool[ndarray, "h w"]:
    """The mask and its neighbors, diagonals too, ``by`` pixels far."""
    return binary_dilation(mask, np.ones((3, 3)), by)
