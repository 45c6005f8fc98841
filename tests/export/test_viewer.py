"""The page: its shader against ``shade`` in a real Chromium, its files, its server."""

import base64
import http.client
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from chromium import PROGRAM, Browser
from click.testing import CliRunner
from lifted_blobs import Blobs
from PIL import Image

import lift3d
from lift3d.cli.main import main
from lift3d.errors import ConfigError
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.viewer import scene, share
from lift3d.export.viewer.pack import pack, quantize, unpack
from lift3d.export.viewer.server import MAX_QUESTION, Server
from lift3d.scene.cameras import Cameras

needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: install it to test the page (apt-get install chromium)"
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    page = Browser(tmp_path)
    yield page
    page.close()
    assert page.problems == []


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faces") / "faces.h5"
    write_dataset(Blobs(), DatasetPlan(n=2, views=2, lights=2, size=32), path)
    return path


def ask(server: Server, name: str, question: object, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    given = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    connection.request("POST", f"/api/{name}", json.dumps(question), given)
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


@pytest.fixture
def serve() -> Iterator:
    servers = []

    def start(what: object) -> Server:
        server = Server(what)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Toy:
    """A scene that echoes, throws, and waits."""

    def about(self) -> dict:
        return {"kind": "share", "name": "</script><b>toy", "noun": "seed", "background": 1.0}

    def answers(self) -> dict:
        def throw(_: dict) -> bytes:
            raise RuntimeError("the model broke")

        return {"echo": lambda question: json.dumps(question).encode(), "throw": throw}


def test_a_pack_keeps_arrays_up_to_half_a_step() -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 9, (3, 5)).astype(np.uint8)
    values = rng.uniform(-1.1, 1.1, (7, 3)).astype(np.float32)
    for dtype, step in (("i2", 2.2 / 65535), ("u2", 2.2 / 65535), ("u1", 2.2 / 255)):
        about, arrays = unpack(pack({"a": [1]}, {"p": plain, "q": quantize(values, dtype, -1.1, 1.1)}))
        assert about == {"a": [1]}
        np.testing.assert_array_equal(arrays["p"], plain)
        assert np.abs(arrays["q"] - values).max() <= step / 2 + 1e-6


def shown(browser: Browser) -> np.ndarray:
    data = browser.evaluate("document.getElementById('picture').toDataURL()").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def wait_for(path: Path) -> Path:
    """A file that a browser is saving."""
    end = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < end, f"{path} was not saved"
        time.sleep(0.05)
    return path


def after_frame(browser: Browser, action: object) -> None:
    before = browser.evaluate("document.body.dataset.frame")
    action()
    browser.wait(f"document.body.dataset.frame !== '{before}'")


