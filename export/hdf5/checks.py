"""What the values of one sample promise: ranges, masks, unit vectors, and the shading equations.

A check takes a sample's arrays by dataset name and yields (dataset, problem); none means that the sample
keeps its word. Checks of ``VALUES`` hold for any numbers; those of ``SHADING`` (and of surface_checks.py)
need the datasets of ``GROUND`` to be without fault. Tolerances follow from storage: uint8, float16.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lift3d.export.hdf5.schema import SPECS

UNIT_LENGTH = 2e-3  # float16 components: 2^-11 each
COLOR = 0.5 / 255 + 1e-5  # colors are rounded to 8 bits, everything else in the identity is exact
HALF = 2.0**-11  # relative rounding of float16
MESH = ("meshes/faces", "meshes/vertices", "meshes/normals")
MASKED = ("albedo", "specular", "shininess", "diffuse_shading", "specular_shading", "depth", "normals")

Arrays = dict[str, NDArray]  # of one sample, by dataset name
Problems = Iterator[tuple[str, str]]  # (dataset, problem)
Check = Callable[[Arrays], Problems]


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
    for name in MASKED:
        if name in arrays and arrays[name][~inside(name, arrays)].any():
            yield name, "is not 0 outside the mask"
        if name in ("depth", "shininess") and name in arrays and not (arrays[name][mask > 0] > 0).all():
            yield name, "is not positive inside the mask"


def _unit_vectors(arrays: Arrays) -> Problems:
    if {"mask", "normals"} <= arrays.keys():
        normals = arrays["normals"][arrays["mask"] > 0].astype(np.float32)
        error = np.abs(np.linalg.norm(normals, axis=-1) - 1).max(initial=0)
        if not error <= UNIT_LENGTH:
            yield "normals", f"have lengths up to {error:.2g} away from 1, expected at most {UNIT_LENGTH}"
    if not np.abs(np.linalg.norm(arrays["light_dir"], axis=-1) - 1).max(initial=0) <= 1e-4:
        yield "light_dir", "is not of unit length"


def _cameras(arrays: Arrays) -> Problems:
    """Rigid poses, and intrinsics in pixels: a principal point inside the image."""
    pose, k = arrays["cam2world"].astype(np.float64), arrays["cam_K"].astype(np.float64)
    rotation, size = pose[:, :3, :3], arrays["colors"].shape[2]
    rigid = np.abs(rotation @ rotation.mT - np.eye(3)).max(initial=0) <= 1e-4
    rigid = rigid and (np.linalg.det(rotation) > 0).all() and (pose[:, 3] == (0, 0, 0, 1)).all()
    if not rigid:
        yield "cam2world", "is not a rotation with a translation"
    center, focal = k[:, :2, 2], k[:, (0, 1), (0, 1)]
    shape = (k[:, (1, 2, 2), (0, 0, 1)] == 0).all() and (k[:, 2, 2] == 1).all()
    if not (shape and (focal > 0).all() and (center > 0.25 * size).all() and (center < 0.75 * size).all()):
        yield "cam_K", f"is not a pinhole camera of {size} x {size} pixels"


def _ranges(arrays: Arrays) -> Problems:
    """Angles in radians, seeds in 32 bits, faces that name vertices."""
    if not np.abs(arrays["gan_view"][:3]).max(initial=0) <= np.pi:
        yield "gan_view", f"has the angle {np.abs(arrays['gan_view'][:3]).max():.3g}, expected radians"
    if not 0 <= int(arrays["seed"]) < 2**32:
        yield "seed", f"is {arrays['seed']}, expected 0 to 2^32 - 1"
    if "meshes/vertices" not in arrays:
        return
    faces, n = arrays["meshes/faces"], len(arrays["meshes/vertices"])
    if len(faces) and not 0 <= faces.min() <= faces.max() < n:
        yield "meshes/faces", f"name vertices {faces.min()}..{faces.max()}, the mesh has {n}"
    lengths = np.linalg.norm(arrays["meshes/normals"], axis=-1)
    if not np.abs(lengths - 1).max(initial=0) <= 1e-3:
        yield "meshes/normals", "are not of unit length"


def _identity(arrays: Arrays) -> Problems:
    """colors / 255 = clip(albedo / 255 * diffuse_shading + specular_shading, 0, 1)."""
    if {"mask", "albedo", "diffuse_shading", "specular_shading"} <= arrays.keys():
        shading = (arrays[f"{name}_shading"] for name in ("diffuse", "specular"))
        diffuse, specular = (array.astype(np.float32)[..., None] for array in shading)
        predicted = np.clip(arrays["albedo"][:, None].astype(np.float32) / 255 * diffuse + specular, 0, 1)
        error = np.abs(predicted - arrays["colors"].astype(np.float32) / 255)[inside("colors", arrays)]
        if not error.max(initial=0) <= COLOR:
            off = f"{255 * error.max():.2g} code values off"
            yield "colors", f"are {off} albedo and shading, expected 0.5"


def _diffuse(arrays: Arrays) -> Problems:
    """diffuse_shading = light_ambient + light_diffuse max(n.l, 0) + light_negative min(n.l, 0)."""
    if not {"mask", "normals", "diffuse_shading"} <= arrays.keys():
        return
    cosine, (ambient, diffuse, negative) = _cosine(arrays), _coefficients(arrays)
    predicted = ambient + diffuse * cosine.clip(0) + negative * cosine.clip(None, 0)
    error = np.abs(predicted - arrays["diffuse_shading"])
    limit = 2 * HALF * (np.abs(diffuse) + np.abs(negative)) + HALF * np.abs(predicted) + 1e-5
    yield from _beyond("diffuse_shading", "light_dir and normals", error, limit, arrays)


def _specular(arrays: Arrays) -> Problems:
    """specular_shading = specular light_diffuse max(r.v, 1e-4)^shininess where n.l > 0, else 0."""
    if not {"mask", "normals", "specular", "shininess", "specular_shading"} <= arrays.keys():
        return
    cosine, (_, diffuse, _) = _cosine(arrays), _coefficients(arrays)
    normals = arrays["normals"].astype(np.float64)[:, None]
    light = arrays["light_dir"].astype(np.float64)[:, None, None]
    mirrored = ((2 * cosine[..., None] * normals - light) * _to_camera(arrays)[:, None]).sum(-1).clip(1e-4)
    p, intensity = (arrays[n].astype(np.float64)[:, None] for n in ("shininess", "specular"))
    predicted = np.where(cosine > 0, intensity * diffuse * mirrored**p, 0)
    error = np.abs(predicted - arrays["specular_shading"])
    limit = 2 * HALF * np.abs(diffuse) * intensity * (4 * p + 2) + 1e-5  # d(r.v) is 4 times d(n) at most
    limit = np.where(np.abs(cosine) < 4 * HALF, np.inf, limit)  # where the light begins, rounding decides
    yield from _beyond("specular_shading", "light_dir, normals and material", error, limit, arrays)


GROUND = ("cam2world", "cam_K", "light_dir", "depth", "normals", *MESH)
VALUES: Sequence[Check] = (_finite, _background, _unit_vectors, _cameras, _ranges)
SHADING: Sequence[Check] = (_identity, _diffuse, _specular)


def inside(name: str, arrays: Arrays) -> NDArray:
    """The mask, per pixel of the dataset (without channels)."""
    mask = arrays["mask"] > 0
    if "light" not in SPECS[name].axes:
        return mask
    return np.broadcast_to(mask[:, None], arrays[name].shape[:4])


def rays(arrays: Arrays) -> NDArray:
    """World vectors [v, h, w, 3] from the cameras to the plane z = 1 in front of them, one per pixel."""
    size = arrays["colors"].shape[2]
    y, x = np.mgrid[:size, :size] + 0.5
    image = np.stack((x, y, np.ones_like(x)), -1)
    camera = image @ np.linalg.inv(arrays["cam_K"].astype(np.float64)).mT[:, None]
    return camera @ arrays["cam2world"].astype(np.float64)[:, None, :3, :3].mT


def _to_camera(arrays: Arrays) -> NDArray:
    """Unit vectors [v, h, w, 3] from the surface to the camera."""
    directions = rays(arrays)
    return -directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def _cosine(arrays: Arrays) -> NDArray:
    """n.l, [v, l, h, w]."""
    normals, lights = (arrays[name].astype(np.float64) for name in ("normals", "light_dir"))
    return np.einsum("vhwc,lc->vlhw", normals, lights)


def _coefficients(arrays: Arrays) -> list[NDArray]:
    """Ambient, diffuse and negative coefficients, [l, 1, 1] each."""
    names = ("ambient", "diffuse", "negative")
    return [arrays[f"light_{name}"].astype(np.float64)[:, None, None] for name in names]


def _beyond(name: str, of: str, error: NDArray, limit: NDArray, arrays: Arrays) -> Problems:
    """A problem where the error of a map exceeds its limit."""
    wrong = (error > limit) & inside(name, arrays)
    if wrong.any():
        worst = error[wrong].max()
        yield name, f"is up to {worst:.2g} off what {of} give, at {100 * wrong.mean():.2g} % of the pixels"
