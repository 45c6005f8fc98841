"""``dataset.json`` with 25 numbers per image, as EG3D reads it.

A label is the camera-to-world matrix (16 numbers, row by row; OpenCV camera axes, world y up) and K (9
numbers) of an image whose sides are 1 long, pixel centers at +0.5 / size. All images of a sample stand in one
folder, each view under each light.

EG3D's renderer has its own idea of the scene's size: ``rendering`` in ``dataset.json``, which EG3D does not
read, says what to set in its ``rendering_options`` for cameras as far away as these.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lift3d.export.convert.cameras import unit_intrinsics
from lift3d.export.convert.images import write_png
from lift3d.export.convert.sample import Sample


def write(folder: Path, samples: Iterable[Sample]) -> None:
    """All images, and their labels."""
    labels, distances = [], []
    for sample in samples:
        poses = sample.cam2world.astype(np.float64)
        lenses = unit_intrinsics(sample.k, sample.size)
        numbers = np.concatenate((poses.reshape(-1, 16), lenses.reshape(-1, 9)), 1)
        distances += np.linalg.norm(poses[:, :3, 3], axis=-1).tolist()
        for view, light, image in sample.images("colors", sample.maps["colors"]):
            file = f"{sample.name}/view{view:03d}-light{light:03d}.png"
            write_png(folder / file, image)
            labels.append([file, numbers[view].tolist()])
    rendering = {
        "box_warp": 2.0,  # side of the cube with features: the object lies in the unit sphere
        "ray_start": min(distances) - 1.0,
        "ray_end": max(distances) + 1.0,
        "avg_camera_radius": float(np.mean(distances)),
        "avg_camera_pivot": [0.0, 0.0, 0.0],
    }
    text = json.dumps({"labels": labels, "rendering": rendering})
    (folder / "dataset.json").write_text(text, encoding="utf-8")
