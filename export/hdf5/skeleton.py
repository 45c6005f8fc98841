"""The empty dataset file that ``hdf5_writer`` fills: it has every dataset, attribute and chunk entry.

The HDF5 library defines the datasets in memory; room for what they store is made by the rules of
``hdf5_layout``. The file appears at its path in one rename.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from lift3d.errors import ConfigError, Lift3DError
from lift3d.export.hdf5 import layout
from lift3d.export.hdf5.layout import ChunkIndex
from lift3d.export.hdf5.lock import lock, lock_at
from lift3d.export.hdf5.schema import FORMAT, FORMAT_VERSION, DatasetSpec, Dimensions
from lift3d.whole_file import replacing

LEVEL = 1  # of ISA-L's 0..3: the size of zlib level 1, five times as fast; 2 and 3 gain nothing on our images


def create(
    path: Path, specs: Sequence[DatasetSpec], dimensions: Dimensions, attributes: Mapping[str, str],
    background: tuple[float, float, float], overwrite: bool = True,
) -> None:  # fmt: skip
    """Put a complete file without samples at ``path``. ``attributes``: of the root.

    Raises ``ConfigError`` where a file is there and ``overwrite`` is False, or is being written.
    """
    os.close(create_locked(path, specs, dimensions, attributes, background, overwrite))


def create_locked(
    path: Path, specs: Sequence[DatasetSpec], dimensions: Dimensions, attributes: Mapping[str, str],
    background: tuple[float, float, float], overwrite: bool,
) -> int:  # fmt: skip
    """``create``, and a descriptor that has held the file's lock since before the file was at its path."""
    locked = -1
    try:
        with lock_at(path), replacing(path, overwrite) as file, h5py.File.in_memory(libver="earliest") as h5:
            define(h5, specs, dimensions, attributes, background)
            lock(file.fileno(), path)
            locked = os.dup(file.fileno())
            h5.flush()
            file.write(h5.id.get_file_image())
            for spec in specs:
                _reserve(file, h5[spec.name], spec)
            end = file.seek(0, os.SEEK_END)
            _put(file, layout.END_OF_FILE, end)
            file.flush()
            os.posix_fallocate(file.fileno(), 0, end)  # patching in place needs no space later
    except BaseException as error:
        if locked >= 0:
            os.close(locked)
        if isinstance(error, FileExistsError):
            raise ConfigError(f"{path} exists; --resume continues it, --overwrite replaces it") from error
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    return locked


def define(
    h5: h5py.File, specs: Sequence[DatasetSpec], dimensions: Dimensions, attributes: Mapping[str, str],
    background: tuple[float, float, float],
) -> None:  # fmt: skip
    """All datasets, without storage."""
    h5.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, **attributes})
    for spec in specs:
        shape, chunk, storage = spec.extent(dimensions), spec.chunk(dimensions), {}
        if chunk:
            storage = {"chunks": chunk, "maxshape": shape, "compression": "gzip", "compression_opts": LEVEL}
            storage["shuffle"] = np.dtype(spec.dtype).itemsize > 1
        h5.create_dataset(spec.name, shape, spec.dtype, **storage).attrs.update(spec.attributes)
    h5["colors"].attrs["background"] = np.array(background, np.float32)


def _reserve(file: BinaryIO, dataset: h5py.Dataset, spec: DatasetSpec) -> None:
    """Give a dataset rows of zeros, or its chunks entries, which share one chunk of zeros until written."""
    place, end = layout.header(file, dataset), file.seek(0, os.SEEK_END)
    if not dataset.chunks:
        file.truncate(end + dataset.nbytes)
        _put(file, place.storage, end)
        return
    zeros = deflate([np.zeros(dataset.chunks, dataset.dtype)])[0][0]
    index = ChunkIndex.over(dataset.shape, dataset.chunks, dataset.dtype.itemsize, end + len(zeros))
    file.write(zeros + index.build(end, len(zeros)))
    _put(file, place.storage, index.root)
    if spec.ragged:
        _put(file, place.length, 0)


def _put(file: BinaryIO, address: int, value: int) -> None:
    file.seek(address)
    file.write(value.to_bytes(8, "little"))


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


def cannot_write(path: Path, error: OSError, state: str = "") -> Lift3DError:
    """The system's reason in one sentence."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Lift3DError(f"cannot write {path}: {reason}{state}")
