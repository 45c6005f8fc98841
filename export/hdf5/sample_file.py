"""One file of samples, made by the HDF5 library: defined, filled with deflated chunks, closed.

All files of a dataset have the same ``Form``: the dataset itself, its shards, the parts of a run. An
``Encoded`` sample goes from one file into another as it is: its chunks are neither inflated nor deflated
again.

Files are written as ``libver="earliest"`` (superblock 0), which every HDF5 library reads.
"""

import hashlib
import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from lift3d.errors import Lift3DError
from lift3d.export.hdf5 import schema
from lift3d.export.hdf5.file import reading
from lift3d.export.hdf5.schema import MESH_ROWS, SCHEMA, SPECS, DatasetSpec, Dimensions, checksum

LEVEL = 1  # of ISA-L's 0..3: the size of zlib level 1, five times as fast; 2 and 3 gain nothing on our images
SPANS = {"vertices": "meshes/vertex_span", "faces": "meshes/face_span"}  # by the ragged axis


@dataclass(frozen=True)
class Form:
    """What the files of a dataset have in common."""

    specs: tuple[DatasetSpec, ...]
    dimensions: Dimensions  # but for samples, vertices and faces, of which every file has its own numbers
    attributes: Mapping[str, str]  # of the root: generator, config, created, license
    background: tuple[float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", replace(self.dimensions, samples=0, vertices=0, faces=0))

    @staticmethod
    def of(h5: h5py.File) -> "Form":
        """The form of a file that is there."""
        specs = tuple(spec for spec in SCHEMA if spec.name in h5)
        lengths = {field.name: 0 for field in fields(Dimensions)}
        for spec in specs:
            named = zip(spec.shape, h5[spec.name].shape, strict=True)
            lengths |= {n: length for n, length in named if isinstance(n, str)}
        own = [name for name in schema.ROOT_ATTRIBUTES if name not in ("format", "format_version")]
        attributes = {name: h5.attrs[name] for name in own}
        background = tuple(h5["colors"].attrs["background"].tolist())
        return Form(specs, Dimensions(**lengths), attributes, background)

    def define(self, h5: h5py.File, n: int) -> None:
        """All datasets of a file of n samples, not one of them done, in an empty file."""
        h5.attrs.update({"format": schema.FORMAT, "format_version": schema.FORMAT_VERSION, **self.attributes})
        lengths = replace(self.dimensions, samples=n)
        for spec in self.specs:
            shape, chunk, storage = spec.extent(lengths), spec.chunk(lengths), {}
            if chunk:
                storage = {"chunks": chunk, "compression": "gzip", "compression_opts": LEVEL}
                storage["shuffle"] = np.dtype(spec.dtype).itemsize > 1
            if spec.ragged:
                storage["maxshape"] = (None, *shape[1:])
            h5.create_dataset(spec.name, shape, spec.dtype, **storage).attrs.update(spec.attributes)
        h5["colors"].attrs["background"] = np.array(self.background, np.float32)
        for spec in (spec for spec in self.specs if spec.chunk(lengths) is None and n):
            h5[spec.name][-1:] = 0  # takes the room of all rows; after the attributes, which come first


@dataclass(frozen=True)
class Encoded:
    """A sample as it is stored."""

    rows: Mapping[str, NDArray]  # of the datasets without pixels, without the mesh spans
    chunks: Mapping[str, Sequence[bytes]]  # of the others: deflated, in row-major order
    counts: Mapping[str, int]  # vertices and faces of the mesh, if there is one

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        arrays = sum(array.nbytes for array in self.rows.values())
        return arrays + sum(len(chunk) for chunks in self.chunks.values() for chunk in chunks)


def parts_folder(path: Path | str) -> Path:
    """Where the parts of a file are while it is written: beside it, hidden."""
    target = Path(os.path.realpath(path))
    name = os.fsencode(target.name)
    short = target.name if len(name) < 240 else hashlib.sha256(name).hexdigest()
    return target.with_name(f".{short}.parts")


def unfinished_parts(path: Path) -> int:
    """How many samples wait in parts of a file: its run goes on, or was killed."""
    n = 0
    for part in parts_folder(path).glob("*.h5"):
        with suppress(OSError, KeyError), h5py.File(part, "r") as h5:
            n += int(h5["done"][:].sum())
    return n


def read_encoded(h5: h5py.File, row: int) -> Encoded:
    """A sample of a file, as it is stored. Raises ``CorruptFile`` where it is not whole."""
    with reading(f"{h5.filename}: sample {row}"):
        rows, chunks, counts = {}, {}, {}
        for name, axis in ((span, axis) for axis, span in SPANS.items() if span in h5):
            counts[axis] = int(h5[name][row][1])
        for spec in (spec for spec in SCHEMA if spec.name in h5):
            dataset = h5[spec.name]
            if spec.ragged:
                start, count = (int(n) for n in h5[SPANS[spec.shape[0]]][row])
                places = _mesh_chunks(dataset, start, count)
            elif spec.image:
                places = _image_chunks(dataset, row)
            else:
                if spec.name not in SPANS.values():
                    rows[spec.name] = np.asarray(dataset[row])
                continue
            chunks[spec.name] = [dataset.id.read_direct_chunk(place)[1] for place in places]
        return Encoded(rows, chunks, counts)


class SampleFile:
    """A file of n samples while it is being filled."""

    def __init__(self, h5: h5py.File, form: Form, n: int, disk: "_Disk") -> None:
        form.define(h5, n)
        self.h5, self._disk = h5, disk
        self._datasets = {spec.name: h5[spec.name] for spec in form.specs}
        self._free = dict.fromkeys(SPANS, 0)  # where the next mesh starts

    def put(self, row: int, sample: Encoded) -> None:
        """Write a sample. It is done."""
        if self._disk.error:
            raise self._disk.error
        places = {}
        for name in sample.chunks:
            spec, dataset = SPECS[name], self._datasets[name]
            if spec.ragged:
                start, count = self._free[spec.shape[0]], sample.counts[spec.shape[0]]
                dataset.resize(start + count, axis=0)
                places[name] = _mesh_chunks(dataset, start, count)
            else:
                places[name] = _image_chunks(dataset, row)
        for name, chunks in sample.chunks.items():
            for place, chunk in zip(places[name], chunks, strict=True):
                self._datasets[name].id.write_direct_chunk(place, chunk)
        for axis, count in sample.counts.items():
            self._datasets[SPANS[axis]][row] = self._free[axis], count
            self._free[axis] = next_mesh(self._free[axis] + count)
        for name, array in sample.rows.items():
            self._datasets[name][row] = array


def next_mesh(row: int) -> int:
    """The first row at or after ``row`` where a mesh may start."""
    return -(-row // MESH_ROWS) * MESH_ROWS


def _mesh_chunks(dataset: h5py.Dataset, start: int, count: int) -> Iterator[tuple[int, ...]]:
    """Where the chunks of a mesh's rows begin."""
    rest = (0,) * (dataset.ndim - 1)
    return ((row, *rest) for row in range(start, start + count, MESH_ROWS))


def _image_chunks(dataset: h5py.Dataset, row: int) -> Iterator[tuple[int, ...]]:
    """Where the chunks of a sample's images begin."""
    grid = [n // c for n, c in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    return ((row, *place) for place in np.ndindex(*grid))


def index_bytes(n_chunks: int, n_axes: int) -> int:
    """Bytes of the index of a dataset's chunks: a version-1 B-tree, whose nodes have room for 64 entries.

    HDF5 splits a full one nine to one when chunks come in their order.
    """
    key = 8 + 8 * (n_axes + 1)
    node, nodes, level = 24 + 65 * key + 64 * 8, 1, n_chunks
    while level > 64:
        level = 1 - (64 - level) // 57
        nodes += level
    return nodes * node


def deflate(chunks: Iterable[NDArray]) -> tuple[list[bytes], float]:
    """Chunks as HDF5 stores them: elements of several bytes shuffled, then zlib. And the seconds it took."""
    start = time.perf_counter()
    blobs = []
    for chunk in chunks:
        data = chunk.reshape(-1).view(np.uint8)
        if chunk.itemsize > 1:
            data = np.ascontiguousarray(data.reshape(-1, chunk.itemsize).T)
        blobs.append(isal_zlib.compress(data, LEVEL))
    return blobs, time.perf_counter() - start


@contextmanager
def new_file(file: BinaryIO, form: Form, n: int) -> Iterator[SampleFile]:
    """A file of n samples, in ``file`` when the block ends. Raises the ``OSError`` of a full disk."""
    disk = _Disk(file.fileno(), "r+", closefd=False)
    with h5py.File("new", "w", libver="earliest", driver="fileobj", fileobj=disk) as h5:
        yield SampleFile(h5, form, n, disk)
    if disk.error:
        raise disk.error


class _Disk(io.FileIO):
    """An open file for the HDF5 library, which cannot close a file whose disk is full.

    It hears of no error: the first one is kept in ``error``, and nothing is written after it.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:  # a buffer of h5py's
        written = 0
        try:
            while written < len(data) and not self.error:
                written += os.pwrite(self.fileno(), data[written:], self.tell() + written)
        except OSError as error:
            self.error = error
        self.seek(len(data), os.SEEK_CUR)
        return len(data)

    def truncate(self, size: int) -> int:
        try:
            if not self.error:
                os.ftruncate(self.fileno(), size)
        except OSError as error:
            self.error = error
        return size


def write_reference(path: Path, form: Form, samples: Sequence[Mapping[str, NDArray]]) -> None:
    """A file of samples by h5py's own means: the readable twin, slower."""
    free = dict.fromkeys(SPANS, 0)
    with h5py.File(path, "w", libver="earliest") as h5:
        form.define(h5, len(samples))
        for i, arrays in enumerate(samples):
            counts = {SPECS[name].shape[0]: len(a) for name, a in arrays.items() if SPECS[name].ragged}
            for name, array in arrays.items():
                if (axis := SPECS[name].shape[0]) in counts:
                    h5[name].resize(max(len(h5[name]), free[axis] + counts[axis]), axis=0)
                    h5[name][free[axis] : free[axis] + counts[axis]] = array
                else:
                    h5[name][i] = array
            for axis, count in counts.items():
                h5[SPANS[axis]][i] = free[axis], count
                free[axis] = next_mesh(free[axis] + count)
            h5["checksum"][i], h5["done"][i] = checksum(arrays), True


def cannot_write(path: Path, error: OSError, state: str = "") -> Lift3DError:
    """The system's reason in one sentence."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Lift3DError(f"cannot write {path}: {reason}{state}")
