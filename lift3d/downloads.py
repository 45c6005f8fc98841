"""Files from the network, and their way into a cache.

The cache is the folder ``$LIFT3D_CACHE``, else ``$XDG_CACHE_HOME/lift3d``, else ``~/.cache/lift3d``. What
bears a file's own name there is complete; ``NAME.part`` is what has arrived so far. The next call goes on
after it (HTTP Range) if the server says that it is the same version: ``NAME.version`` keeps its strong ETag,
or its date, and its length. Sizes are in bytes.
"""

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from lift3d import __version__
from lift3d.errors import CorruptFile
from lift3d.observer import Observer
from lift3d.whole_file import move_into_place

TIMEOUT = 30.0  # seconds without a byte
WINDOW = 60.0  # seconds in which
TRICKLE = 60_000  # so many bytes must come
MEGABYTE = 1_000_000
_BROKEN = (OSError, http.client.HTTPException)  # what a connection dies of


def cache_folder() -> Path:
    """Where downloaded files are kept; it need not exist."""
    if own := os.environ.get("LIFT3D_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lift3d"


class Interrupted(Exception):
    """The network failed."""


@dataclass(frozen=True)
class Version:
    """What tells a published file from the one that replaces it."""

    validator: str  # a strong ETag or a date of last modification
    length: int


def fetch(
    url: str, target: Path, observer: Observer, size: int | None = None, sha256: str | None = None
) -> Path:
    """Downloads one file, continuing ``target.part``; ``target`` appears when it is complete and as
    expected. Raises ``Interrupted`` where the network fails or sends something else.
    """
    if target.exists():
        return target
    part, note = (target.with_name(target.name + end) for end in (".part", ".version"))
    version = _noted(note)
    have = part.stat().st_size if version and part.exists() else 0
    if version is None or have != version.length:
        have = have if version and have < version.length else 0
        try:
            with _open(url, have, version) as response:
                _receive(response, part, note, version if have else None, have, observer)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not have:
                raise Interrupted(f"{url}: {error.code} {error.reason}") from error
            part.unlink()  # it is no beginning of what is there
            return fetch(url, target, observer, size, sha256)
        except (Interrupted, *_BROKEN) as error:
            raise Interrupted(f"{url}: {_reason(error)}") from error
    check_file(part, size, sha256)
    move_into_place(part, target)
    note.unlink(missing_ok=True)
    return target


def _open(url: str, have: int, version: Version | None) -> http.client.HTTPResponse:
    """The response to a request for what follows the first ``have`` bytes of a version."""
    headers = {"User-Agent": f"lift3d/{__version__}"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.validator}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    note: Path,
    version: Version | None,
    have: int,
    observer: Observer,
) -> None:
    """Appends a response to the partial file, or starts the file anew where the server sends all of it."""
    found = _version_of(response)
    if response.status == 206:
        if version is None or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise Interrupted("the server sent another range than asked for")
        if found not in (version, Version("", version.length)):
            part.unlink()
            raise Interrupted("the server sent the end of another version, so the beginning was deleted")
    else:
        part.unlink(missing_ok=True)  # before the note says of which version it is
        have = 0
        note.write_text(json.dumps(asdict(found))) if found.validator else note.unlink(missing_ok=True)
    observer.start(f"downloading {part.stem}, MB", -(-found.length // MEGABYTE))
    observer.advance(have // MEGABYTE)
    with open(part, "ab") as file:
        for data in _chunks(response, have):
            if file.tell() == 0 and data.lstrip()[:1] == b"<":
                raise Interrupted("the server sent a web page instead of the file")
            before = file.tell()
            file.write(data)
            observer.advance(file.tell() // MEGABYTE - before // MEGABYTE)
        if file.tell() != found.length:
            raise Interrupted(f"the connection ended after {file.tell()} of {found.length} bytes")
        observer.advance(-(-found.length // MEGABYTE) - found.length // MEGABYTE)
    observer.finish()


def _version_of(response: http.client.HTTPResponse) -> Version:
    """The version that a response is of, or a part of; what is no whole file is refused."""
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise Interrupted("the server sent a web page instead of the file")
    length = headers.get("Content-Length", "")
    if response.status == 206:
        length = headers.get("Content-Range", "").rpartition("/")[2]
    if not length.isdecimal():
        raise Interrupted("the server does not say how long the file is, so its end could get lost")
    etag = headers.get("ETag", "")
    return Version(etag if etag.startswith('"') else headers.get("Last-Modified", ""), int(length))


def _noted(note: Path) -> Version | None:
    """The version that the partial file is of, if that is known."""
    try:
        version = Version(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    known = type(version.validator) is str and type(version.length) is int and version.validator.isprintable()
    return version if known else None


def _chunks(response: http.client.HTTPResponse, have: int) -> Iterator[bytes]:
    """The body as it comes; ``Interrupted`` where it breaks off or comes too slowly to go on waiting."""
    since, came = time.monotonic(), 0
    while True:
        try:
            data = response.read1(MEGABYTE)
        except _BROKEN as error:
            raise Interrupted(f"{_reason(error)} after {have} bytes") from error
        if not data:
            return
        yield data
        have, came = have + len(data), came + len(data)
        if (passed := time.monotonic() - since) >= WINDOW:
            if came < TRICKLE:
                raise Interrupted(f"the server is too slow: {came} bytes in {passed:.0f} s, {have} in all")
            since, came = time.monotonic(), 0


def _reason(error: Exception) -> str:
    """What broke a connection."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(error).__name__


def check_file(part: Path, size: int | None, sha256: str | None) -> None:
    """A complete file of another size or hash than expected goes away."""
    with open(part, "rb") as file:
        problem = mismatch(file, size, sha256)
    if problem:
        part.unlink()
        raise CorruptFile(
            f"the download of {part.stem} {problem}; it was deleted: run the command again, or get the file "
            "by other means and pass it with --gan PATH"
        )


def mismatch(file: BinaryIO, size: int | None, sha256: str | None) -> str | None:
    """What of an open file's size and hash is not as expected, if anything."""
    found = file.seek(0, os.SEEK_END)
    if size is not None and found != size:
        return f"has {found} bytes, expected {size}"
    file.seek(0)
    if sha256 is not None and (digest := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
        return f"has the SHA-256 {digest}, expected {sha256}"
    return None


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
