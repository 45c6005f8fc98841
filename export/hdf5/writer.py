"""Write ``faces.h5`` part by part, so that a run may end at any moment.

While it is written, ``faces.h5`` holds what it held when the run began: nothing, or the samples of an earlier
run. New samples are collected in memory. After ``PART_SECONDS``, or at ``PART_BYTES``, they become a part: a
complete file of some samples in the folder ``.faces.h5.parts``, written under another name, synced, renamed.
When the writer is closed, all samples go into one new file, which takes the place of ``faces.h5`` in one
rename, and the folder is removed. What that promises:

* ``faces.h5`` and every part are whole files at every instant, each with the checksums of its samples.
* SIGKILL and power cuts lose the samples of the open part and no others; a full disk likewise.
* Whoever closes the writer, after Ctrl-C too, loses nothing.

The next writer of ``faces.h5`` begins with what is in it and in the parts.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.errors import ConfigError
from lift3d.export.hdf5 import sample_file
from lift3d.export.hdf5.lock import lock, lock_at, require_same
from lift3d.export.hdf5.sample_file import Encoded, Form, cannot_write, new_file, parts_folder
from lift3d.export.hdf5.schema import FORMAT, MESH_ROWS, UNCHECKED, checksum
from lift3d.whole_file import replacing, sync_folder

PART_SECONDS = 30.0  # of rendering that SIGKILL may cost
PART_BYTES = 1 << 26  # that wait in memory
FIRST_ROW = "first_row"  # root attribute of a part: where its samples stand in the whole file
JOB_BYTES = 1 << 20  # deflated by one task


def create(path: Path, form: Form, n: int, overwrite: bool = True) -> int:
    """Puts a complete file of n samples at ``path``, none of them done. Gives a descriptor that has held the
    file's lock since before the file was at its path.

    Raises ``ConfigError`` where a file is there and ``overwrite`` is False, or is being written.
    """
    locked = -1
    try:
        with lock_at(path), replacing(path, overwrite) as file:
            with new_file(file, form, n):
                pass
            lock(file.fileno(), path)
            locked = os.dup(file.fileno())
        shutil.rmtree(parts_folder(path), ignore_errors=True)  # of a file that is no more
    except BaseException as error:
        if locked >= 0:
            os.close(locked)
        if isinstance(error, FileExistsError):
            raise ConfigError(f"{path} exists; --resume continues it, --overwrite replaces it") from error
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    return locked


class DatasetWriter:
    """The samples of a file that ``create`` made: fill the missing ones, each once.

    Best in ascending order, as a part holds consecutive samples. Rows count from 0 in the file. One writer
    per file, which is locked; readers may open it meanwhile. ``locked``: what ``create`` gave.
    """

    def __init__(self, path: Path, threads: int | None = None, locked: int | None = None) -> None:
        self.path, self._folder = Path(path), parts_folder(path)
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_RDWR) if locked is None else locked
            lock(self._fd, self.path)
            with h5py.File(self.path, "r") as h5:
                if h5.attrs.get("format") != FORMAT:
                    raise ConfigError(f"{path} is an HDF5 file of another program; choose another path")
                self.form, self.done = Form.of(h5), h5["done"][:]
            require_same(self._fd, self.path)
        except BaseException as error:
            if self._fd >= 0:
                os.close(self._fd)
            if isinstance(error, OSError):
                raise cannot_write(self.path, error) from error
            raise
        self._begun, self._parts = bool(self.done.any()), []
        for part in sorted(self._folder.glob("*.h5")):
            self._take(part)
        self._taken = self.done.copy()  # and what is in the open part
        self._open: dict[int, Encoded] = {}  # by row
        self._open_bytes, self._opened = 0, 0.0
        self._failed = False
        self._pool = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="deflate")
        self._specs = {spec.name: spec for spec in self.form.specs}
        self.seconds = {"deflate": 0.0, "commit": 0.0}  # summed over threads; writing and syncing

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, row: int, arrays: Mapping[str, NDArray]) -> None:
        """Hand over a sample: arrays by dataset name, without the sample axis; of meshes its own rows."""
        self._check(row, arrays)
        if self._open and row - 1 not in self._open:
            self._write_part()
        self._opened = self._opened if self._open else time.monotonic()
        self._open[row] = sample = self._encode({**arrays, "checksum": checksum(arrays)})
        self._taken[row] = True
        self._open_bytes += sample.nbytes
        if self._open_bytes >= PART_BYTES or time.monotonic() - self._opened >= PART_SECONDS:
            self._write_part()

    def first(self, name: str) -> tuple[int, NDArray] | None:
        """Row of a sample that is there and its values in a dataset without pixels; None if there is none."""
        return next(((row, sample.rows[name]) for row, sample in self._everything()), None)

    def close(self, join: bool = True) -> None:
        """Put all samples into the file. After a failure to write, and without ``join``, they stay where they
        are: parts beside the file, to be found by the next writer.
        """
        if self._fd < 0:
            return
        self._pool.shutdown()
        try:
            if join and not self._failed:
                if self._begun or self._parts:
                    self._write_part()  # so that they survive if the next step does not
                if self._open or self._parts:
                    self._join()
                require_same(self._fd, self.path)
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _take(self, part: Path) -> None:
        """Know the samples of a part that an earlier run left; what is no part of this file is not read."""
        with suppress(OSError, KeyError, ValueError, RuntimeError), h5py.File(part, "r") as h5:
            first = int(h5.attrs[FIRST_ROW])
            known = self.done[first : first + len(h5["done"])]
            if Form.of(h5) == self.form and first >= 0 and (h5["done"][:] & ~known).any():
                known |= h5["done"][:]
                self._parts.append(part)

    def _encode(self, arrays: Mapping[str, NDArray]) -> Encoded:
        """Deflate a sample in threads."""
        rows, counts, jobs = {}, {}, {}
        for name, array in arrays.items():
            spec = self._specs[name]
            array = np.ascontiguousarray(array, spec.dtype)
            if (chunk := spec.chunk(self.form.dimensions)) is None:
                rows[name] = array
                continue
            if spec.ragged:
                counts[spec.shape[0]] = len(array)
                array = np.pad(array, [(0, -len(array) % MESH_ROWS)] + [(0, 0)] * (array.ndim - 1))
            chunks = array.reshape(-1, int(np.prod(chunk)))
            step = max(1, JOB_BYTES // (chunks.shape[1] * array.itemsize))
            some = (chunks[i : i + step] for i in range(0, len(chunks), step))
            jobs[name] = [self._pool.submit(sample_file.deflate, chunk) for chunk in some]
        results = {name: [job.result() for job in some] for name, some in jobs.items()}
        self.seconds["deflate"] += sum(seconds for some in results.values() for _, seconds in some)
        chunks = {name: [blob for blobs, _ in some for blob in blobs] for name, some in results.items()}
        return Encoded(rows | {"done": np.True_}, chunks, counts)

    def _write_part(self) -> None:
        """Close the open part, if there is one and the file still is the one at its path."""
        if not self._open:
            return
        first, end = min(self._open), max(self._open) + 1
        part = self._folder / f"{first:09}.h5"
        with self._committing():
            require_same(self._fd, self.path)
            self._make_folder()
            with replacing(part) as file, new_file(file, self.form, end - first) as new:
                new.h5.attrs[FIRST_ROW] = first
                for row, sample in self._open.items():
                    new.put(row - first, sample)
        self._parts.append(part)
        self.done[first:end] = True
        self._open, self._open_bytes = {}, 0

    def _join(self) -> None:
        """Make one file of all samples that there are and put it at the path, locked."""
        with self._committing():
            require_same(self._fd, self.path)
            self._make_folder()
            with replacing(self.path, folder=self._folder) as file:
                with new_file(file, self.form, len(self.done)) as new:
                    for row, sample in self._everything():
                        new.put(row, sample)
                    with h5py.File(self.path, "r") as h5:  # what others added stays
                        for name in h5.keys() - new.h5.keys():
                            h5.copy(h5[name], new.h5, name)
                lock(file.fileno(), self.path)
                require_same(self._fd, self.path)
                before, self._fd = self._fd, os.dup(file.fileno())
                os.close(before)
        self.done[list(self._open)] = True

    def _everything(self) -> Iterator[tuple[int, Encoded]]:
        """All samples, by row: of the file, of its parts, of the open part."""
        left = np.ones(len(self.done), bool)
        for source in (self.path, *self._parts):
            with h5py.File(source, "r") as h5:
                first = int(h5.attrs.get(FIRST_ROW, 0))
                for i in np.flatnonzero(h5["done"][:] & left[first : first + len(h5["done"])]):
                    left[first + i] = False
                    yield int(first + i), sample_file.read_encoded(h5, int(i))
        yield from self._open.items()

    def _make_folder(self) -> None:
        with suppress(FileExistsError):
            self._folder.mkdir()
            sync_folder(self._folder.parent)

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """Measures the time, and turns what the disk says into a sentence. After it nothing is written."""
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._failed = True
            if isinstance(error, OSError):
                state = f"{int(self.done.sum())} of {len(self.done)} samples are kept, --resume continues"
                raise cannot_write(self.path, error, f"; {state}") from error
            raise
        self.seconds["commit"] += time.perf_counter() - start

    def _check(self, row: int, arrays: Mapping[str, NDArray]) -> None:
        """Refuse arrays that are not one sample of this file."""
        wanted = self._specs.keys() - set(UNCHECKED)
        if wanted != arrays.keys():
            raise ConfigError(
                f"sample {row}: {sorted(wanted ^ arrays.keys())} are missing, or not in {self.path}"
            )
        if not 0 <= row < len(self.done) or self._taken[row]:
            raise ConfigError(f"sample {row} is written already or not one of 0..{len(self.done) - 1}")
        for name, array in arrays.items():
            shape = self._specs[name].extent(self.form.dimensions)[1:]
            if (np.shape(array)[1:] if self._specs[name].ragged else np.shape(array)) != shape:
                raise ConfigError(
                    f"sample {row}: {name} has shape {np.shape(array)}, expected {shape} per sample"
                )