@needs_chromium
def test_the_page_shades_as_python_does(browser: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    model = Blobs()
    code = model.sample([3]).code[0]
    views = torch.tensor(rng.uniform(-0.7, 0.7, (4, 6)) * (1, 1, 1, 0.05, 0.05, 0.3), dtype=torch.float32)
    cameras = Cameras.from_view(views)
    maps = model.render(code, cameras, model.sample([3]).lights, 48)
    maps = replace(maps, specular=maps.specular * 1.5, shininess=maps.shininess * 2)
    packs = []
    for i in range(len(views)):
        arrays = scene.mesh_arrays(model.mesh(code))
        arrays |= {f"{name}/0": value for name, value in scene.map_arrays(maps, i).items()}
        facts = {
            "index": i,
            "cameras": scene.camera_facts(cameras[i : i + 1]),
            "lights": [[1, 0, 0, 0, 0, 1]],
        }
        packs.append(pack(facts, arrays))
    share.page(Toy().about(), packs).save(tmp_path / "page.html")
    browser.open((tmp_path / "page.html").as_uri())
    for i in range(len(views)):
        after_frame(browser, lambda i=i: browser.click(f"#strip button:nth-child({i + 1})"))
        assert browser.evaluate("document.body.dataset.exact") == "true"
        for _ in range(4):
            direction = rng.normal(size=3)
            light = [*rng.uniform((0, 0, 0), (0.6, 1, 0.3)), *(direction / np.linalg.norm(direction))]
            gains = [*rng.uniform(0.2, 1.5, 2)]
            values = f"{{strengths: {light[:3]}, toLight: {light[3:]}, gains: {gains}}}"
            values = values.replace("np.float64", "Number")
            after_frame(
                browser, lambda v=values: browser.evaluate(f"Object.assign(state, {v}); touch('light')")
            )
            wanted = scene.shaded(maps[i : i + 1], cameras[i : i + 1], light, gains, 0.0).numpy() * 255
            inside = maps.mask[i].numpy()
            picture = shown(browser)
            np.testing.assert_array_equal(picture[..., 3] > 0, inside)
            assert np.abs(picture[..., :3] - wanted)[inside].max() <= 3


@needs_chromium
def test_hands_and_keys_move_light_and_head(browser: Browser, faces: Path, tmp_path: Path) -> None:
    share.show(lift3d.open_dataset(faces), 0, 1).save(tmp_path / "page.html")
    browser.open((tmp_path / "page.html").as_uri())
    x, view = "state.toLight[0]", "JSON.stringify(state.view)"
    before, pose = browser.evaluate(x), browser.evaluate(view)
    after_frame(browser, lambda: browser.drag("#picture", 60, 0))
    browser.wait(f"{x} > {before}")
    assert browser.evaluate(view) == pose  # the light moves, the head does not
    after_frame(browser, lambda: browser.drag("#mesh", 40, 0))
    browser.wait(f"{view} !== '{pose}'")
    assert browser.evaluate("document.body.dataset.exact") == "false"  # drawn from the mesh now
    assert (shown(browser)[..., 3] > 0).mean() > 0.05
    for selector, value in (("#ball", x), ("#mesh", "state.view[1]"), ("#ambient", "state.strengths[0]")):
        browser.evaluate(f"document.querySelector('{selector}').focus()")
        now = browser.evaluate(value)
        browser.key("ArrowRight", 39)
        browser.wait(f"{value} !== {now}")
    browser.evaluate("document.querySelector('#maps input').focus()")
    browser.key("ArrowRight", 39)
    browser.wait("state.shown === 1")
    browser.resize(420, 800, dark=True)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 420


@needs_chromium
def test_live_on_a_model(browser: Browser, serve: object, tiny_model: Path) -> None:
    server = serve(scene.ModelScene(lift3d.load(tiny_model), "tiny", size=32, resolution=32))
    browser.open(server.url)
    browser.wait(
        "document.body.dataset.exact === 'true' && document.querySelectorAll('#strip button').length"
    )
    browser.wait("document.getElementById('tile-projection').width === 64")
    browser.click("#strip button:nth-child(3)")
    browser.wait("document.getElementById('seed').value === '2' && asking.model.busy === false")
    browser.drag("#mesh", 50, 20)
    browser.wait("JSON.parse(document.body.dataset.times).pose && document.body.dataset.exact === 'true'")
    for slider in ("mix", "truncation"):
        browser.evaluate(f"document.getElementById('{slider}').focus()")
        before = browser.evaluate("document.body.dataset.settled")
        browser.key(
            "ArrowLeft" if slider == "truncation" else "ArrowRight", 37 if slider == "truncation" else 39
        )
        browser.wait(f"document.body.dataset.settled !== '{before}' && !asking.model.busy")
    assert browser.evaluate("command()").startswith("lift3d export --model tiny --seed 2 --trunc")
    assert browser.evaluate("document.getElementById('toast').textContent") == ""
    browser.resize(1440, 900)
    rows = "new Set([...document.querySelectorAll('#maps label')].map((e) => e.offsetTop)).size"
    assert browser.evaluate(rows) == 1  # no label of a map wraps


@needs_chromium
def test_what_is_seen_can_be_saved(
    browser: Browser, serve: object, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = scene.ModelScene(lift3d.load(tiny_model), str(tiny_model), size=32, resolution=32)
    browser.open(serve(one).url)
    browser.wait("document.body.dataset.exact === 'true' && !asking.model.busy")
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    picture = shown(browser)
    browser.click("#save-png")
    saved = np.asarray(Image.open(wait_for(tmp_path / "lift3d.png")).convert("RGB")).astype(int)
    opaque = picture[..., 3] == 255
    np.testing.assert_array_equal(saved[opaque], picture[opaque][:, :3])
    assert (saved[picture[..., 3] == 0] == 255).all()  # the model's background
    browser.click("#save-glb")
    seed, truncation = browser.evaluate("[state.seed, state.truncation]")
    question = {"seed": seed, "truncation": truncation}
    assert wait_for(tmp_path / f"{seed}.glb").read_bytes() == one.glb(question)
    browser.click("#copy")
    browser.wait("document.getElementById('toast').textContent.startsWith('Copied: lift3d export')")
    command = shlex.split(browser.evaluate("navigator.clipboard.readText()"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [*command[1:], "--texture-size", "64", "--decimate", "500"])
    assert result.exit_code == 0 and (tmp_path / "head.glb").is_file(), result.output
    browser.click("#volume")
    browser.wait("!asking.model.busy && document.body.dataset.exact === 'true'")
    view = browser.evaluate("state.view")
    data = one.picture(question | {"view": view, "size": 32, "renderer": "neus"})
    expected = unpack(data)[1]["albedo"].reshape(-1).tolist()
    shades = "Array.from({length: 3 * maps.size ** 2}, (_, i) => maps.paint[4 * Math.floor(i / 3) + i % 3])"
    assert browser.evaluate(shades) == expected


@needs_chromium
def test_two_tabs_share_a_model_and_nothing_else(
    browser: Browser, serve: object, tiny_model: Path, tmp_path: Path
) -> None:
    url = serve(scene.ModelScene(lift3d.load(tiny_model), "tiny", size=32, resolution=32)).url
    (tmp_path / "other").mkdir()
    other = Browser(tmp_path / "other")
    try:
        for page, seed in ((browser, 3), (other, 5)):
            page.open(url)
            page.wait("document.querySelectorAll('#strip button').length")
            page.click(f"#strip button:nth-child({seed + 1})")
        for page in (browser, other):
            page.wait("document.body.dataset.exact === 'true' && !asking.model.busy")
        assert [page.evaluate("state.seed") for page in (browser, other)] == [3, 5]
        assert not np.array_equal(shown(browser), shown(other))
    finally:
        other.close()
    assert other.problems == []


@needs_chromium
def test_a_dataset_that_is_still_being_written(
    browser: Browser, serve: object, faces: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(faces.read_bytes())
    with h5py.File(copy, "r+") as h5:
        h5["done"][0] = 0
    browser.open(serve(scene.DatasetScene(copy)).url)
    browser.wait("stored && stored.index === 1")  # the first that is done
    assert "1 of 2 samples done" in browser.evaluate("document.getElementById('who').innerText")
    browser.evaluate("document.getElementById('index').focus()")
    browser.key("ArrowLeft", 37)
    browser.wait("document.getElementById('toast').textContent.includes('sample 0 is not finished')")
    assert browser.evaluate("stored.index") == 1
    with h5py.File(copy, "r+") as h5:
        h5["done"][0] = 1
    browser.key("ArrowRight", 39)
    browser.key("ArrowLeft", 37)
    browser.wait("stored.index === 0")
    browser.problems[:] = [p for p in browser.problems if "400" not in p]  # the refusal, which Chromium logs


@needs_chromium
def test_live_on_a_dataset(browser: Browser, serve: object, faces: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(faces.read_bytes())
    browser.open(serve(scene.DatasetScene(copy)).url)
    browser.wait("document.querySelectorAll('#grid button').length === 4")
    with torch.no_grad():
        one = lift3d.open_dataset(copy)[0]
    after_frame(browser, lambda: browser.click("#grid button:nth-child(4)"))
    inside = one.mask[1].numpy()
    assert np.abs(shown(browser)[inside][:, :3] - one.colors[1, 1].numpy()[inside].astype(int)).max() <= 3
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **dict(zip("xy", browser.center("#picture"))))
    browser.wait("document.getElementById('probe').textContent.includes('units')")
    browser.click("#verify")
    browser.wait("document.getElementById('verify').textContent === 'Verified: 2 samples'")
    copy.unlink()
    browser.evaluate("document.getElementById('index').focus()")
    browser.key("ArrowRight", 39)
    browser.wait("document.getElementById('toast').textContent.includes('not a file')")
    browser.problems[:] = [p for p in browser.problems if "400" not in p]  # the refusal, which Chromium logs


def test_only_its_own_page_is_answered(serve: object) -> None:
    server = serve(Toy())
    port = server.server_address[1]
    assert ask(server, "echo", {"a": 1}) == (200, b'{"a": 1}')
    assert ask(server, "echo", {}, Host="localhost:9", Origin="http://localhost:9")[0] == 200  # forwarded
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Content_Type": "text/plain"},
    ):
        assert ask(server, "echo", {}, **headers)[0] == 403
    for path in ("../echo", "nothing", "%2e%2e/%2e%2e/etc/passwd", "echo/../../../etc/passwd"):
        assert ask(server, path, {})[0] == 404
    connection = http.client.HTTPConnection(*server.server_address)
    for path, status in (("/../../etc/passwd", 404), ("/viewer.js", 404), ("/", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == status
    connection.close()
    assert b"</script><b>toy" not in text  # names are escaped
    assert server.server_address[0] == "127.0.0.1"


def test_bad_questions_are_told_why(serve: object) -> None:
    server = serve(Toy())
    assert ask(server, "throw", {}) == (500, b"RuntimeError: the model broke")
    assert ask(server, "echo", "x" * MAX_QUESTION)[0] == 413
    assert ask(server, "echo", {}, Content_Length="-1")[0] == 413
    assert ask(server, "echo", [1])[0] == 400
    assert ask(server, "echo", {"still": "there"})[0] == 200


def test_a_thousand_questions_at_once(serve: object) -> None:
    server = serve(Toy())
    with ThreadPoolExecutor(16) as pool:
        found = list(
            pool.map(lambda i: ask(server, "throw" if i % 10 == 0 else "echo", {"i": i})[0], range(1000))
        )
    assert set(found) <= {200, 500, 503} and found.count(200) > 100
    assert ask(server, "echo", {})[0] == 200


def test_too_many_waiting_questions_are_sent_back(serve: object) -> None:
    server = serve(Toy())
    for _ in range(32):
        server.places.acquire()
    assert ask(server, "echo", {})[0] == 503
    for _ in range(32):
        server.places.release()


def test_a_taken_port_is_an_error(serve: object) -> None:
    port = serve(Toy()).server_address[1]
    with pytest.raises(ConfigError, match=f"port {port} cannot be opened"):
        Server(Toy(), port)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"seed": -1, "truncation": 1}, "seed is '-1', expected a number from 0"),
        ({"seed": 1, "truncation": "x"}, "truncation is 'x'"),
        ({"seed": 1, "truncation": float("nan")}, "truncation is 'nan'"),
        ({"seed": 1, "truncation": 1, "view": [0]}, "view is .*, expected 6 numbers"),
        ({"seed": 1, "truncation": 1, "view": [0] * 6, "size": 1e9}, "size is"),
    ],
)
def test_questions_out_of_range(question: dict, words: str, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        scene.ModelScene(lift3d.load(tiny_model), "tiny").picture({"view": [0] * 6} | question)


def test_mixing_all_the_way_is_the_other_one(tiny_model: Path) -> None:
    one = scene.ModelScene(lift3d.load(tiny_model), "tiny", resolution=16)
    mixed = unpack(one.instance({"seed": 1, "other": 2, "mix": 1.0, "truncation": 0.5}))
    other = unpack(one.instance({"seed": 2, "truncation": 0.5}))
    assert mixed[0]["light"] == pytest.approx(other[0]["light"], abs=1e-5)
    np.testing.assert_array_equal(mixed[1]["image"], other[1]["image"])


def test_samples_that_are_not_there(faces: Path) -> None:
    with pytest.raises(ConfigError, match="index is '7', expected a number from 0 to 1"):
        scene.DatasetScene(faces).sample({"index": 7})


def test_files_without_all_maps_cannot_be_shaded(faces: Path) -> None:
    with pytest.raises(ConfigError, match="normals.* not in the file"):
        scene.map_arrays(lift3d.open_dataset(faces, maps=("albedo", "mask"))[0], 0)


def test_a_notebook_shows_the_page(faces: Path) -> None:
    page = lift3d.show(lift3d.open_dataset(faces), 1)
    assert page._repr_html_().startswith("<iframe") and "srcdoc=" in page._repr_html_()
    for address in ("http://", "https://", "src=", "@import"):
        assert address not in page.text.replace("srcdoc=", "")
    with pytest.raises(ConfigError, match="show takes a LiftedGAN or a dataset, got int"):
        lift3d.show(3)


def test_export_writes_one_page(faces: Path, tiny_model: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    for arguments, count in (
        ([str(faces), "--sample", "all"], 2),
        (["--model", str(tiny_model), "--seed", "0-2"], 3),
    ):
        out = tmp_path / f"{count}.html"
        result = run(main, ["export", *arguments, "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert out.read_text().count('application/octet-stream">') == count
        assert out.stat().st_size <= 400_000 * count
    result = run(main, ["export", str(faces), "--format", "html", "--out", str(tmp_path)])
    assert result.exit_code == 1 and "a page holds all instances" in result.output


def test_view_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    run = CliRunner().invoke
    for arguments, words in (
        (["x.h5", "--model", "demo"], "two things to look at"),
        (["--port", "70000"], "--port is 70000, expected 0 to 65535"),
        (["--size", "4"], "--size is 4, expected 16 to 512"),
        ([str(tmp_path / "no.h5")], "not a file"),
    ):
        result = run(main, ["view", *arguments])
        assert result.exit_code == 1 and words in result.output


def test_ctrl_c_ends_it_at_once(tiny_model: Path) -> None:
    command = [sys.executable, "-u", "-m", "lift3d.cli.main", "view", "--model", tiny_model, "--port", "0"]
    environment = os.environ | {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # a background shell ignores it
    streams = {"stdout": subprocess.PIPE, "text": True, "env": environment, "preexec_fn": hear}
    with subprocess.Popen(command, **streams) as process:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        assert "ssh -L" in process.stdout.readline()
        time.sleep(0.2)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        assert time.monotonic() - start < 20  # a hang, not a busy machine
