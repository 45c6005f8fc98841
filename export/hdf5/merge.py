"""Put the shards of a dataset (plan/shard.py) together into one file of the same format.

The new file either refers to the shards (HDF5's virtual datasets: nothing with pixels or vertices is copied,
and the shards must stay where they are) or has their chunks copied as they are, without decompressing them.
What is small, such as cameras, latents and ``done``, is copied in both cases.
"""

import datetime
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.errors import ConfigError
from lift3d.export.hdf5.file import SHARDS, dataset_names, open_file
from lift3d.export.hdf5.lock import lock_at
from lift3d.export.hdf5.reader import FileInfo, describe
from lift3d.export.hdf5.sample_file import Form, cannot_write, new_file, next_mesh, read_encoded
from lift3d.export.hdf5.schema import SPECS, DatasetSpec
from lift3d.export.plan.shard import Shard
from lift3d.observer import Observer, SilentObserver
from lift3d.whole_file import replacing

_SHOWN = 5  # shards or samples named in a message


@dataclass(frozen=True)
class MergeReport:
    """What a merged file holds."""

    path: Path
    shards: int
    planned: int
    missing: tuple[int, ...]  # numbers of samples that are not done


@dataclass(frozen=True)
class _Part:
    """A shard and where its rows go."""

    info: FileInfo
    shard: Shard
    first: int  # sample
    rows: dict[str, int]  # "vertices", "faces": where its meshes start


def merge(
    paths: Iterable[Path | str], out: Path | str, copy: bool = False, overwrite: bool = False,
    observer: Observer | None = None,
) -> MergeReport:  # fmt: skip
    """All shards of one plan -> one file at ``out``; ``copy`` their chunks, or refer to them.

    Raises ``ConfigError`` for files of different plans or models, for shards that are missing or given twice,
    and where ``out`` exists and ``overwrite`` is False.
    """
    out, observer = Path(out), observer or SilentObserver()
    files = [Path(path) for path in paths]
    if any(out.exists() and path.exists() and out.samefile(path) for path in files):
        raise ConfigError(f"{out} is one of the shards; choose another file to merge them into")
    parts = _parts([describe(path) for path in files])
    try:
        with lock_at(out), replacing(out, overwrite) as file:
            observer.start("shards", len(parts))
            done = (_copy if copy else _refer)(file, parts, out, observer)
            observer.finish()
    except FileExistsError as error:
        raise ConfigError(f"{out} exists; --overwrite replaces it") from error
    except OSError as error:
        raise cannot_write(out, error) from error
    return MergeReport(out, len(parts), len(done), tuple(np.flatnonzero(~done).tolist()))


def require_unmerged(path: Path) -> None:
    """Refuses to continue a merged file: its shards are what a run can continue."""
    with open_file(path) as h5:
        if SHARDS in h5.attrs:
            raise ConfigError(
                f"{path} was merged from shards; --resume those that lack samples, then merge them again"
            )


def _parts(infos: Sequence[FileInfo]) -> list[_Part]:
    """The shards in their order, once they are known to be all of one dataset."""
    if not infos:
        raise ConfigError("no shards are given, expected the files that lift3d sample --shard wrote")
    shards = [_shard(info) for info in infos]
    order = sorted(range(len(infos)), key=lambda i: shards[i].number)
    first = infos[order[0]]
    for info in infos:
        _require_alike(first, info)
    count, numbers = shards[order[0]].count, [shards[i].number for i in order]
    if twice := [n for n in numbers if numbers.count(n) > 1]:
        same = " and ".join(str(infos[i].path) for i in order if shards[i].number == twice[0])
        raise ConfigError(f"{same} both are shard {twice[0]}/{count}; give each shard once")
    if absent := sorted(set(range(1, count + 1)) - set(numbers)):
        names = ", ".join(f"{n}/{count}" for n in absent[:_SHOWN]) + " ..." * (len(absent) > _SHOWN)
        raise ConfigError(f"{len(absent)} of {count} shards are missing: {names}; write and give them, too")
    parts, sample, rows = [], 0, {"vertices": 0, "faces": 0}
    for i in order:
        parts.append(_Part(infos[i], shards[i], sample, dict(rows)))
        sample += infos[i].planned
        for dataset in infos[i].datasets:
            axis = dataset.name.removeprefix("meshes/")
            if axis in rows:
                rows[axis] += next_mesh(dataset.shape[0])
    return parts


