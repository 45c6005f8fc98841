"""Feeds mutated dataset files to the readers: ``python tests/hdf5_fuzz.py [N] [SEED]`` prints a summary.

Every input is read as users read it (``describe``, all of ``open_dataset``, ``verify``) by a process that is
killed when it computes for more than ``LIMIT`` seconds. All must end in data or one sentence of a
``Lift3DError``, within ``MEMORY`` bytes beyond what the process held before. Each input follows from SEED
and its number.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
from gan_probe import memory, reset_peak
from lifted_blobs import Blobs

from lift3d.errors import Lift3DError
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.merge import merge
from lift3d.export.hdf5.reader import describe, open_dataset
from lift3d.export.hdf5.schema import SPECS
from lift3d.export.hdf5.verify import verify

LIMIT = 10.0  # seconds of computing, or 30 times as long without an answer
MEMORY = 1e9  # bytes
PLAN = DatasetPlan(
    n=2, views=2, lights=1, size=16, truncation=0.7, meshes="full", split=(0.5, 0.5, 0.0), mesh_resolution=16
)
SPECIAL = (0, 1, 2, 7, 255, 0xFFFF, 0xFFFFFFFF, 2**31, 2**40, 2**63, 2**64 - 1)
SIGNATURES = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"\x89HDF")


def originals(folder: Path) -> dict[str, Path]:
    """A whole file, an unfinished one, one merged by copying."""
    files = {name: folder / f"{name}.h5" for name in ("whole", "unfinished", "copied")}
    write_dataset(Blobs(), PLAN, files["whole"])
    shutil.copy(files["whole"], files["unfinished"])
    with h5py.File(files["unfinished"], "r+") as h5:
        h5["done"][1] = False
    shards = []
    for number in (1, 2):
        shards.append(folder / f"shard{number}.h5")
        write_dataset(Blobs(), DatasetPlan(**vars(PLAN) | {"shard": f"{number}/2"}), shards[-1])
    merge(shards, files["copied"], copy=True)
    return files


# --- mutations of bytes ------------------------------------------------------------------------------------


def flip(data: bytearray, rng: random.Random) -> None:
    """A few bits."""
    for _ in range(rng.randint(1, 8)):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def number(data: bytearray, rng: random.Random) -> None:
    """A number of some length is a special one, or an address of the file."""
    for _ in range(rng.randint(1, 3)):
        i, size = _place(data, rng), rng.choice((1, 2, 4, 8, 8))
        value = rng.choice((*SPECIAL, len(data), rng.randrange(len(data)), _structure(data, rng)))
        data[i : i + size] = struct.pack("<Q", value)[:size]


def cut(data: bytearray, rng: random.Random) -> None:
    """The end is missing."""
    del data[rng.randrange(len(data)) :]


def blank(data: bytearray, rng: random.Random) -> None:
    """A piece is all zeros or ones."""
    i, n = _place(data, rng), rng.choice((1, 8, 64, 512, 4096))
    data[i : i + n] = rng.choice((b"\0", b"\xff")) * len(data[i : i + n])


def remove(data: bytearray, rng: random.Random) -> None:
    """A piece is missing: what follows has moved."""
    i = _place(data, rng)
    del data[i : i + rng.choice((1, 2, 8, 100, 4000))]


def repeat(data: bytearray, rng: random.Random) -> None:
    """A piece stands in another place, too."""
    i, j, n = _place(data, rng), _place(data, rng), rng.choice((2, 8, 24, 64, 1000))
    piece = data[i : i + n]
    data[j : j + len(piece)] = piece


def _structure(data: bytearray, rng: random.Random) -> int:
    """Where some structure of the file begins."""
    return max(data.find(rng.choice(SIGNATURES), rng.randrange(len(data))), 0)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, often in the header, often in a tree or a heap."""
    last = max(len(data) - 1, 0)
    near = (_structure(data, rng) + rng.randrange(600), rng.randrange(40_000), rng.randrange(100))
    return min(rng.choice((rng.randrange(last + 1), *near, *near)), last)


