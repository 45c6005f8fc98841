"""Files and folders appear at their path whole or not at all.

Content is written to a new file beside its destination, under a name that no other process can have, and
moved there in one rename. A symbolic link is followed: what it points to is replaced, the link stays.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lift3d.errors import ConfigError, Lift3DError


@contextmanager
def replacing(path: Path | str, overwrite: bool = True, folder: Path | None = None) -> Iterator[BinaryIO]:
    """A new file, open for writing and reading, that takes the place of ``path`` when the block ends.

    If the block or the disk fails, ``path`` is as it was and nothing else is left. Until then the new file
    is in ``folder``, on the same disk, by default beside ``path``. Raises ``ConfigError`` where ``path`` is
    there and no regular file, ``FileExistsError`` where it is there at the end and ``overwrite`` is False,
    and whatever ``OSError`` the system gives.
    """
    target = _replaceable_file(path)
    name = f".{secrets.token_hex(8)}.partial"  # short: the target's name may be of any length
    partial = (folder or target.parent) / name
    try:
        with open(partial, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, target) if overwrite else _move_to_new(partial, target)
        sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path | str, data: bytes) -> None:
    """Write a file in one rename; what was there is replaced."""
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise Lift3DError(f"cannot write {path}: {error.strerror}") from error


def require_suffix(path: Path | str, suffix: str) -> Path:
    """The path, if its name says what will be in it."""
    if Path(path).suffix.lower() != suffix:
        raise ConfigError(f"{path} does not end in {suffix}; give a name that does")
    return Path(path)


def move_into_place(partial: Path, path: Path | str) -> None:
    """A complete file in the same folder takes the place of ``path``, for files that arrive bit by bit; as
    ``replacing`` does it.
    """
    target = _replaceable_file(path)
    with open(partial, "r+b") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)
    sync_folder(target.parent)


@contextmanager
def replacing_folder(path: Path | str, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """A new, empty folder that takes the place of ``path`` when the block ends.

    If the block or the disk fails, ``path`` is as it was and nothing else is left. What is at ``path`` must
    be an empty folder or one that is ``replaceable``, else ``ConfigError``.
    """
    target = Path(os.path.realpath(path))
    _require_replaceable(path, target, replaceable)
    partial, old = (target.with_name(f".{secrets.token_hex(8)}.{word}") for word in ("partial", "old"))
    partial.mkdir()
    try:
        yield partial
        _require_replaceable(path, target, replaceable)
        if target.exists() and any(target.iterdir()):
            os.rename(target, old)
        try:
            os.rename(partial, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
        sync_folder(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _replaceable_file(path: Path | str) -> Path:
    """Where the links of a path lead; ``ConfigError`` where something is there that is no regular file."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ConfigError(f"{path} is no regular file and is not replaced; choose another path")
    return target


def _require_replaceable(path: Path | str, target: Path, replaceable: Callable[[Path], bool]) -> None:
    if not target.exists() or (target.is_dir() and (not any(target.iterdir()) or replaceable(target))):
        return
    raise ConfigError(f"{path} is there and is not replaced; choose another path")


def _move_to_new(source: Path, target: Path) -> None:
    """Rename that never replaces; file systems without hard links leave an instant for another process."""
    try:
        os.link(source, target)
        source.unlink()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP) or target.exists():
            raise
        os.replace(source, target)


def sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
