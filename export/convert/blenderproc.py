"""One HDF5 file per image with the keys, ranges and frames of BlenderProc's writer.

``000003/0.hdf5`` and so on: frame number = view * lights + light. Keys: ``colors``, ``diffuse`` (albedo),
``depth`` (z-depth, 1e10 where there is nothing), ``normals`` ((n + 1) / 2 in the camera's OpenGL axes, 0.5
where there is nothing), ``segmap`` (1: the object), and JSON as bytes: ``campose`` (cam2world in OpenGL axes,
Blender's world with z up), ``camera_pose`` (its inverse in OpenCV axes) and ``light_states``. In ``cam_K``
pixel centers are integers.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.export.convert.cameras import Z_UP, centers_at_integers, opengl, z_up
from lift3d.export.convert.sample import Sample

NOWHERE = 1e10  # Blender's depth of the background


def write(folder: Path, samples: Iterable[Sample]) -> None:
    """All images of all samples."""
    for sample in samples:
        (folder / sample.name).mkdir()
        for view in range(sample.n_views):
            per_view = _maps(sample, view) | _camera(sample, view)
            for light in range(sample.n_lights):
                file = folder / sample.name / f"{view * sample.n_lights + light}.hdf5"
                arrays = {"colors": sample.maps["colors"][view, light], **per_view, **_light(sample, light)}
                with h5py.File(file, "w") as h5:
                    for name, array in arrays.items():
                        storage = {} if array.dtype.kind == "S" else {"compression": "gzip"}
                        h5.create_dataset(name, data=array, **storage)


def _maps(sample: Sample, view: int) -> dict[str, NDArray]:
    """What every light shares."""
    maps, inside = {}, sample.mask(view)
    if "albedo" in sample.maps:
        maps["diffuse"] = sample.maps["albedo"][view]
    if "depth" in sample.maps:
        depth = sample.maps["depth"][view]
        maps["depth"] = np.where(inside & (depth > 0), depth, np.float32(NOWHERE))
    if "normals" in sample.maps:
        local = sample.maps["normals"][view] @ opengl(sample.cam2world[view])[:3, :3]
        maps["normals"] = np.where(inside[..., None], (local.clip(-1, 1) + 1) / 2, 0.5).astype(np.float32)
    if "mask" in sample.maps:
        maps["segmap"] = inside.astype(np.uint8)
    return maps


def _camera(sample: Sample, view: int) -> dict[str, NDArray]:
    k = centers_at_integers(sample.k[view])
    pose = z_up(sample.cam2world[view])
    inverse = np.linalg.inv(pose)
    state = {"cam2world_matrix": opengl(pose).tolist(), "cam_K": k.tolist()}
    seen = {
        "cam_K": k.ravel().tolist(),
        "cam_R_w2c": inverse[:3, :3].ravel().tolist(),
        "cam_t_w2c": inverse[:3, 3].tolist(),
    }
    return {"campose": _json([state]), "camera_pose": _json(seen)}


def _light(sample: Sample, light: int) -> dict[str, NDArray]:
    direction = (Z_UP @ sample.light_dir[light]).tolist()
    return {"light_states": _json([sample.light(light) | {"direction": direction}])}


def _json(value: object) -> NDArray:
    """JSON as BlenderProc stores it."""
    return np.array(np.bytes_(json.dumps(value)))
