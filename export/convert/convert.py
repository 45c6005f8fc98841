"""Write a dataset in another program's layout.

The folder appears whole or not at all. ``lift3d.json`` in it says what it is, and that it may be replaced.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lift3d import __version__
from lift3d.errors import ConfigError
from lift3d.export.convert import blenderproc, eg3d, nerf, png, usd, webdataset
from lift3d.export.convert.sample import IMAGES, Sample
from lift3d.export.hdf5.reader import describe, open_dataset
from lift3d.observer import Observer, observed
from lift3d.whole_file import replacing_folder

ABOUT, WRITTEN = "lift3d.json", "lift3d convert"


@dataclass(frozen=True)
class Format:
    """A layout."""

    write: Callable[[Path, Iterable[Sample]], None]  # into an empty folder
    maps: tuple[str, ...]  # that it has use for
    about: str


FORMATS = {
    "png": Format(png.write, IMAGES, "a folder of PNG files per sample, cameras.json"),
    "nerf": Format(nerf.write, ("colors", "depth", "mask"), "transforms.json per sample and light"),
    "eg3d": Format(eg3d.write, ("colors",), "dataset.json with 25 numbers per image"),
    "blenderproc": Format(
        blenderproc.write, ("colors", "albedo", "depth", "normals", "mask"), "an HDF5 file per image"
    ),
    "webdataset": Format(webdataset.write, IMAGES, "tar shards, an item per view"),
    "usd": Format(usd.write, ("colors",), "a scene per sample: mesh, cameras, lights"),
}


@dataclass(frozen=True)
class ConvertReport:
    """What was written."""

    samples: int
    unfinished: int  # samples of the dataset that are not done, and so were left out
    files: int
    nbytes: int


def convert(
    path: Path | str,
    kind: str,
    out: Path | str,
    numbers: Sequence[int] | None = None,
    split: str | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> ConvertReport:
    """Write the samples ``numbers`` of a dataset, by default all that are done, to the folder ``out``;
    of one part of the split if ``split`` names it.

    Raises ``ConfigError`` for an unknown format, for samples that are not there or not done, and where
    ``out`` is not to be replaced: ``overwrite`` replaces what an earlier conversion wrote, and nothing else.
    """
    if kind not in FORMATS:
        raise ConfigError(f"format is {kind!r}, expected one of {', '.join(FORMATS)}")
    format_, about = FORMATS[kind], describe(Path(path))
    present = {info.name for info in about.datasets}
    faces = open_dataset(path, maps=[name for name in format_.maps if name in present], split=split)
    places = faces.places(numbers)
    described = {
        "written_by": WRITTEN,
        "generator": f"lift3d {__version__}",
        "format": kind,
        "layout": format_.about,
        "source": Path(path).name,
        "samples": faces.indices[places].tolist(),
        "license": about.license,
    }
    if not overwrite and Path(out).is_dir() and any(Path(out).iterdir()):
        raise ConfigError(f"{out} exists; --overwrite replaces it")
    with replacing_folder(out, lambda folder: overwrite and _ours(folder)) as folder:
        samples = observed(observer, f"converting to {kind}", places)
        format_.write(folder, (Sample.of(faces[i], partial(faces.mesh, i)) for i in samples))
        (folder / ABOUT).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    unfinished = about.planned - about.done if numbers is None else 0
    return ConvertReport(len(places), unfinished, len(sizes), sum(sizes))


def _ours(folder: Path) -> bool:
    """Whether an earlier conversion wrote a folder."""
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8"))["written_by"] == WRITTEN
    except (OSError, ValueError, KeyError, TypeError):
        return False
