"""Check ``faces.h5``: schema, attributes, checksums, and what its numbers promise each other.

Checksums find what was damaged by accident, in every dataset but ``done``; the checks of checks.py and
surface_checks.py also find what somebody changed together with its checksum.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lift3d.errors import CorruptFile
from lift3d.export.hdf5.checks import GROUND, SHADING, VALUES, Arrays, Problems
from lift3d.export.hdf5.reader import dataset_names, open_file, read_array
from lift3d.export.hdf5.schema import REQUIRED, SPECS, UNCHECKED, checksum
from lift3d.export.hdf5.surface_checks import SHARP, UNSHARP, check_surface
from lift3d.observer import Observer, SilentObserver


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


def verify(path: Path | str, observer: Observer | None = None, quick: bool = False) -> VerifyReport:
    """Check the file and all its done samples; ``quick``: schema, attributes and checksums only."""
    observer, findings = observer or SilentObserver(), []
    with open_file(Path(path)) as h5:
        findings += [Finding(name, None, problem) for name, problem in _schema(h5)]
        if findings:  # the checks below need the datasets they read
            return VerifyReport(Path(path), 0, tuple(findings))
        findings += [Finding(name, None, problem) for name, problem in _attributes(h5)]
        indices = np.flatnonzero(h5["done"][:])
        tolerance = UNSHARP if _renderer(h5) == "neus" else SHARP
        observer.start("samples", len(indices))
        for i in indices:
            try:
                arrays = {name: read_array(h5, name, int(i)) for name in dataset_names(h5)}
                found = [*_bytes(arrays), *([] if quick else check_values(arrays, tolerance))]
            except CorruptFile as error:
                found = [("checksum", str(error))]
            findings += [Finding(name, int(i), problem) for name, problem in found]
            observer.advance()
        observer.finish()
    return VerifyReport(Path(path), len(indices), tuple(findings))


def check_values(arrays: Arrays, tolerance: float = SHARP) -> Iterator[tuple[str, str]]:
    """Problems of one sample besides its checksum; ``tolerance``: the error of depth in its renders."""
    found = [problem for check in VALUES for problem in check(arrays)]
    yield from found
    if not {name for name, _ in found} & set(GROUND):
        yield from (problem for check in SHADING for problem in check(arrays))
        yield from check_surface(arrays, tolerance)


def _renderer(h5: h5py.File) -> str:
    """How the images were made, if the file says so."""
    try:
        return json.loads(h5.attrs["config"])["plan"]["renderer"]
    except (ValueError, KeyError, TypeError):
        return ""


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
    background = h5["colors"].attrs.get("background")
    if np.shape(background) != (3,) or not all(0 <= float(x) <= 1 for x in background):
        yield "colors", f"attribute background is {background!r}, expected three numbers of 0..1"


def _bytes(arrays: Arrays) -> Problems:
    if checksum({n: a for n, a in arrays.items() if n not in UNCHECKED}) != int(arrays["checksum"]):
        yield "checksum", "differs from the values stored: the sample was damaged after it was written"
