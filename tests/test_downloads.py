"""Downloads from a server on this machine: resume, checks, archives, and what is said without a network."""

import hashlib
import http.client
import http.server
import io
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
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
    asked: list[str | None] = field(default_factory=list)


def handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked, same = self.headers.get("Range"), self.headers.get("If-Range") in (None, server.etag)
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
            if start:
                self.send_header("Content-Range", f"bytes {start + server.shift}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", server.etag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:][: server.stop_after])

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
    assert GANS.keys() == {"celeba", "celeba-hq", "afhq-cat", "lsun-car"} <= PRESETS.keys()
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


@pytest.mark.parametrize("beginning", [DATA, DATA + b"more"], ids=["whole", "too long"])
def test_a_partial_file_with_nothing_to_follow(
    server: Server, gan: PublishedGan, cache: Path, beginning: bytes
) -> None:
    cache.mkdir()
    (cache / "gan.pkl.part").write_bytes(beginning)
    assert download(gan).read_bytes() == DATA


def test_another_range_than_asked_for_is_not_appended(server: Server, gan: PublishedGan, cache: Path) -> None:
    cache.mkdir()
    (cache / "gan.pkl.part").write_bytes(DATA[:100])
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
    read, sizes = http.client.HTTPResponse.read, []

    def breaking(response: http.client.HTTPResponse, n: int) -> bytes:
        if sizes:
            raise ConnectionResetError(104, "Connection reset by peer")
        sizes.append(n)
        return read(response, n)

    monkeypatch.setattr(http.client.HTTPResponse, "read", breaking)
    with pytest.raises(CheckpointError, match="gan.pkl: Connection reset by peer after 1000000 bytes"):
        download(gan)
    monkeypatch.undo()
    monkeypatch.setenv("LIFT3D_CACHE", str(cache))
    assert (cache / "gan.pkl.part").stat().st_size == 1_000_000
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
    url = re.escape(server.url)
    with pytest.raises(
        CheckpointError, match=rf"get {url}y00 {url}y01 by .*`cat y00 y01 \| tar xz dir/a.pt`"
    ):
        download(PublishedGan("a.pt", (server.url + "y00", server.url + "y01"), "", "dir/a.pt"))
