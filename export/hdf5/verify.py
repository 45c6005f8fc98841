"""Check ``faces.h5``: schema, attributes, checksums, and what its numbers promise each other.

Every check returns findings, sentences about one dataset; none means the file keeps its word. Tolerances
follow from storage (uint8, float16) or, where views are compared, from the size of a pixel's footprint on the
object.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import NDArray

from lift3d.errors import CorruptFile
from lift3d.export.hdf5.reader import dataset_names, open_file, read_array
from lift3d.export.hdf5.schema import REQUIRED, SPECS, UNCHECKED, checksum
from lift3d.observer import Observer, SilentObserver

UNIT_LENGTH = 2e-3  # float16 components: 2^-11 each
COLOR = 0.5 / 255 + 1e-5  # colors are rounded to 8 bits, everything else in the identity is exact
DEPTH = 0.005  # median error of depth between views, world units; volume renderers are that unsharp
DEPTH_PIXELS = 0.1  # and of interpolation, in footprints of a pixel
LOST = 0.02  # share of points that may miss the other view's silhouette by more than a pixel
FACING = 0.5  # cosine above which a point is expected to be seen by the other camera
ENOUGH = 30  # points whose median is worth a word


@dataclass(frozen=True)
class Finding:
    """Something wrong."""

    dataset: str
    sample: int | None  # None: the file as a whole
    problem: str


@dataclass(frozen=True)
class VerifyReport:
    """What ``verify`` saw."""

    path: Path
    samples: int  # checked
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


Arrays = dict[str, NDArray]  # of one sample, by dataset name
Problems = Iterator[tuple[str, str]]  # (dataset, problem)


def verify(path: Path | str, observer: Observer | None = None) -> VerifyReport:
    """Check the file and all its done samples."""
    observer, findings = observer or SilentObserver(), []
    with open_file(Path(path)) as h5:
        indices = np.flatnonzero(h5["done"][:])
        findings += [Finding(name, None, problem) for name, problem in _schema(h5)]
        if findings:  # the checks below need the datasets they read
            return VerifyReport(Path(path), 0, tuple(findings))
        findings += [Finding(name, None, problem) for name, problem in _attributes(h5)]
        observer.start("samples", len(indices))
        for i in indices:
            try:
                arrays = {name: read_array(h5, name, int(i)) for name in dataset_names(h5)}
                found = [(name, problem) for check in CHECKS for name, problem in check(arrays)]
            except CorruptFile as error:
                found = [("checksum", str(error))]
            findings += [Finding(name, int(i), problem) for name, problem in found]
            observer.advance()
        observer.finish()
    return VerifyReport(Path(path), len(indices), tuple(findings))


def _schema(h5: h5py.File) -> Problems:
    names = dataset_names(h5)
    for name in REQUIRED:
        if name not in names:
            yield name, "is missing"
    for name in names:
        if name not in SPECS:
            yield name, "is not part of the format"
            continue
        dataset, spec = h5[name], SPECS[name]
        if dataset.dtype != np.dtype(spec.dtype) or dataset.ndim != len(spec.shape):
            yield (
                name,
                f"is {dataset.dtype} of {dataset.ndim} axes, expected {spec.dtype} of {len(spec.shape)}",
            )
        if not spec.ragged and len(dataset) != len(h5["done"]):
            yield name, f"has {len(dataset)} samples, expected {len(h5['done'])}"


def _attributes(h5: h5py.File) -> Problems:
    for name in dataset_names(h5):
        for attribute, wanted in SPECS[name].attributes.items():
            if (found := h5[name].attrs.get(attribute)) != wanted:
                yield name, f"attribute {attribute} is {found!r}, the format says {wanted!r}"


def _bytes(arrays: Arrays) -> Problems:
    if checksum({n: a for n, a in arrays.items() if n not in UNCHECKED}) != int(arrays["checksum"]):
        yield "checksum", "differs from the values stored: the sample was damaged after it was written"


def _finite(arrays: Arrays) -> Problems:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield name, "has values that are NaN or infinite"


def _background(arrays: Arrays) -> Problems:
    """Every map is 0 outside the mask; depth and shininess are not 0 inside it."""
    if "mask" not in arrays:
        return
    mask = arrays["mask"]
    if mask.max(initial=0) > 1:
        yield "mask", f"has the value {mask.max()}, expected 0 or 1"
    for name in (
        "albedo",
        "specular",
        "shininess",
        "diffuse_shading",
        "specular_shading",
        "depth",
        "normals",
    ):
        if name in arrays and arrays[name][~_inside(name, arrays)].any():
            yield name, "is not 0 outside the mask"
        if name in ("depth", "shininess") and name in arrays and (arrays[name][mask > 0] <= 0).any():
            yield name, "is not positive inside the mask"


def _normals(arrays: Arrays) -> Problems:
    if {"mask", "normals"} <= arrays.keys():
        normals = arrays["normals"][arrays["mask"] > 0].astype(np.float32)
        error = np.abs(np.linalg.norm(normals, axis=-1) - 1).max(initial=0)
        if not error <= UNIT_LENGTH:
            yield "normals", f"have lengths up to {error:.2g} away from 1, expected at most {UNIT_LENGTH}"


def _identity(arrays: Arrays) -> Problems:
    """colors / 255 = clip(albedo / 255 * diffuse_shading + specular_shading, 0, 1)."""
    if {"mask", "albedo", "diffuse_shading", "specular_shading"} <= arrays.keys():
        diffuse, specular = (
            arrays[f"{n}_shading"].astype(np.float32)[..., None] for n in ("diffuse", "specular")
        )
        predicted = np.clip(arrays["albedo"][:, None].astype(np.float32) / 255 * diffuse + specular, 0, 1)
        error = np.abs(predicted - arrays["colors"].astype(np.float32) / 255)[_inside("colors", arrays)]
        if not error.max(initial=0) <= COLOR:
            yield (
                "colors",
                f"are {255 * error.max():.2g} code values off albedo and shading, expected 0.5",
            )


def _cameras(arrays: Arrays) -> Problems:
    rotation = arrays["cam2world"][:, :3, :3].astype(np.float64)
    if np.abs(rotation @ rotation.mT - np.eye(3)).max() > 1e-4 or (np.linalg.det(rotation) < 0).any():
        yield "cam2world", "is not a rotation with a translation"
    if np.abs(np.linalg.norm(arrays["light_dir"], axis=-1) - 1).max() > 1e-4:
        yield "light_dir", "is not of unit length"


def _views(arrays: Arrays) -> Problems:
    """Every view, carried into the next, the last into the first: on the silhouette, at the depth there."""
    if not {"mask", "depth"} <= arrays.keys() or not np.isfinite(arrays["depth"]).all():
        return
    n_views, _, size = arrays["depth"].shape
    for a in range(n_views if n_views > 1 else 0):
        b = (a + 1) % n_views
        points, keep = _world_points(arrays, a)
        pixels, depth = _into_view(arrays, b, points)
        x, y = np.clip(np.floor(pixels).astype(int), 0, size - 1).T
        lost = 1 - _grow(arrays["mask"][b] > 0)[y, x].mean() if len(points) else 0.0
        if lost > LOST:
            yield "depth", f"of view {a}: {100 * lost:.0f} % of its points miss the object in view {b}"
        there, seen = _bilinear(arrays["depth"][b], arrays["mask"][b] > 0, pixels)
        if "normals" in arrays:  # leave out what view b does not see
            to_b = arrays["cam2world"][b, :3, 3] - points
            cosine = (arrays["normals"][a][keep] * to_b).sum(-1) / np.linalg.norm(to_b, axis=-1)
            seen &= cosine > FACING
        limit = DEPTH + DEPTH_PIXELS * np.median(depth) / arrays["cam_K"][b, 0, 0] if len(depth) else DEPTH
        if seen.sum() >= ENOUGH and (error := np.median(np.abs(depth - there)[seen])) > limit:
            yield "depth", f"of view {a} is {error:.2g} away from view {b}'s, expected at most {limit:.2g}"


def _meshes(arrays: Arrays) -> Problems:
    if "meshes/vertices" not in arrays:
        return
    faces, n = arrays["meshes/faces"], len(arrays["meshes/vertices"])
    if len(faces) and not 0 <= faces.min() <= faces.max() < n:
        yield "meshes/faces", f"name vertices {faces.min()}..{faces.max()}, the mesh has {n}"
    lengths = np.linalg.norm(arrays["meshes/normals"], axis=-1)
    if np.abs(lengths - 1).max(initial=0) > 1e-3:
        yield "meshes/normals", "are not of unit length"


CHECKS: Sequence[Callable[[Arrays], Problems]] = (
    _bytes, _finite, _background, _normals, _identity, _cameras, _views, _meshes,
)  # fmt: skip


def _inside(name: str, arrays: Arrays) -> NDArray:
    """The mask, per pixel of the dataset (without channels)."""
    mask = arrays["mask"] > 0
    if "light" not in SPECS[name].axes:
        return mask
    return np.broadcast_to(mask[:, None], arrays[name].shape[:4])


def _world_points(arrays: Arrays, view: int) -> tuple[Float[ndarray, "n 3"], Bool[ndarray, "h w"]]:
    """Surface points of one view in the world frame, row by row, and the pixels they came from."""
    keep = arrays["mask"][view] > 0
    y, x = np.nonzero(keep)
    z = arrays["depth"][view][keep].astype(np.float64)
    image = np.stack((x + 0.5, y + 0.5, np.ones_like(z)), -1)
    camera = image @ np.linalg.inv(arrays["cam_K"][view].astype(np.float64)).T * z[:, None]
    pose = arrays["cam2world"][view].astype(np.float64)
    return camera @ pose[:3, :3].T + pose[:3, 3], keep


def _into_view(
    arrays: Arrays, view: int, points: Float[ndarray, "n 3"]
) -> tuple[Float[ndarray, "n 2"], Float[ndarray, " n"]]:
    """Pixels (x, y) and z-depths of world points."""
    pose = arrays["cam2world"][view].astype(np.float64)
    camera = (points - pose[:3, 3]) @ pose[:3, :3]
    image = camera @ arrays["cam_K"][view].astype(np.float64).T
    return image[:, :2] / image[:, 2:], camera[:, 2]


def _bilinear(
    depth: Float[ndarray, "h w"], mask: Bool[ndarray, "h w"], pixels: Float[ndarray, "n 2"]
) -> tuple[Float[ndarray, " n"], Bool[ndarray, " n"]]:
    """Depth between pixel centers, and where all four neighbors are on the object."""
    size = len(depth)
    corner = np.clip(np.floor(pixels - 0.5).astype(int), 0, size - 2)
    u, v = np.clip(pixels - 0.5 - corner, 0.0, 1.0).T
    x, y = corner.T
    upper = depth[y, x] * (1 - u) + depth[y, x + 1] * u
    lower = depth[y + 1, x] * (1 - u) + depth[y + 1, x + 1] * u
    return upper * (1 - v) + lower * v, mask[y, x] & mask[y, x + 1] & mask[y + 1, x] & mask[y + 1, x + 1]


def _grow(mask: Bool[ndarray, "h w"]) -> Bool[ndarray, "h w"]:
    """The mask and its neighbors, diagonals too."""
    padded = np.pad(mask, 1)
    h, w = mask.shape
    return np.any([padded[i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)
