"""A folder of PNG files per sample, for any program and for people.

``000003/cameras.json`` says what is where: files, cameras (OpenCV axes, world y up, as in the dataset) and
lights. Colors, albedo and masks (0 or 255) have 8 bits; the other maps have 16, and value = offset + scale *
stored with the numbers of the file's ``maps``. Outside the mask depth is 0 and normals are (0, 0, 0).
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from lift3d.export.convert.images import quantized, write_png
from lift3d.export.convert.sample import Sample
from lift3d.export.hdf5.schema import SPECS

CONVENTIONS = {
    "cam2world": "OpenCV camera axes: x right, y down, z forward; world: x right, y up, z to the viewer",
    "K": "pixels; centers of pixels lie at +0.5",
    "direction": "of a light: unit, from the surface to the light, world frame",
    "maps": "value = offset + scale * stored, for the maps of 16 bits",
}
EIGHT_BITS = ("colors", "colors_gan", "albedo", "mask")


def write(folder: Path, samples: Iterable[Sample]) -> None:
    """All maps of all samples."""
    for sample in samples:
        cameras = zip(sample.k.tolist(), sample.cam2world.tolist())
        views = [{"K": k, "cam2world": pose, "files": {}} for k, pose in cameras]
        scales = {}
        for name, array in sample.maps.items():
            pixels, scale = stored(name, array)
            if scale:
                scales[name] = scale | {key: getattr(SPECS[name], key) for key in ("units", "space")}
            for view, light, image in sample.images(name, pixels):
                lit = "" if light is None else f"-light{light:03d}"
                file = f"view{view:03d}{lit}-{name}.png"
                write_png(folder / sample.name / file, image)
                files = views[view]["files"]
                files[name] = file if light is None else [*files.get(name, []), file]
        lights = [sample.light(i) for i in range(sample.n_lights)]
        about = {"sample": sample.number, "seed": sample.seed, "conventions": CONVENTIONS}
        about |= {"maps": scales, "views": views, "lights": lights}
        path = folder / sample.name / "cameras.json"
        path.write_text(json.dumps(about, indent=1), encoding="utf-8")


def stored(name: str, array: Shaped[ndarray, "*s"]) -> tuple[Shaped[ndarray, "*s"], dict[str, float]]:
    """A map's pixels, and what turns them into values again, if they are not the values."""
    if name in EIGHT_BITS:
        return (array * np.uint8(255) if name == "mask" else array), {}
    pixels, scale, offset = quantized(array, signed=name == "normals")
    return pixels, {"scale": scale, "offset": offset}
