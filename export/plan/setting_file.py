"""Views and lights of one's own, in a JSON or TOML file.

    {"fov": 40, "distance": 3.5, "axes": "opencv",
     "views":  [{"yaw": 30, "pitch": 10, "roll": 0}, {"cam2world": [[...], [...], [...], [0, 0, 0, 1]]}],
     "lights": [{"direction": [1, 0, 0], "diffuse": 0.7, "ambient": 0.0}]}

``fov`` is the vertical field of view in degrees (12 unless told), ``distance`` that of the views given by
angles (degrees) from the center. ``axes`` are those of all matrices, "opencv" (x right, y down, z forward) or
"opengl" (x right, y up, z backward); matrices need it, as a wrong guess would look away from the object.
Directions point from the surface to the light, in the world frame; any length but 0.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from lift3d.errors import ConfigError
from lift3d.export.plan.syntax import AT_MOST, number
from lift3d.scene import cameras as scene
from lift3d.scene.cameras import FOV_DEG, Cameras
from lift3d.scene.lights import Lights
from lift3d.settings import shown

MAX_BYTES = 64 << 20
TOP = ("fov", "distance", "axes", "views", "lights")
ANGLES = ("yaw", "pitch", "roll", "distance")
LIGHT = ("direction", "ambient", "diffuse", "negative")


def read_views(path: str | Path, fovs: tuple[float, float]) -> Cameras:
    """The cameras [v] of a file, of a field of view within ``fovs``. ``ConfigError`` names what is wrong."""
    given = _read(path)
    fov = number(f"{path}: fov", given.get("fov", FOV_DEG), *fovs)
    matrices = []
    for i, entry in enumerate(_entries(path, given, "views")):
        where = f"{path}, view {i}"
        if "cam2world" in entry:
            _refuse_others(where, entry, ("cam2world",))
            matrices.append(_matrix(where, entry["cam2world"], given.get("axes")))
        else:
            _refuse_others(where, entry, ANGLES)
            away = entry.get("distance", given.get("distance", scene.distance(fov)))
            away = number(f"{where}: distance", away)
            yaw, pitch, roll = (np.radians(number(f"{where}: {k}", entry.get(k, 0.0))) for k in ANGLES[:3])
            view = torch.tensor([pitch, yaw, roll, 0.0, 0.0, scene.distance(fov) - away], dtype=torch.float64)
            matrices.append(Cameras.from_view(view, fov).cam2world())
    try:
        return Cameras.from_cam2world(torch.stack(matrices).float(), "opencv", fov)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_lights(path: str | Path, ambient: float, diffuse: float, limits: tuple[float, float]) -> Lights:
    """The lights [l] of a file; ``ambient`` and ``diffuse`` where it does not say them, all coefficients
    within ``limits``. ``ConfigError`` names the entry that is wrong.
    """
    usual, rows = {"ambient": ambient, "diffuse": diffuse, "negative": 0.0}, []
    for i, entry in enumerate(_entries(path, _read(path), "lights")):
        where = f"{path}, light {i}"
        _refuse_others(where, entry, LIGHT)
        direction = _numbers(f"{where}: direction", entry.get("direction"), (3,))
        if not direction.any():
            raise ConfigError(f"{where}: direction is 0, expected a vector from the surface to the light")
        rows.append(
            [*direction / np.linalg.norm(direction)]
            + [number(f"{where}: {name}", entry.get(name, value), *limits) for name, value in usual.items()]
        )
    lights = torch.tensor(rows, dtype=torch.float32)
    return Lights.from_direction(lights[:, :3], *lights[:, 3:].unbind(-1))


def _read(path: str | Path) -> dict:
    """The table that a file holds. ``ConfigError`` for other content."""
    path = Path(path)
    if path.suffix.lower() not in (".json", ".toml"):
        raise ConfigError(f"{path} has the ending {shown(path.suffix)}, expected .json or .toml")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
        given = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of UTF-8, JSON and TOML
        raise ConfigError(f"{path} is no {path.suffix[1:].upper()} file: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{path} holds {shown(given)}, expected a table with views or lights")
    _refuse_others(str(path), given, TOP)
    return given


def _entries(path: str | Path, given: Mapping, name: str) -> list[dict]:
    """A list of tables with at least one of them."""
    entries = given.get(name)
    if not isinstance(entries, list) or not 1 <= len(entries) <= AT_MOST:
        raise ConfigError(f"{path}: {name} is {shown(entries)}, expected a list of 1 to {AT_MOST:,} tables")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: {name}[{i}] is {shown(entry)}, expected a table")
    return entries


def _refuse_others(where: str, table: Mapping, known: tuple[str, ...]) -> None:
    if unknown := [key for key in table if key not in known]:
        raise ConfigError(f"{where}: {shown(unknown[0])} is unknown, expected {', '.join(known)}")


def _numbers(name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """A list, or a list of lists, of finite numbers as an array."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise ConfigError(f"{name} is {shown(value)}, expected {' x '.join(map(str, shape))} numbers")
    return array


def _matrix(where: str, value: object, axes: object) -> torch.Tensor:
    """A cam2world matrix in OpenCV axes; a rotation in few digits becomes the nearest exact one."""
    if axes not in scene.AXES:
        raise ConfigError(
            f"{where}: axes are {shown(axes)}, expected {' or '.join(map(repr, scene.AXES))} at the top of a "
            "file with matrices"
        )
    matrix = _numbers(f"{where}: cam2world", value, (4, 4))
    u, scale, v = np.linalg.svd(matrix[:3, :3])
    if np.abs(scale - 1).max() < 1e-3:
        matrix[:3, :3] = u @ v
    matrix[:3, :3] *= np.array([*scene.AXES[axes]]) * np.array([*scene.AXES["opencv"]])
    return torch.from_numpy(matrix)
