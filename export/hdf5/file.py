"""The one place where dataset files are opened and read, however damaged or hostile they are.

Whatever HDF5 raises becomes ``CorruptFile``. Before any data is touched, the root's attributes are parsed
strictly, and every dataset must have the dtype and shape that the schema names and, in the samples that are
done, no more bytes than the file can hold: deflate makes at most 1032 bytes of one. Data stands in the file
itself; only a merged file may refer to others, its shards.
"""

import json
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.errors import ConfigError, CorruptFile, Lift3DError
from lift3d.export.hdf5 import schema
from lift3d.export.hdf5.schema import MESH_ARRAYS, SPECS

SHARDS = "shards"  # root attribute of merged files: names of the shards, relative to the file, as JSON
DEFLATE = 1032  # most bytes that a stored byte can stand for
HEAD = 1 << 24  # bytes
_HEAP = b"GCOL\1\0\0\0"  # a heap's signature and version
_ONE_TEXT = bytes.fromhex("1901010010000000 1000000001000000 0000080000000000 0100000000000000")
_TEXT = re.compile(_ONE_TEXT + b"(.{4})", re.DOTALL)  # an attribute's datatype, dataspace, length (IV.A.2)
_SHOWN = 160  # characters of what HDF5 says


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Anything that goes wrong in the block is a ``CorruptFile``: ``what`` cannot be read, and why."""
    try:
        yield
    except (Lift3DError, KeyboardInterrupt):
        raise
    except Exception as error:  # HDF5 and h5py raise a dozen kinds, from OSError to UnicodeDecodeError
        reason = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
        raise CorruptFile(f"{what} cannot be read ({reason}); write the file again") from error


@contextmanager
def open_file(path: Path, checked: bool = True) -> Iterator[h5py.File]:
    """The file, checked to be a lift3d dataset of a version this program reads.

    Its datasets are as the schema says, unless ``checked`` is False; others than the schema's may be there.
    """
    h5 = open_h5(path)
    try:
        with reading(f"{path}: its header"):
            _check_root(h5, Path(path))
            for name, problem in schema_problems(h5) if checked else ():
                if name in SPECS:
                    raise CorruptFile(f"{path}: {name} {problem}; write the file again")
            _require_shards(h5, Path(path))
        yield h5
    finally:
        with reading(f"{path}: its end"):
            h5.close()


def open_h5(path: Path) -> h5py.File:
    """The file as HDF5 opens it, unchecked."""
    if not Path(path).is_file():
        raise ConfigError(f"{path} is not a file; give the path of a dataset that lift3d wrote")
    _check_heaps(path)
    try:
        return h5py.File(path, "r")
    except Exception as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        raise CorruptFile(f"{path} is truncated or no HDF5 file ({reason}); write it again") from error


def _check_heaps(path: Path) -> None:
    """Refuses heaps of texts in which the library would run in circles: it goes from object to object by the
    sizes that stand there (HDF5 File Format Specification 3.0, III.E). Refuses texts longer than the file,
    too: the library would get memory for them.

    Attributes are defined before data is stored, so they stand in the first ``HEAD`` bytes.
    """
    with open(path, "rb") as file:
        data, length = file.read(HEAD), os.fstat(file.fileno()).st_size
    damaged = CorruptFile(f"{path}: the heap of its attributes is damaged; write the file again")
    if any(int.from_bytes(claimed, "little") > length for claimed in _TEXT.findall(data)):
        raise damaged
    for found in re.finditer(re.escape(_HEAP), data):
        place = found.start() + 16
        end = found.start() + int.from_bytes(data[place - 8 : place], "little")
        if end > length:  # the library would get memory for all of it
            raise CorruptFile(
                f"{path} is truncated or no HDF5 file (its attributes end beyond it); write it again"
            )
        end = end if end <= len(data) else place  # not all of it is here
        while place + 16 <= end:
            number, size = struct.unpack_from("<H6xQ", data, place)
            need = size if number == 0 else 16 + -(-size // 8) * 8  # 0 is the free space, header included
            if not 16 <= need <= end - place:
                raise damaged
            place += need


def _check_root(h5: h5py.File, path: Path) -> None:
    attributes = {name: h5.attrs[name] for name in schema.ROOT_ATTRIBUTES if name in h5.attrs}
    found = attributes.get("format")
    if not isinstance(found, str) or found != schema.FORMAT:
        raise CorruptFile(f"{path} is an HDF5 file of another program; lift3d reads the files that it writes")
    if missing := [name for name in schema.ROOT_ATTRIBUTES if name not in attributes]:
        raise CorruptFile(f"{path} lacks the attributes {', '.join(missing)}; write the file again")
    version = attributes["format_version"]
    if not isinstance(version, int | np.integer):
        raise CorruptFile(f"{path}: attribute format_version is no whole number; write the file again")
    if version != schema.FORMAT_VERSION:
        raise CorruptFile(
            f"{path} has format version {version}, this lift3d reads {schema.FORMAT_VERSION}; install another"
        )
    for name in ("generator", "config", "created", "license"):
        text(h5, path, name)
    if not isinstance(parsed(path, attributes["config"]), dict):
        raise CorruptFile(f"{path}: attribute config is no JSON object; write the file again")


def text(h5: h5py.File, path: Path, attribute: str) -> str:
    """An attribute of the root that is a text."""
    if not isinstance(value := h5.attrs[attribute], str):
        raise CorruptFile(f"{path}: attribute {attribute} is no text; write the file again")
    return value


def parsed(path: Path, value: object, attribute: str = "config") -> Any:
    """JSON in an attribute."""
    try:
        return json.loads(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFile(
            f"{path}: attribute {attribute} is no JSON ({error}); write the file again"
        ) from error


def _require_shards(h5: h5py.File, path: Path) -> None:
    """HDF5 reads zeros where the file behind a virtual dataset is not there."""
    if SHARDS not in h5.attrs or not h5["colors"].is_virtual:
        return
    folder = Path(os.path.realpath(path)).parent
    names = parsed(path, h5.attrs[SHARDS], SHARDS)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise CorruptFile(f"{path}: attribute {SHARDS} is no list of names; write the file again")
    for name in names:
        if not (folder / name).is_file():
            raise CorruptFile(
                f"{path} refers to the shard {folder / name}, which is not there; put it back, or merge again"
            )


def dataset_names(h5: h5py.File) -> tuple[str, ...]:
    """Paths of all datasets, in the schema's order, foreign ones last."""
    names: list[str] = []
    h5.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    order = {name: i for i, name in enumerate(SPECS)}
    return tuple(sorted(names, key=lambda name: order.get(name, len(order))))


