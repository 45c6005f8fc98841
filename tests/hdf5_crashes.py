"""Runs of the HDF5 writer that end at a chosen step, by SIGKILL or by a power cut. A program:

    python hdf5_crashes.py FOLDER N PART_BYTES kill|power RANDOM_STEPS

A run makes a file of N samples, stops in the middle and goes on. It is repeated, each time up to one step
further, and leaves FOLDER/STEP/faces.h5 and FOLDER/STEP.safe, the number of samples it believed to be safe.
Steps are the calls to the operating system that change files; all of them are tried but writes, of which
there are hundreds: of these RANDOM_STEPS, each cut in half.

A power cut loses what was not synced: contents of files (sectors of zeros), and names of new, renamed and
linked files and folders. Each is lost with probability 1/2.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hdf5_samples import arrays, dimensions, make

from lift3d.export.hdf5 import writer
from lift3d.export.hdf5.writer import DatasetWriter

NEVER = 1 << 60
NAMES = ("mkdir", "replace", "link", "unlink", "rmdir", "fsync", "ftruncate", "pwrite")


class Machine:
    """The operating system as the writer sees it, until step ``last``."""

    def __init__(self, folder: Path, last: int, power: bool) -> None:
        self.folder, self.last, self.power, self.steps = folder, last, power, []
        self.real = {name: getattr(os, name) for name in NAMES}
        self.unsynced: set[int] = set()  # inodes of files
        self.undo: dict[int, list[Callable[[], None]]] = {}  # by inode of the folder
        self.spare = Path(f"{folder}.spare")
        self.rng = np.random.default_rng(last)
        for name in NAMES:
            setattr(os, name, lambda *args, _name=name, **named: self.step(_name, *args, **named))

    def step(self, name: str, *args, **named) -> object:
        if len(self.steps) == self.last:
            if name == "pwrite":
                self.real[name](args[0], args[1][: len(args[1]) // 2], args[2])
                self.unsynced.add(os.fstat(args[0]).st_ino)
            if self.power:
                self.cut()
            os._exit(0)
        self.steps.append(name)
        if name == "pwrite":
            self.unsynced.add(os.fstat(args[0]).st_ino)
        elif name == "fsync":
            self.unsynced.discard(os.fstat(args[0]).st_ino)
            self.undo.pop(os.fstat(args[0]).st_ino, None)
        undo = self.undoing(name, *args) if self.power and name in ("mkdir", "replace", "link") else None
        result = self.real[name](*args, **named)
        if undo:
            folder = Path(args[0] if name == "mkdir" else args[1]).parent
            self.undo.setdefault(folder.stat().st_ino, []).append(undo)
        return result

    def undoing(self, name: str, *args) -> Callable[[], None]:
        """How to take back the new name that a call is about to make."""
        old, new = Path(args[0]), Path(args[0] if name == "mkdir" else args[1])
        backup = self.spare / str(len(self.steps))
        if name == "replace" and new.exists():
            self.spare.exists() or self.real["mkdir"](self.spare)
            self.real["link"](new, backup)

        def undo() -> None:
            if name == "mkdir":
                shutil.rmtree(new, ignore_errors=True)
            elif name == "link":
                self.real["unlink"](new)
            else:
                self.real["replace"](new, old)
                if backup.exists():
                    self.real["link"](backup, new)

        return undo

    def cut(self) -> None:
        """The power goes."""
        for name, function in self.real.items():
            setattr(os, name, function)
        for path in [path for path in self.folder.rglob("*") if path.is_file()]:
            if path.stat().st_ino in self.unsynced:
                data = bytearray(path.read_bytes())
                for start in range(0, len(data), 512):
                    if self.rng.random() < 0.5:
                        data[start : start + 512] = bytes(len(data[start : start + 512]))
                path.write_bytes(data)
        for undone in self.undo.values():
            for undo in reversed(undone[int(self.rng.integers(len(undone) + 1)) :]):
                undo()


def run(folder: Path, n: int, last: int, power: bool) -> list[str]:
    """One run; its steps, if it comes to its end."""
    safe = os.open(f"{folder}.safe", os.O_CREAT | os.O_WRONLY)
    path, machine = folder / "faces.h5", Machine(folder, last, power)
    lengths = make(path, n)
    for stop in (n // 2, n):
        with DatasetWriter(path, threads=1) as file:
            for i in np.flatnonzero(~file.done[:stop]):
                file.write(int(i), arrays(int(i), lengths))
                os.write(safe, bytes([int(file.done.sum())]))
        os.write(safe, bytes([stop]))
    return machine.steps


def main() -> None:
    folder, n, power = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[4] == "power"
    writer.PART_BYTES = int(sys.argv[3])
    arrays(0, dimensions(n))
    (folder / "whole").mkdir()
    reader, end = os.pipe()
    if not os.fork():
        os.write(end, " ".join(run(folder / "whole", n, NEVER, False)).encode())
        os._exit(0)
    os.close(end)
    steps = os.fdopen(reader).read().split()
    writes = [i for i, name in enumerate(steps) if name == "pwrite"]
    some = np.random.default_rng(0).choice(writes, int(sys.argv[5]), replace=False).tolist()
    for last in sorted(some + [i for i, name in enumerate(steps) if name != "pwrite"]):
        (folder / str(last)).mkdir()
        if not (child := os.fork()):
            run(folder / str(last), n, last, power)
            os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(f"the run did not end at step {last}")
    print(len(steps), len(writes))


if __name__ == "__main__":
    main()
