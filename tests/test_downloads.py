"""Downloads from a server on this machine: resume, checks, archives, and what is said without a network."""

import hashlib
import http.client
import http.server
import io
import re
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lift3d.config.presets import PRESETS
from lift3d.downloads import cache_folder
from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.published import GANS, PublishedGan, download
from lift3d.observer import SilentObserver

DATA = bytes(range(256)) * 9000  # 2.3 MB


@dataclass
class Server:
    """What a server offers, how it misbehaves, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"one"'
    stop_after: int | None = None  # bytes of a body that it promises in full
    ranges: bool = True
    shift: int = 0  # bytes by which it misses the range it was asked for
    headers: dict[str, str | None] = field(default_factory=dict)  # said instead of the usual; None: left out
    honest: bool = True  # it sends a range only of the version it was asked for
    pause: float = 0.0  # seconds between pieces of 100 bytes
    asked: list[str | None] = field(default_factory=list)


def handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            same = not server.honest or condition in (None, server.etag, server.headers.get("Last-Modified"))
            server.asked.append(asked)
            data = server.files.get(self.path)
            if data is None:
                return self.send_error(404)
            start = int(asked[6:-1]) if asked and same and server.ranges else 0
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                return self.end_headers()
            self.send_response(206 if start else 200)
            headers = {"ETag": server.etag, "Content-Length": str(len(data) - start)}
            if start:
                headers["Content-Range"] = f"bytes {start + server.shift}-{len(data) - 1}/{len(data)}"
            for name, value in (headers | server.headers).items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            body = data[start:][: server.stop_after]
            if not server.pause:
                self.wfile.write(body)
                return
            with suppress(OSError):  # the client has had enough
                for i in range(0, len(body), 100):
                    self.wfile.write(body[i : i + 100])
                    time.sleep(server.pause)

        def log_message(self, *_: object) -> None: ...

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    offered = Server(files={"/gan.pkl": DATA})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(offered)) as running:
        offered.url = f"http://127.0.0.1:{running.server_port}/"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield offered
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def gan(server: Server) -> PublishedGan:
    return PublishedGan("gan.pkl", (server.url + "gan.pkl",), "some terms")


class Recorder(SilentObserver):
    def __init__(self) -> None:
        self.totals, self.done = [], 0

    def start(self, task: str, total: int | None) -> None:
        self.totals.append(total)

    def advance(self, n: int = 1, **values: float) -> None:
        self.done += n


def test_every_published_preset_has_a_source_and_its_terms() -> None:
    assert (
        GANS.keys() == {"celeba", "celeba-hq", "afhq-cat", "lsun-car", "ffhq", "ffhq-512"} <= PRESETS.keys()
    )
    for source in GANS.values():
        assert source.license and all(url.startswith("https://") for url in source.urls)
        assert (source.member is None) == (len(source.urls) == 1)
        assert source.file == (source.member or source.urls[0]).rsplit("/", 1)[1]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIFT3D_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("LIFT3D_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/lift3d")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lift3d"


def test_a_file_arrives_whole_and_once(server: Server, gan: PublishedGan, cache: Path) -> None:
    exact = replace(gan, size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
    recorder = Recorder()
    assert download(exact, recorder) == cache / "gan.pkl"
    assert (cache / "gan.pkl").read_bytes() == DATA
    assert (recorder.totals, recorder.done) == ([3], 3)
    download(exact)
    assert server.asked == [None]
    assert [path.name for path in cache.iterdir()] == ["gan.pkl"]


def test_what_arrived_is_kept_and_continued(server: Server, gan: PublishedGan, cache: Path) -> None:
    server.stop_after = 1_500_000
    with pytest.raises(CheckpointError, match="after 1500000 of 2304000 bytes") as caught:
        download(gan)
    manual = f"get {gan.urls[0]} by other means and pass it with --gan PATH or put it at {cache / 'gan.pkl'}"
    assert manual in str(caught.value) and "\n" not in str(caught.value)
    assert (cache / "gan.pkl.part").read_bytes() == DATA[:1_500_000]
    server.stop_after = None
    assert download(gan).read_bytes() == DATA
    assert server.asked == [None, "bytes=1500000-"]


@pytest.mark.parametrize("change", ["etag", "ranges"])
def test_a_file_that_changed_or_cannot_be_continued_starts_anew(
    server: Server, gan: PublishedGan, change: str
) -> None:
    server.stop_after = 1_500_000
    with pytest.raises(CheckpointError):
        download(gan)
    server.stop_after, server.files["/gan.pkl"] = None, DATA[::-1]
    server.etag, server.ranges = ('"two"', True) if change == "etag" else ('"one"', False)
    assert download(gan).read_bytes() == DATA[::-1]


def begun(cache: Path, part: bytes, note: str = '{"validator": "\\"one\\"", "length": 2304000}') -> None:
    """A download that was interrupted."""
    cache.mkdir()
    (cache / "gan.pkl.part").write_bytes(part)
    (cache / "gan.pkl.version").write_text(note)


@pytest.mark.parametrize(
    ("beginning", "asked"),
    [(DATA, []), (DATA + b"more", [None]), (DATA[:7], ["bytes=7-"])],
    ids=["whole", "too long", "short"],
)
def test_partial_files(
    server: Server, gan: PublishedGan, cache: Path, beginning: bytes, asked: list[str | None]
) -> None:
    begun(cache, beginning)
    assert download(gan).read_bytes() == DATA and server.asked == asked
    assert [path.name for path in cache.iterdir()] == ["gan.pkl"]


@pytest.mark.parametrize(
    "note", ["", "[1]", '{"validator": 1, "length": 2304000}', '{"length": 5}', "[" * 9000]
)
def test_a_beginning_of_unknown_version_is_not_continued(
    server: Server, gan: PublishedGan, cache: Path, note: str
) -> None:
    begun(cache, b"another version", note)
    assert download(gan).read_bytes() == DATA and server.asked == [None]


def test_halves_of_two_versions_are_not_joined(server: Server, gan: PublishedGan, cache: Path) -> None:
    begun(cache, DATA[::-1][:1000])
    server.etag, server.honest = '"two"', False  # it sends the range though it has another version
    with pytest.raises(CheckpointError, match="the end of another version, so the beginning was deleted"):
        download(gan)
    assert not (cache / "gan.pkl.part").exists()
    assert download(gan).read_bytes() == DATA


def test_a_published_file_that_became_shorter(server: Server, gan: PublishedGan, cache: Path) -> None:
    begun(cache, DATA[:2_000_000])
    server.files["/gan.pkl"], server.honest = b"short", False
    assert download(gan).read_bytes() == b"short"


def test_a_date_tells_versions_apart_where_there_is_no_tag(
    server: Server, gan: PublishedGan, cache: Path
) -> None:
    monday, tuesday = "Mon, 06 Jan 2025 00:00:00 GMT", "Tue, 07 Jan 2025 00:00:00 GMT"
    server.stop_after, server.headers = 1_500_000, {"ETag": None, "Last-Modified": monday}
    with pytest.raises(CheckpointError):
        download(gan)
    server.stop_after = None
    assert download(gan).read_bytes() == DATA and server.asked == [None, "bytes=1500000-"]
    (cache / "gan.pkl").unlink()
    server.stop_after = 1_500_000
    with pytest.raises(CheckpointError):
        download(gan)
    server.stop_after, server.headers["Last-Modified"] = None, tuesday
    server.files["/gan.pkl"] = DATA[::-1]
    assert download(gan).read_bytes() == DATA[::-1]


def test_web_pages_are_refused(server: Server, gan: PublishedGan, cache: Path) -> None:
    sentence = "gan.pkl: the server sent a web page instead of the file"
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(CheckpointError, match=sentence):
        download(gan)
    server.headers, server.files["/gan.pkl"] = {}, b"\n <!doctype html><title>Sign in</title>"
    with pytest.raises(CheckpointError, match=sentence):
        download(gan)
    server.files["/gan.pkl"] = DATA
    assert download(gan).read_bytes() == DATA


def test_a_body_without_a_length_is_refused(server: Server, gan: PublishedGan) -> None:
    server.headers = {"Content-Length": None}
    with pytest.raises(CheckpointError, match="does not say how long the file is, so its end could get lost"):
        download(gan)


def test_a_trickle_is_given_up_and_continued_later(
    server: Server, gan: PublishedGan, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lift3d.downloads.WINDOW", 0.3)
    server.pause = 0.02
    with pytest.raises(
        CheckpointError, match=r"too slow: \d+ bytes in 0 s, \d+ in all.*run the command again"
    ):
        download(gan)
    part = (cache / "gan.pkl.part").read_bytes()
    assert 0 < len(part) < 60_000 and part == DATA[: len(part)]
    server.pause = 0.0
    assert download(gan).read_bytes() == DATA and server.asked == [None, f"bytes={len(part)}-"]


def test_another_range_than_asked_for_is_not_appended(server: Server, gan: PublishedGan, cache: Path) -> None:
    begun(cache, DATA[:100])
    server.shift = 7
    with pytest.raises(CheckpointError, match="the server sent another range than asked for"):
        download(gan)
    assert (cache / "gan.pkl.part").read_bytes() == DATA[:100]


@pytest.mark.parametrize(
    ("expected", "sentence"),
    [
        ({"size": 5}, "has 2304000 bytes, expected 5"),
        ({"sha256": "0" * 64}, "has the SHA-256 .*, expected 0000"),
    ],
)
def test_another_size_or_hash_is_refused(
    gan: PublishedGan, cache: Path, expected: dict, sentence: str
) -> None:
    with pytest.raises(CorruptFile, match=sentence):
        download(replace(gan, **expected))
    assert not (cache / "gan.pkl").exists() and not (cache / "gan.pkl.part").exists()


def test_no_network_and_no_such_file(server: Server, gan: PublishedGan) -> None:
    with pytest.raises(CheckpointError, match="gone.pkl: 404 Not Found"):
        download(replace(gan, urls=(server.url + "gone.pkl",)))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/gan.pkl"
        with pytest.raises(CheckpointError, match="Connection refused.*pass it with --gan PATH or put it at"):
            download(replace(gan, urls=(url,)))


def test_a_connection_that_breaks_while_reading(
    gan: PublishedGan, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, sizes = http.client.HTTPResponse.read1, []

    def breaking(response: http.client.HTTPResponse, n: int) -> bytes:
        if sizes:
            raise ConnectionResetError(104, "Connection reset by peer")
        sizes.append(len(data := read(response, 1000)))
        return data

    monkeypatch.setattr(http.client.HTTPResponse, "read1", breaking)
    with pytest.raises(CheckpointError, match=r"gan.pkl: Connection reset by peer after \d+ bytes"):
        download(gan)
    monkeypatch.undo()
    monkeypatch.setenv("LIFT3D_CACHE", str(cache))
    assert (cache / "gan.pkl.part").read_bytes() == DATA[: sizes[0]]
    assert download(gan).read_bytes() == DATA


def packed(**files: bytes) -> bytes:
    """A .tar.gz."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"./dir/{name}.pt")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def archived(server: Server, data: bytes, member: str = "dir/a.pt") -> PublishedGan:
    """A GAN in an archive of three pieces."""
    third = len(data) // 3
    pieces = (data[:third], data[third : 2 * third], data[2 * third :])
    server.files |= {f"/x0{i}": piece for i, piece in enumerate(pieces)}
    return PublishedGan("a.pt", tuple(f"{server.url}x0{i}" for i in range(3)), "some terms", member)