def schema_problems(h5: h5py.File) -> Iterator[tuple[str, str]]:
    """(dataset, problem) of all datasets that the schema does not know or knows otherwise; of data it reads
    ``done`` alone.
    """
    names, lengths = dataset_names(h5), {}
    present = [name for name in SPECS if name in names]
    whole = set(MESH_ARRAYS) | {"meshes/vertex_span", "meshes/face_span"}
    needed = [*schema.REQUIRED, *(sorted(whole) if whole & set(present) else ())]
    yield from ((name, "is missing") for name in needed if name not in names)
    yield from ((name, "is not part of the format") for name in names if name not in SPECS)
    if "done" in names and h5["done"].ndim == 1:
        lengths["samples"] = len(h5["done"])
    bound = os.path.getsize(h5.filename)
    share = _done_share(h5["done"], bound) if "done" in names else 1.0
    for name in present:
        problems = _dataset_problems(h5[name], SPECS[name], lengths, bound, share)
        yield from ((name, problem) for problem in problems)


def _done_share(done: h5py.Dataset, bound: int) -> float:
    """Which part of the samples is done: images of the others take no room in the file."""
    plain = done.dtype == np.dtype("?") and done.ndim == 1 and 0 < len(done) <= bound
    if not plain or done.chunks or done.is_virtual or done.external:
        return 1.0
    return float(done[:].mean())


def _dataset_problems(
    dataset: h5py.Dataset, spec: schema.DatasetSpec, lengths: dict[str, int], bound: int, share: float
) -> Iterator[str]:
    """``lengths``: of axes known so far, by name; ``bound``: the file's size, bytes; ``share`` of the samples
    is done.
    """
    if dataset.dtype != np.dtype(spec.dtype) or dataset.ndim != len(spec.shape):
        yield f"is {dataset.dtype} of {dataset.ndim} axes, expected {spec.dtype} of {len(spec.shape)}"
        return
    if not spec.ragged and len(dataset) != lengths.setdefault("samples", len(dataset)):
        yield f"has {len(dataset)} samples, expected {lengths['samples']}"
        return
    wanted = tuple(n if isinstance(n, int) else lengths.setdefault(n, length)
                   for n, length in zip(spec.shape, dataset.shape))  # fmt: skip
    if dataset.shape != wanted:
        yield f"has the shape {dataset.shape}, expected {wanted}"
        return
    if dataset.is_virtual:
        if SHARDS not in dataset.file.attrs:
            yield "refers to other files, though the file was not merged of shards"
        return
    if dataset.external:
        yield "stands in another file, expected in this one"
        return
    nbytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    if spec.image:
        nbytes = math.ceil(nbytes * share)
    if nbytes > bound * (DEFLATE if dataset.chunks else 1):
        yield f"claims {nbytes:,} bytes, more than a file of {bound:,} bytes can hold"
    elif dataset.chunks:
        chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
        rows = schema.MESH_ROWS * math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        if chunk > max(nbytes, rows):
            yield f"has chunks of {chunk:,} bytes, more than all of it"


def read_array(h5: h5py.File, name: str, index: int) -> NDArray:
    """One sample of a dataset; of a mesh array the sample's own rows."""
    with reading(f"{h5.filename}: {name} of sample {index}"):
        if name not in MESH_ARRAYS:
            return np.asarray(h5[name][index])
        span = "meshes/face_span" if SPECS[name].shape[0] == "faces" else "meshes/vertex_span"
        start, count = (int(n) for n in h5[span][index])
        if not 0 <= start <= start + count <= len(h5[name]):
            raise CorruptFile(f"{h5.filename}: {span} of sample {index} leaves {name}; write the file again")
        return h5[name][start : start + count]
