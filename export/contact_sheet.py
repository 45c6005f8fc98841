"""An overview of ``faces.h5`` as one picture: a row per instance.

Columns: the angles of the views shown; the 2D GAN's image; the head turning under one light; the light moving
around the view nearest to the front; that view's maps; its projection through the GAN, if stored. Of many
views and lights some are shown; a line below says how many of what.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lift3d import pictures
from lift3d.errors import ConfigError
from lift3d.export.hdf5.reader import DatasetSample, open_dataset

ROWS = 16  # samples shown, unless told
TURNS = 4  # views shown, and lights
CELL = 256  # pixels; larger pictures are shrunk


def contact_sheet(path: Path | str, n: int = ROWS) -> pictures.Picture:
    """The first ``n`` done samples of a file."""
    if n < 1:
        raise ConfigError(f"contact sheet of {n} instances, expected at least 1")
    dataset = open_dataset(path)
    if not len(dataset):
        raise ConfigError(f"{path} has no finished samples; resume it, or write it again")
    some = dataset[:n]
    rows = [dict(_cells(sample)) for sample in some]
    numbers = [str(i) for i in some.indices]
    sheet = pictures.contact_sheet([list(row.values()) for row in rows], numbers, list(rows[0]))
    views, lights = len(some[0].cameras), len(some[0].lights)
    counts = ((len(some), len(dataset), "done samples"), (TURNS, views, "views"), (TURNS, lights, "lights"))
    shown = ", ".join(f"{min(part, whole)} of {whole} {name}" for part, whole, name in counts)
    return pictures.grid([[sheet], [pictures.label(f"shown: {shown}")]])


def write_contact_sheet(path: Path | str, out: Path | str, n: int = ROWS) -> int:
    """``contact_sheet`` as an image file; returns how many samples it shows."""
    pictures.save_image(out, contact_sheet(path, n))
    return min(n, len(open_dataset(path, maps=())))


def _cells(sample: DatasetSample) -> Iterator[tuple[str, pictures.Picture]]:
    """Label and picture of every column."""
    front = int(sample.cameras.rotation[:, 2, 2].argmax())
    middle = sample.colors.shape[1] // 2
    colors = sample.colors.numpy()
    angles = sample.cameras.to_view()[:, :3].rad2deg().round().int().tolist()
    lines = [f"{view}: yaw {angles[view][1]}°, pitch {angles[view][0]}°" for view in _some(len(colors))]
    yield "views", pictures.label("\n".join(lines))
    yield "GAN", _fit(sample.gan_image.numpy())
    for view in _some(len(colors)):
        yield f"view {view}", _fit(colors[view, middle])
    for light in _some(colors.shape[1]):
        yield f"light {light}", _fit(colors[front, light])
    mask = None if sample.mask is None else sample.mask[front].numpy()
    shown = {
        "albedo": lambda x: pictures.image_to_rgb(x.astype(np.float32) / 255, mask),
        "normals": lambda x: pictures.normals_to_rgb(x, mask),
        "specular": lambda x: pictures.gray_to_rgb(x, mask),
        "shininess": lambda x: pictures.scalar_to_rgb(x, 0.0, 100.0, mask),
        "depth": lambda x: pictures.depth_to_rgb(x, mask),
    }
    for name, picture in shown.items():
        if (maps := getattr(sample, name)) is not None:
            yield name, _fit(picture(maps[front].numpy()))
    if sample.colors_gan is not None:
        yield "through GAN", _fit(sample.colors_gan[front, middle].numpy())


def _some(n: int) -> list[int]:
    """At most TURNS of n numbers, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, TURNS)).round().astype(int)).tolist()


def _fit(picture: pictures.Picture) -> pictures.Picture:
    """Shrunk to CELL pixels."""
    if picture.shape[0] <= CELL:
        return picture
    return np.array(Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.BOX))
