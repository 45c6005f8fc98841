"""Files from the network, and their way into a cache.

The cache is the folder ``$LIFT3D_CACHE``, else ``$XDG_CACHE_HOME/lift3d``, else ``~/.cache/lift3d``. What
bears a file's own name there is complete; ``NAME.part`` is what has arrived so far, and the next call goes on
after it (HTTP Range) unless the published file has changed since (``NAME.etag``). Sizes are in bytes.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from lift3d import __version__
from lift3d.errors import CorruptFile
from lift3d.observer import Observer

TIMEOUT = 30.0  # seconds without a byte
MEGABYTE = 1_000_000
_BROKEN = (OSError, http.client.HTTPException)  # what a connection dies of


def cache_folder() -> Path:
    """Where downloaded files are kept; it need not exist."""
    if own := os.environ.get("LIFT3D_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lift3d"


class Interrupted(Exception):
    """The network failed."""


def fetch(
    url: str, target: Path, observer: Observer, size: int | None = None, sha256: str | None = None
) -> Path:
    """Downloads one file, continuing ``target.part``; ``target`` appears when it is complete and as
    expected."""
    if target.exists():
        return target
    part, tag = (target.with_name(target.name + end) for end in (".part", ".etag"))
    have = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, have, tag)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise Interrupted(f"{url}: {error.code} {error.reason}") from error
        if error.headers.get("Content-Range") != f"bytes */{have}":  # what is there is no beginning of it
            part.unlink()
            return fetch(url, target, observer, size, sha256)
    except _BROKEN as error:
        raise Interrupted(f"{url}: {_reason(error)}") from error
    else:
        with response:
            _receive(response, url, part, tag, have, observer)
    check_file(part, size, sha256)
    os.replace(part, target)
    tag.unlink(missing_ok=True)
    return target


def _open(url: str, have: int, tag: Path) -> http.client.HTTPResponse:
    """The response to a request for what follows the first ``have`` bytes."""
    headers = {"User-Agent": f"lift3d/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag.exists():
            headers["If-Range"] = tag.read_text()
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _receive(
    response: http.client.HTTPResponse, url: str, part: Path, tag: Path, have: int, observer: Observer
) -> None:
    """Appends a response to the partial file, or starts the file anew where the server sends all of it."""
    if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        if response.status == 206:
            raise Interrupted(f"{url}: the server sent another range than asked for")
        have = 0
    tag.unlink(missing_ok=True)
    if (etag := response.headers.get("ETag", "")).startswith('"'):
        tag.write_text(etag)
    length = response.headers.get("Content-Length")
    total = have + int(length) if length is not None and length.isdecimal() else None
    observer.start(f"downloading {part.stem}, MB", None if total is None else -(-total // MEGABYTE))
    observer.advance(have // MEGABYTE)
    with open(part, "ab" if have else "wb") as file:
        while True:
            try:
                data = response.read(MEGABYTE)
            except _BROKEN as error:
                raise Interrupted(f"{url}: {_reason(error)} after {file.tell()} bytes") from error
            if not data:
                break
            file.write(data)
            observer.advance()
        if total is not None and file.tell() < total:
            raise Interrupted(f"{url}: the connection ended after {file.tell()} of {total} bytes")
    observer.finish()


def _reason(error: Exception) -> str:
    """What broke a connection."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(error).__name__


def check_file(part: Path, size: int | None, sha256: str | None) -> None:
    """A complete file of another size or hash than expected goes away."""
    found = part.stat().st_size
    problem = None
    if size is not None and found != size:
        problem = f"has {found} bytes, expected {size}"
    elif sha256 is not None:
        with open(part, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            problem = f"has the SHA-256 {digest}, expected {sha256}"
    if problem:
        part.unlink()
        raise CorruptFile(
            f"the download of {part.stem} {problem}; it was deleted: run the command again, or get the file "
            "by other means and pass it with --gan PATH"
        )


def part_name(url: str) -> str:
    """A name that no other URL has."""
    return url.split("/", 3)[-1].replace("/", "-")


class Joined:
    """Files, read as one."""

    def __init__(self, files: Sequence[BinaryIO]) -> None:
        self.files = list(files)

    def read(self, n: int) -> bytes:
        """At most n bytes; none at the end."""
        while self.files:
            if data := self.files[0].read(n):
                return data
            self.files.pop(0)
        return b""
