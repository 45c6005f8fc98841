"""Where the GANs of the published presets are, and their way into a cache.

The cache is the folder ``$LIFT3D_CACHE``, else ``$XDG_CACHE_HOME/lift3d``, else ``~/.cache/lift3d``. What
bears a file's own name there is complete; ``NAME.part`` is what has arrived so far, and the next call goes on
after it (HTTP Range) unless the published file has changed since (``NAME.etag``). Sizes are in bytes.
"""

import hashlib
import http.client
import os
import shlex
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lift3d import __version__
from lift3d.errors import CheckpointError, CorruptFile
from lift3d.observer import Observer, SilentObserver

TIMEOUT = 30.0  # seconds without a byte
MEGABYTE = 1_000_000
_BROKEN = (OSError, http.client.HTTPException)  # what a connection dies of
_DAMAGED = (tarfile.TarError, zlib.error, EOFError)


@dataclass(frozen=True)
class PublishedGan:
    """A GAN file that others publish; several ``urls`` are the pieces of a .tar.gz that holds ``member``."""

    file: str  # its name in the cache
    urls: tuple[str, ...]
    licence: str  # what is known of the terms, one line
    member: str | None = None
    size: int | None = None  # of the file; None: unknown
    sha256: str | None = None  # of the file; None: unknown

    @property
    def path(self) -> Path:
        """Its place in the cache."""
        return cache_folder() / self.file


_NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/"
_NVIDIA_TERMS = "NVIDIA Source Code License: non-commercial use, that is, research or evaluation, only"
_GAN2SHAPE = "https://github.com/XingangPan/GAN2Shape/releases/download/v1.0/"
_GAN2SHAPE_PARTS = tuple(_GAN2SHAPE + part for part in ("x00", "x01", "x02", "x03"))
_GAN2SHAPE_TERMS = "not stated for the weights (GAN2Shape's code is MIT); take them as non-commercial only"

GANS = {  # by preset; no size or hash is documented
    "celeba": PublishedGan(
        "stylegan2-celeba-config-e.pt",
        _GAN2SHAPE_PARTS,
        _GAN2SHAPE_TERMS,
        "checkpoints/stylegan2/stylegan2-celeba-config-e.pt",
    ),
    "celeba-hq": PublishedGan(
        "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
        (
            _NVIDIA + "transfer-learning-source-nets/"
            "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
        ),
        _NVIDIA_TERMS,
    ),
    "afhq-cat": PublishedGan("afhqcat.pkl", (_NVIDIA + "afhqcat.pkl",), _NVIDIA_TERMS),
    "lsun-car": PublishedGan(
        "stylegan2-car-config-f.pt",
        _GAN2SHAPE_PARTS,
        _GAN2SHAPE_TERMS,
        "checkpoints/stylegan2/stylegan2-car-config-f.pt",
    ),
}


def cache_folder() -> Path:
    """Where downloaded files are kept; it need not exist."""
    if own := os.environ.get("LIFT3D_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lift3d"


def download(gan: PublishedGan, observer: Observer | None = None) -> Path:
    """The file in the cache, downloaded unless it is there; other published files of the same archive are
    unpacked along with it.

    Raises ``CheckpointError`` with the steps to take by hand where the network fails (what has arrived is
    kept and continued by the next call), ``CorruptFile`` for another size, hash or content than expected.
    """
    if gan.path.exists():
        return gan.path
    observer = observer or SilentObserver()
    gan.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if gan.member is None:
            (url,) = gan.urls
            return fetch(url, gan.path, observer, gan.size, gan.sha256)
        parts = [fetch(url, gan.path.parent / _part_name(url), observer) for url in gan.urls]
    except _Interrupted as error:
        raise CheckpointError(f"{gan.file} could not be downloaded ({error}); {_by_hand(gan)}") from error
    _unpack(parts, gan)
    return gan.path


class _Interrupted(Exception):
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
            raise _Interrupted(f"{url}: {error.code} {error.reason}") from error
        if error.headers.get("Content-Range") != f"bytes */{have}":  # what is there is no beginning of it
            part.unlink()
            return fetch(url, target, observer, size, sha256)
    except _BROKEN as error:
        raise _Interrupted(f"{url}: {_reason(error)}") from error
    else:
        with response:
            _receive(response, url, part, tag, have, observer)
    _check(part, size, sha256)
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
            raise _Interrupted(f"{url}: the server sent another range than asked for")
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
                raise _Interrupted(f"{url}: {_reason(error)} after {file.tell()} bytes") from error
            if not data:
                break
            file.write(data)
            observer.advance()
        if total is not None and file.tell() < total:
            raise _Interrupted(f"{url}: the connection ended after {file.tell()} of {total} bytes")
    observer.finish()


def _reason(error: Exception) -> str:
    """What broke a connection."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(error).__name__


def _check(part: Path, size: int | None, sha256: str | None) -> None:
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


def _part_name(url: str) -> str:
    """A name that no other URL has."""
    return url.split("/", 3)[-1].replace("/", "-")


def _by_hand(gan: PublishedGan) -> str:
    """How to do without us."""
    place = f"and pass it with --gan PATH or put it at {gan.path}"
    again = "run the command again to go on where it stopped, or"
    if gan.member is None:
        return f"{again} get {gan.urls[0]} by other means {place}"
    names = " ".join(url.rsplit("/", 1)[-1] for url in gan.urls)
    command = f"cat {names} | tar xz {shlex.quote(gan.member)}"
    return f"{again} get {' '.join(gan.urls)} by other means, unpack the file with `{command}` {place}"


class _Joined:
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


def _unpack(parts: Sequence[Path], gan: PublishedGan) -> None:
    """Takes the wanted files out of an archive in pieces, which are deleted; other entries are skipped."""
    wanted = {other.member: other for other in (*GANS.values(), gan) if other.urls == gan.urls}
    try:
        with ExitStack() as stack:
            joined = _Joined([stack.enter_context(open(part, "rb")) for part in parts])
            archive = stack.enter_context(tarfile.open(fileobj=joined, mode="r|gz"))
            for entry in archive:
                found = wanted.get(entry.name.removeprefix("./"))
                if found is None or not entry.isfile():
                    continue
                partial = found.path.with_name(found.file + ".part")
                with open(partial, "wb") as out:
                    stream = archive.extractfile(entry)
                    while data := stream.read(MEGABYTE):
                        out.write(data)
                _check(partial, found.size, found.sha256)
                os.replace(partial, found.path)
    except _DAMAGED as error:
        problem = f"is damaged ({error})"
    else:
        problem = None if gan.path.exists() else f"has no file {gan.member}"
    for part in parts:
        part.unlink()
    if problem:
        raise CorruptFile(f"the archive of {gan.file} {problem} and was deleted; {_by_hand(gan)}")
