"""Write ``faces.h5`` so that no sample is lost: chunks deflated in threads, numbers patched in place.

``hdf5_skeleton`` makes the complete, empty file. ``DatasetWriter`` fills it, commit by commit:

    append the chunks -> fdatasync -> file length, chunk entries, rows -> fdatasync -> ``done``

Until ``done`` is set nothing refers to a sample, and afterwards nothing touches it, so at every instant the
file opens with plain ``h5py`` and its done samples are whole: after SIGKILL, on a full disk, and after a
power cut as far as fdatasync keeps its promise. The next writer cuts off what an interrupted commit appended.
"""

import math
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.errors import ConfigError, Lift3DError
from lift3d.export.hdf5 import layout
from lift3d.export.hdf5.layout import ChunkIndex
from lift3d.export.hdf5.lock import lock, require_same
from lift3d.export.hdf5.schema import MESH_ROWS, SPECS, UNCHECKED, DatasetSpec, Dimensions, checksum
from lift3d.export.hdf5.skeleton import cannot_write, define, deflate

JOB_BYTES = 1 << 20  # deflated by one task
IN_FLIGHT = 2  # samples between ``write`` and the commit
_SPAN = {"vertices": "meshes/vertex_span", "faces": "meshes/face_span"}  # by the ragged axis


@dataclass(frozen=True)
class WriterSeconds:
    """Where the background's time went."""

    deflate: float  # summed over threads
    commit: float  # writing and syncing


@dataclass(frozen=True)
class _Target:
    """Where one dataset's values go."""

    spec: DatasetSpec
    shape: tuple[int, ...]  # of one sample; without the rows axis if ragged
    dtype: np.dtype
    samples: int  # length of the first axis; rows if ragged
    index: ChunkIndex | None = None  # chunked datasets
    length: int = 0  # ragged datasets: address of the first axis' length
    rows: int = 0  # contiguous datasets: address of sample 0

    @property
    def chunk_bytes(self) -> int:
        return int(np.prod(self.index.chunk)) * self.dtype.itemsize


@dataclass(frozen=True)
class _Sample:
    """A sample on its way to the file."""

    number: int
    rows: dict[str, bytes]  # contiguous datasets
    counts: dict[str, int]  # vertices and faces of the mesh, if any
    jobs: dict[str, list[Future]]  # chunked datasets: each gives ([chunk bytes], seconds)