# --- mutations of contents, by HDF5's own means ------------------------------------------------------------


def delete(h5: h5py.File, rng: random.Random) -> None:
    """A dataset or an attribute is missing."""
    item = rng.choice((h5, h5[_name(h5, rng)]))
    if item.attrs and rng.random() < 0.7:
        del item.attrs[rng.choice(list(item.attrs))]
    else:
        h5.move(_name(h5, rng), "gone")  # freeing a dataset whose chunks share their place fails in HDF5


def attribute(h5: h5py.File, rng: random.Random) -> None:
    """An attribute is something else."""
    item = rng.choice((h5, h5, h5[_name(h5, rng)]))
    values = (
        "",
        "{",
        "[]",
        "null",
        '{"plan": 3}',
        "[" * 5000,
        b"\xff",
        3,
        -1,
        1e300,
        [1, 2],
        np.nan,
        "x" * 60_000,
    )
    item.attrs[rng.choice([*item.attrs, "new"])] = rng.choice(values)


def another(h5: h5py.File, rng: random.Random) -> None:
    """A dataset of another shape or dtype, or something that is none, has the name."""
    name = _name(h5, rng)
    old = h5[name]
    shape = rng.choice(((), (0,), (2,), (10**11,), (2, 10**6, 10**6), old.shape[:-1], (*old.shape, 2)))
    h5.move(name, "gone")
    kind = rng.randrange(6)
    if kind == 0:
        h5.create_group(name)
    elif kind == 1:
        h5[name] = h5py.SoftLink(rng.choice(("/done", "/nowhere", f"/{name}", "/")))
    elif kind == 2:
        h5[name] = h5py.ExternalLink(rng.choice(("/etc/passwd", h5.filename)), "/done")
    elif kind == 3:
        layout = h5py.VirtualLayout(old.shape or (1,), old.dtype)
        h5.create_virtual_dataset(name, layout)
    else:
        dtype = rng.choice((old.dtype, "f8", "i1", "S5", h5py.string_dtype(), [("a", "f4")]))
        chunks = (
            rng.choice((None, True))
            if shape and 0 not in shape and np.prod(shape, dtype=float) < 1e6
            else None
        )
        h5.create_dataset(name, shape, dtype, chunks=chunks)


def values(h5: h5py.File, rng: random.Random) -> None:
    """Values that no writer writes."""
    name = _name(h5, rng)
    dataset = h5[name]
    if not dataset.size:
        return
    data = dataset[:]
    odd = {
        "f": (np.nan, np.inf, -1.0, 1e30, 0.0),
        "i": (-1, 0, 2**31 - 1, 10**6),
        "u": (0, 255),
        "b": (True, False),
    }
    data.reshape(-1)[rng.randrange(data.size) :] = np.asarray(rng.choice(odd[data.dtype.kind])).astype(
        data.dtype
    )
    dataset[:] = data


def _name(h5: h5py.File, rng: random.Random) -> str:
    return rng.choice([name for name in SPECS if name in h5])


BYTES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    number,
    number,
    cut,
    blank,
    remove,
    repeat,
)
CONTENTS: tuple[Callable[[h5py.File, random.Random], None], ...] = (delete, attribute, another, values)


def mutate(i: int, seed: int, files: dict[str, Path], path: Path) -> str:
    """Writes the i-th input to ``path``; returns what was done to it."""
    rng = random.Random(f"{seed} {i}")
    kind = rng.choice(list(files))
    if rng.random() < 0.25:
        change = rng.choice(CONTENTS)
        shutil.copy(files[kind], path)
        with h5py.File(path, "r+") as h5:
            change(h5, rng)
        return f"{kind} {change.__name__}"
    data, done = bytearray(files[kind].read_bytes()), []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = rng.choice(BYTES)
        if data:
            change(data, rng)
        done.append(change.__name__)
    path.write_bytes(data)
    return f"{kind} {'+'.join(done)}"