def test_an_archive_in_pieces(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = archived(server, packed(other=b"no", a=DATA, b=b"second"))
    two = replace(one, file="b.pt", member="dir/b.pt")
    monkeypatch.setitem(GANS, "two", two)
    assert download(one).read_bytes() == DATA
    assert sorted(path.name for path in cache.iterdir()) == ["a.pt", "b.pt"]
    assert download(two).read_bytes() == b"second"
    assert len(server.asked) == 3


def test_bad_archives(server: Server, cache: Path) -> None:
    with pytest.raises(CorruptFile, match="the archive of a.pt has no file dir/missing.pt"):
        download(archived(server, packed(a=DATA), "dir/missing.pt"))
    for data in (packed(a=DATA)[:-2000], b"no archive" * 99):
        with pytest.raises(CorruptFile, match="the archive of a.pt is damaged"):
            download(archived(server, data))
        assert not (cache / "a.pt").exists()
    odd = replace(archived(server, packed(a=DATA)), sha256="0" * 64)
    with pytest.raises(
        CorruptFile, match="the archive of a.pt is damaged .*has the SHA-256 .*, expected 0000"
    ):
        download(odd)
    assert list(cache.iterdir()) == []
    url = re.escape(server.url)
    with pytest.raises(
        CheckpointError, match=rf"get {url}y00 {url}y01 by .*`cat y00 y01 \| tar xz dir/a.pt`"
    ):
        download(PublishedGan("a.pt", (server.url + "y00", server.url + "y01"), "", "dir/a.pt"))
