"""Check ``faces.h5``: schema, attributes, checksums, and what its numbers promise each other.

Checksums find what was damaged by accident, in every dataset but ``done``; the checks of checks.py and
surface_checks.py also find what somebody changed together with its checksum.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lift3d.errors import CorruptFile
from lift3d.export.hdf5.checks import GROUND, SHADING, VALUES, Arrays, Problems
from lift3d.export.hdf5.file import dataset_names, open_file, parsed, read_array, reading, schema_problems
from lift3d.export.hdf5.schema import SPECS, UNCHECKED, checksum
from lift3d.export.hdf5.surface_checks import SHARP, UNSHARP, check_surface
from lift3d.observer import Observer, observed


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
    findings = []
    with open_file(Path(path), checked=False) as h5:
        with reading(f"{path}: its header"):
            findings += [Finding(name, None, problem) for name, problem in schema_problems(h5)]
            if findings:  # the checks below need the datasets they read
                return VerifyReport(Path(path), 0, tuple(findings))
            findings += [Finding(name, None, problem) for name, problem in _attributes(h5)]
            indices, names = np.flatnonzero(h5["done"][:]), dataset_names(h5)
            plan = parsed(path, h5.attrs["config"]).get("plan")
            volume = isinstance(plan, dict) and plan.get("renderer") == "neus"
            tolerance = UNSHARP if volume else SHARP
        for i in observed(observer, "samples", indices.tolist()):
            try:
                arrays = {name: read_array(h5, name, i) for name in names}
                found = [*_bytes(arrays), *([] if quick else check_values(arrays, tolerance))]
            except CorruptFile as error:
                found = [("checksum", str(error))]
            findings += [Finding(name, i, problem) for name, problem in found]
    return VerifyReport(Path(path), len(indices), tuple(findings))


def check_values(arrays: Arrays, tolerance: float = SHARP) -> Iterator[tuple[str, str]]:
    """Problems of one sample besides its checksum; ``tolerance``: the error of depth in its renders."""
    with np.errstate(all="ignore"):  # numbers may be anything
        found = [problem for check in VALUES for problem in check(arrays)]
        yield from found
        if not {name for name, _ in found} & set(GROUND):
            yield from (problem for check in SHADING for problem in check(arrays))
            yield from check_surface(arrays, tolerance)


def _attributes(h5: h5py.File) -> Problems:
    for name in dataset_names(h5):
        attributes = h5[name].attrs
        for attribute, wanted in SPECS[name].attributes.items():
            if not isinstance(found := attributes.get(attribute), str) or found != wanted:
                yield name, f"attribute {attribute} is {found!r}, the format says {wanted!r}"
    background = np.asarray(h5["colors"].attrs.get("background"))
    is_color = background.shape == (3,) and background.dtype.kind == "f"
    if not is_color or not ((0 <= background) & (background <= 1)).all():
        yield "colors", f"attribute background is {background!r}, expected three numbers of 0..1"


def _bytes(arrays: Arrays) -> Problems:
    if checksum({n: a for n, a in arrays.items() if n not in UNCHECKED}) != int(arrays["checksum"]):
        yield "checksum", "differs from the values stored: the sample was damaged after it was written"
