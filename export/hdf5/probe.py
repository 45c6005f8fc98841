"""Whether HDF5 gets through a file's structure at all, found out by another process.

A damaged header can send the library round in circles or crash it, and neither can be caught. The process
opens the file and walks over all names, attributes and chunk indices; it says so after each, and is killed
when it has said nothing for some time. ``python -m lift3d.export.hdf5.probe FILE`` is that process.
"""

import select
import subprocess
import sys
from pathlib import Path

from lift3d.errors import CorruptFile

SECONDS = 10.0  # without a word
START = 60.0  # until the first one, which a new process on a busy machine may need


def probe(path: Path, seconds: float = SECONDS) -> None:
    """Raises ``CorruptFile`` where reading does not end or crashes; other errors are left to the reader."""
    command = [sys.executable, "-m", "lift3d.export.hdf5.probe", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        patience = START
        while select.select([child.stdout], [], [], patience)[0]:
            if not child.stdout.read1(4096):
                break
            patience = seconds
        else:
            child.kill()
            raise CorruptFile(f"{path}: HDF5 does not get through its structure; write the file again")
    if child.returncode < 0:
        raise CorruptFile(f"{path}: HDF5 crashes on its structure; write the file again")


def walk(path: str) -> None:
    """Visits everything but data; a dot for each item."""
    import h5py

    def visit(_: str, item: object) -> None:
        dict(item.attrs)
        if isinstance(item, h5py.Dataset):
            item.id.get_storage_size()
        print(end=".", flush=True)

    print(end=".", flush=True)
    with h5py.File(path, "r") as h5:
        visit("/", h5)
        h5.visititems(visit)


if __name__ == "__main__":
    walk(sys.argv[1])