def _shard(info: FileInfo) -> Shard:
    try:
        return Shard.parse(info.config["plan"]["shard"])
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{info.path} does not say which shard it is; lift3d sample --shard does"
        ) from error


def _require_alike(first: FileInfo, other: FileInfo) -> None:
    """Refuses files of two plans or models."""
    plans = first.config["plan"], other.config["plan"]
    ours, theirs = (plan | {"shard": Shard.parse(plan["shard"]).count} for plan in plans)
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise ConfigError(
                f"{name} is {ours.get(name)!r} in {first.path}, {theirs.get(name)!r} in {other.path}; "
                "merge shards of one plan"
            )
    if first.config["model"] != other.config["model"]:
        raise ConfigError(f"{first.path} and {other.path} were written with two models; merge those of one")


def _attributes(parts: Sequence[_Part], out: Path) -> dict[str, str]:
    """What the merged file says of itself, besides what all shards say."""
    folder = Path(os.path.realpath(out)).parent
    config = parts[0].info.config
    names = [os.path.relpath(os.path.realpath(part.info.path), folder) for part in parts]
    return {
        "config": json.dumps(config | {"plan": config["plan"] | {"shard": str(Shard())}}),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        SHARDS: json.dumps(names),
    }


def _copy(file: BinaryIO, parts: Sequence[_Part], out: Path, observer: Observer) -> NDArray[np.bool_]:
    """Copies the done samples as they are stored. Which samples are done."""
    with open_file(parts[0].info.path) as source:
        form = Form.of(source)
    with new_file(file, form, sum(part.info.planned for part in parts)) as new:
        new.h5.attrs.update(_attributes(parts, out))
        for part in parts:
            with open_file(part.info.path) as source:
                for row in np.flatnonzero(source["done"][:]).tolist():
                    new.put(part.first + row, read_encoded(source, row))
            observer.advance()
        return new.h5["done"][:]


def _refer(file: BinaryIO, parts: Sequence[_Part], out: Path, observer: Observer) -> NDArray[np.bool_]:
    """Virtual datasets of what has chunks, and copies of the rest. Which samples are done."""
    attributes = _attributes(parts, out)
    with h5py.File(file.name, "w", libver="earliest") as h5, open_file(parts[0].info.path) as like:
        h5.attrs.update(dict(like.attrs) | attributes)
        for name in (name for name in dataset_names(like) if name in SPECS):  # others are the user's own
            spec = SPECS[name]
            lengths = [_length(part.info, name) for part in parts]
            shape = (_start(parts[-1], spec) + lengths[-1], *like[name].shape[1:])
            if like[name].chunks:
                layout = h5py.VirtualLayout(shape, like[name].dtype)
                for part, path, n in zip(parts, json.loads(attributes[SHARDS]), lengths, strict=True):
                    if n:
                        start = _start(part, spec)
                        layout[start : start + n] = h5py.VirtualSource(path, name, (n, *shape[1:]))
                h5.create_virtual_dataset(name, layout)
            else:
                h5.create_dataset(name, shape, like[name].dtype)
            h5[name].attrs.update(like[name].attrs)
        for part in parts:
            _copy_rows(h5, part)
            observer.advance()
        return h5["done"][:]


def _copy_rows(h5: h5py.File, part: _Part) -> None:
    """Numbers without pixels."""
    with open_file(part.info.path) as source:
        for name in (name for name in dataset_names(source) if name in SPECS and not source[name].chunks):
            rows = source[name][:]
            if name.endswith("_span"):
                rows[:, 0] += part.rows["faces" if "face" in name else "vertices"]
            h5[name][part.first : part.first + len(rows)] = rows


def _start(part: _Part, spec: DatasetSpec) -> int:
    """The first row of a shard in a dataset."""
    return part.rows[spec.shape[0]] if spec.ragged else part.first


def _length(info: FileInfo, name: str) -> int:
    """Rows of a dataset."""
    return next(dataset.shape[0] for dataset in info.datasets if dataset.name == name)