class DatasetWriter:
    """The samples of a file that ``create`` made: fill the missing ones in any order, each once.

    Compression and commits run in the background; their errors are raised by the next ``write`` or by
    ``close``. One writer per file, which is locked; readers may open it meanwhile. ``locked``: what
    ``create_locked`` gave.
    """

    def __init__(self, path: Path, threads: int | None = None, locked: int | None = None) -> None:
        self.path = Path(path)
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_RDWR) if locked is None else locked
            lock(self._fd, self.path)
            self._targets = _read_targets(self.path)
            require_same(self._fd, self.path)
        except BaseException as error:
            if self._fd >= 0:
                os.close(self._fd)
            if isinstance(error, OSError):
                raise cannot_write(self.path, error) from error
            raise
        self.done = self._read_rows("done").astype(bool)
        self._taken = self.done.copy()  # and what is on its way
        self._end = int.from_bytes(os.pread(self._fd, 8, layout.END_OF_FILE), "little")
        os.ftruncate(self._fd, self._end)  # the rest of an interrupted commit
        self._free = {axis: self._first_free(axis) for axis in _SPAN}  # where the next mesh starts
        self._pool = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="deflate")
        self._queue: queue.Queue[_Sample | None] = queue.Queue(IN_FLIGHT)
        self._error: BaseException | None = None
        self._seconds = {"deflate": 0.0, "commit": 0.0}
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seconds(self) -> WriterSeconds:
        return WriterSeconds(**self._seconds)

    def write(self, number: int, arrays: Mapping[str, NDArray]) -> None:
        """Hand over a sample: arrays by dataset name, without the sample axis; of meshes its own rows."""
        self._raise_error()
        self._check(number, arrays)
        arrays = {**arrays, "checksum": np.uint64(checksum(arrays))}
        rows, counts, jobs = {}, {}, {}
        for name, array in arrays.items():
            target = self._targets[name]
            array = np.ascontiguousarray(array, target.dtype)
            if not target.index:
                rows[name] = array.tobytes()
                continue
            if target.spec.ragged:
                counts[target.spec.shape[0]] = len(array)
                array = np.pad(array, [(0, -len(array) % MESH_ROWS)] + [(0, 0)] * (array.ndim - 1))
            chunks = array.reshape(-1, target.chunk_bytes // target.dtype.itemsize)
            step = max(1, JOB_BYTES // target.chunk_bytes)
            jobs[name] = [
                self._pool.submit(deflate, chunks[i : i + step]) for i in range(0, len(chunks), step)
            ]
        self._taken[number] = True
        self._queue.put(_Sample(number, rows, counts, jobs))  # waits while IN_FLIGHT others are on their way

    def close(self) -> None:
        """Commit what was handed over and close the file; raises what went wrong in the background."""
        if self._fd < 0:
            return
        self._queue.put(None)
        self._thread.join()
        self._pool.shutdown()
        fd, self._fd = self._fd, -1
        try:
            os.fsync(fd)
            self._raise_error()
            require_same(fd, self.path)
        finally:
            os.close(fd)

    def _raise_error(self) -> None:
        if isinstance(self._error, OSError):
            raise cannot_write(
                self.path,
                self._error,
                f"; {int(self.done.sum())} of {len(self.done)} samples are in it, --resume continues",
            ) from self._error
        if self._error:
            raise self._error

    def _check(self, number: int, arrays: Mapping[str, NDArray]) -> None:
        """Refuse arrays that are not one sample of this file."""
        wanted = self._targets.keys() - set(UNCHECKED)
        if wanted != arrays.keys():
            raise ConfigError(
                f"sample {number}: {sorted(wanted ^ arrays.keys())} are missing, or not in {self.path}"
            )
        if not 0 <= number < len(self.done) or self._taken[number]:
            raise ConfigError(f"sample {number} is written already or not one of 0..{len(self.done) - 1}")
        for name, array in arrays.items():
            target = self._targets[name]
            shape = np.shape(array)[1:] if target.spec.ragged else np.shape(array)
            if shape != target.shape:
                raise ConfigError(
                    f"sample {number}: {name} has shape {np.shape(array)}, expected {target.shape} per sample"
                )

    def _run(self) -> None:
        """The background: commit whatever is waiting, in one go; after an error only empty the queue."""
        while True:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            samples = [sample for sample in waiting if sample]
            if samples and not self._error:
                try:
                    self._commit(samples)
                except BaseException as error:  # raised again in the caller's thread
                    self._error = error
            if waiting[-1] is None:
                return

    def _commit(self, samples: Sequence[_Sample]) -> None:
        """Make samples part of the file (module docstring), if it still is the one at its path."""
        require_same(self._fd, self.path)
        payload: list[bytes] = []
        patches: list[tuple[int, bytes]] = []
        end, free = self._end, dict(self._free)
        for sample in samples:
            start = {axis: free[axis] for axis in sample.counts}
            for axis, count in sample.counts.items():
                free[axis] = self._after(axis, start[axis] + count)
            for name, jobs in sample.jobs.items():
                target = self._targets[name]
                chunks = [chunk for job in jobs for chunk in job.result()[0]]
                self._seconds["deflate"] += sum(job.result()[1] for job in jobs)
                sizes = np.array([len(chunk) for chunk in chunks], np.uint64)
                axis = target.spec.shape[0]
                first = start[axis] // MESH_ROWS if target.spec.ragged else sample.number * len(chunks)
                patches += target.index.patches(
                    first, target.index.entries(first, end + np.cumsum(sizes) - sizes, sizes)
                )
                if target.spec.ragged:
                    patches.append((target.length, (start[axis] + sample.counts[axis]).to_bytes(8, "little")))
                payload += chunks
                end += int(sizes.sum())
            spans = {
                _SPAN[axis]: np.array([start[axis], count]).tobytes() for axis, count in sample.counts.items()
            }
            for name, row in (sample.rows | spans).items():
                patches.append((self._targets[name].rows + sample.number * len(row), row))
        clock = time.perf_counter()
        self._append(b"".join(payload))
        _patch_end(self._fd, end)
        self._end, self._free = end, free
        for address, data in patches:
            _write_at(self._fd, data, address)
        os.fdatasync(self._fd)
        for sample in samples:
            _write_at(self._fd, b"\1", self._targets["done"].rows + sample.number)
            self.done[sample.number] = True
        self._seconds["commit"] += time.perf_counter() - clock

    def _append(self, data: bytes) -> None:
        """Durable bytes after the file's end, or none at all."""
        try:
            _write_at(self._fd, data, self._end)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise

    def _first_free(self, axis: str) -> int:
        """The first row that no done sample's mesh uses."""
        if _SPAN[axis] not in self._targets:
            return 0
        return self._after(axis, int(self._read_rows(_SPAN[axis])[self.done].sum(-1).max(initial=0)))

    def _after(self, axis: str, row: int) -> int:
        """Where the next mesh may start."""
        capacity = self._targets[f"meshes/{axis}"].index.grid[0] * MESH_ROWS
        start = -(-row // MESH_ROWS) * MESH_ROWS
        if start > capacity:
            raise Lift3DError(
                f"{self.path} has room for {capacity} {axis} of meshes, all used up; choose coarser meshes"
            )
        return start

    def _read_rows(self, name: str) -> NDArray:
        """All samples of a contiguous dataset."""
        target = self._targets[name]
        shape = (self._targets["done"].samples, *target.shape)
        return np.frombuffer(
            os.pread(self._fd, math.prod(shape) * target.dtype.itemsize, target.rows), target.dtype
        ).reshape(shape)


def write_reference(
    path: Path, specs: Sequence[DatasetSpec], dimensions: Dimensions, attributes: Mapping[str, str],
    background: tuple[float, float, float], samples: Iterable[Mapping[str, NDArray]],
) -> None:  # fmt: skip
    """The same content by h5py's own means: the readable twin, slower, and of no use after a crash."""
    free = dict.fromkeys(_SPAN, 0)
    with h5py.File(path, "w", libver="earliest") as h5:
        define(h5, specs, dimensions, attributes, background)
        for i, arrays in enumerate(samples):
            for name, array in arrays.items():
                axis = SPECS[name].shape[0]
                if SPECS[name].ragged:
                    h5[name][free[axis] : free[axis] + len(array)] = array
                    h5[_SPAN[axis]][i] = free[axis], len(array)
                else:
                    h5[name][i] = array
            for axis in free.keys() & {SPECS[name].shape[0] for name in arrays}:
                free[axis] = -(-sum(h5[_SPAN[axis]][i]) // MESH_ROWS) * MESH_ROWS
            h5["checksum"][i], h5["done"][i] = checksum(arrays), True


def _read_targets(path: Path) -> dict[str, _Target]:
    """Where everything stands in the file."""
    targets = {}
    with open(path, "rb") as file, h5py.File(path, "r") as h5:
        names: list[str] = []
        h5.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in SPECS.keys() & names:  # others are the user's
            dataset, spec = h5[name], SPECS[name]
            place = layout.header(file, dataset)
            file.seek(place.storage)
            storage = int.from_bytes(file.read(8), "little")
            target = _Target(spec, dataset.shape[1:], dataset.dtype, len(dataset))
            if dataset.chunks:
                index = ChunkIndex.over(dataset.maxshape, dataset.chunks, dataset.dtype.itemsize, 0)
                index = replace(index, address=storage - index.root)
                targets[name] = replace(target, index=index, length=place.length)
            else:
                targets[name] = replace(target, rows=storage)
    return targets


def _patch_end(fd: int, end: int) -> None:
    _write_at(fd, end.to_bytes(8, "little"), layout.END_OF_FILE)


def _write_at(fd: int, data: bytes, address: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, address)
        view, address = view[n:], address + n
