"""One writer per dataset file: a lock on the file itself, and whether the file is still at its path.

The lock belongs to the open file, not to the process (Linux's "open file description" locks): closing
another descriptor of the file, as every reader in this process does, keeps it, and it ends with its holder,
even by SIGKILL. Readers are free: HDF5's own locks (``flock``) are of another kind and do not meet it.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lift3d.errors import ConfigError, Lift3DError

_WHOLE_FILE = struct.pack("hhqqq", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # flock: from byte 0, all, no pid


def lock(fd: int, path: Path) -> None:
    """Take the lock of an open file, for as long as the file or a duplicate of ``fd`` is open."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
    except OSError as error:
        raise ConfigError(
            f"{path} is being written by another process; wait for it or choose another file"
        ) from error


@contextmanager
def lock_at(path: Path) -> Iterator[None]:
    """Holds the lock of the file at ``path`` in the block; nothing to hold where there is no regular file."""
    if not path.is_file():
        yield
        return
    fd = os.open(path, os.O_RDWR)
    try:
        lock(fd, path)
        require_same(fd, path)  # another process may have replaced it before the lock was ours
        yield
    finally:
        os.close(fd)


def require_same(fd: int, path: Path) -> None:
    """Fails unless the open file is the one at ``path``."""
    try:
        same = os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        same = False
    if not same:
        raise Lift3DError(
            f"{path} was removed or replaced while it was being written, so the run ended; "
            "run the command again, with another file if two runs want this one"
        )