# --- reading -----------------------------------------------------------------------------------------------


def outcome(path: Path) -> list[str]:
    """What each way of reading did; anything but data and a proper sentence starts with "FAILED"."""
    return [_tried(read, path) for read in (describe, _read_all, verify)]


def _read_all(path: Path) -> None:
    dataset = open_dataset(path)
    for i in range(min(len(dataset), 4)):
        _ = dataset[i]
        if "meshes/faces" in dataset.names:
            dataset.mesh(i)


def _tried(read: Callable[[Path], object], path: Path) -> str:
    try:
        report = read(path)
        return "read" if read is not verify else "sound" if report.ok else "found"
    except Lift3DError as error:
        text = str(error)
        proper = text.startswith(str(path)) and "\n" not in text and len(text) < 600
        return type(error).__name__ if proper else f"FAILED: {read.__name__}: {text!r:.300}"
    except BaseException as error:
        return f"FAILED: {read.__name__}: {type(error).__name__}: {error!s:.300}"


def serve(pipe: Connection) -> None:
    """Reads files by name until told to stop; answers with outcomes and memory beyond what was held."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while path := pipe.recv():
        held = memory("VmRSS")
        reset_peak()
        results = outcome(Path(path))
        pipe.send((results, memory("VmHWM") - held))


def stoppable(numbers: Iterable[int]) -> Iterator[int]:
    """The numbers, until Ctrl-C between two of them."""
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stop.append(number))
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    for number in numbers:
        if stop:
            return
        yield number


def answered(pipe: Connection, pid: int) -> bool:
    """Waits for an answer; False where the process has computed too long for it."""
    before, start = computed(pid), time.monotonic()
    while not pipe.poll(0.5):
        if computed(pid) - before > LIMIT or time.monotonic() - start > 30 * LIMIT:
            return False
    return True


def computed(pid: int) -> float:
    """Seconds that a process has computed so far (Linux)."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def main(n: int, seed: int, first: int = 0) -> dict:
    """Reads the inputs from ``first`` to before n, or as many as there are until Ctrl-C or SIGTERM."""
    counts: Counter[str] = Counter()
    failures, slowest, most = [], (0.0, -1), (0.0, -1)
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        files, path, child = originals(Path(folder)), Path(folder) / "file.h5", None
        assert all(outcome(file)[:2] == ["read", "read"] for file in files.values())
        for i in stoppable(range(first, n)):
            what = mutate(i, seed, files, path)
            if child is None:
                pipe, end = fork.Pipe()
                child = fork.Process(target=serve, args=(end,), daemon=True)
                child.start()
                end.close()
            start, results, excess = computed(child.pid), ["FAILED: no answer in time"], 0.0
            pipe.send(str(path))
            try:
                if answered(pipe, child.pid):
                    results, excess = pipe.recv()
                seconds = computed(child.pid) - start
            except EOFError:
                seconds = 0.0
                child.join()
                results = [f"FAILED: the reader died: {child.exitcode}"]
            if results[0].startswith(("FAILED: no answer", "FAILED: the reader")):
                child.kill()
                child.join()
                child = None
            failed = [result for result in results if result.startswith("FAILED")]
            if failed or excess > MEMORY:
                failures.append({"input": i, "what": what, "result": failed, "memory": excess})
                print(failures[-1], file=sys.stderr, flush=True)
            counts[" ".join(result.split(":")[0] for result in results)] += 1
            slowest, most = max(slowest, (seconds, i)), max(most, (excess, i))
        if child is not None:
            pipe.send("")
            child.join()
    return {
        "inputs": sum(counts.values()),
        "describe, open_dataset, verify": dict(counts),
        "failed": len(failures),
        "failures": failures[:30],
        "slowest": slowest,
        "most_memory": most,
    }


if __name__ == "__main__":
    print(json.dumps(main(*(int(a) for a in [*sys.argv[1:], *("300", "0")[len(sys.argv) - 1 :]])), indent=1))
