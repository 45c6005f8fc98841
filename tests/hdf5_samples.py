"""Small samples for tests of the HDF5 writer; run as a program it fills a file until someone kills it.

It prints how many samples are safe, line by line.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.export.hdf5 import writer
from lift3d.export.hdf5.sample_file import Form, parts_folder
from lift3d.export.hdf5.schema import MAPS, UNCHECKED, Dimensions, stored
from lift3d.export.hdf5.writer import DatasetWriter, create

SPECS = stored(MAPS, gan=True, meshes=True, split=True)
ATTRIBUTES = {"config": "{}", "generator": "test", "created": "now", "license": "CC0-1.0"}
WHITE = (1.0, 1.0, 1.0)


def dimensions(n: int, **other: int) -> Dimensions:
    lengths = {"views": 2, "lights": 3, "size": 16, "gan_size": 8, "z": 4, "w": 5, "code": 6}
    return Dimensions(samples=n, **lengths | {"vertices": 40_000 * n, "faces": 40_000 * n} | other)


@functools.lru_cache(64)
def arrays(i: int, lengths: Dimensions) -> dict[str, NDArray]:
    """Sample i: random values, a mesh of random size (sometimes empty, sometimes several chunks)."""
    rng = np.random.default_rng(i)
    rows = {"vertices": int(rng.integers(0, 9000)), "faces": 0 if i % 5 == 0 else int(rng.integers(0, 9000))}
    found = {}
    for spec in SPECS:
        if spec.name not in UNCHECKED:
            shape = spec.extent(lengths)
            shape = (rows[spec.shape[0]], *shape[1:]) if spec.ragged else shape[1:]
            found[spec.name] = (rng.random(shape) * 120).astype(spec.dtype)
    return found


def make(path: Path, n: int, **other: int) -> Dimensions:
    os.close(create(path, Form(SPECS, dimensions(n, **other), ATTRIBUTES, WHITE), n))
    return dimensions(n, **other)


def fill(path: Path, lengths: Dimensions, progress: Callable[[int], None] = lambda safe: None) -> None:
    """Write the samples that are missing; ``progress`` is told how many are safe."""
    with DatasetWriter(path, threads=2) as file:
        for i in np.flatnonzero(~file.done):
            file.write(int(i), arrays(int(i), lengths))
            progress(int(file.done.sum()))


def check(path: Path, lengths: Dimensions, at_most: int | None = None) -> int:
    """Open with plain h5py; done samples (all, or the first, the last and some) must be what was written.

    Returns how many there are.
    """
    from lift3d.export.hdf5.file import read_array

    with h5py.File(path, "r") as h5:
        done = np.flatnonzero(h5["done"][:])
        some = (
            done
            if at_most is None
            else done[np.linspace(0, len(done) - 1, at_most).astype(int)]
            if len(done)
            else []
        )
        for i in some:
            for name, wanted in arrays(int(i), lengths).items():
                np.testing.assert_array_equal(read_array(h5, name, int(i)), wanted, err_msg=f"{name} of {i}")
        return len(done)


def kept(path: Path, lengths: Dimensions) -> set[int]:
    """Numbers of the samples that are in the file or beside it, each as it was written."""
    from lift3d.export.hdf5.reader import read_array

    found = set()
    for file in (path, *sorted(parts_folder(path).glob("*.h5"))):
        with h5py.File(file, "r") as h5:
            first = int(h5.attrs.get(writer.FIRST_ROW, 0))
            for row in np.flatnonzero(h5["done"][:]):
                for name, wanted in arrays(int(first + row), lengths).items():
                    np.testing.assert_array_equal(
                        read_array(h5, name, int(row)), wanted, err_msg=f"{name} of {row}"
                    )
                found.add(int(first + row))
    return found


if __name__ == "__main__":
    writer.PART_BYTES = int(sys.argv[3])
    fill(Path(sys.argv[1]), dimensions(int(sys.argv[2])), progress=lambda safe: print(safe, flush=True))
