"""The page in a real Chromium, live on a model and on a dataset."""

import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from chromium import Browser, needs_chromium
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import binary_erosion

import lift3d
from lift3d.cli.main import main
from lift3d.export.hdf5.schema import SPLIT
from lift3d.export.viewer import scene
from lift3d.export.viewer.pack import unpack
from lift3d.instance import Instances

AT_REST = "document.body.dataset.exact === 'true' && !asking.model.busy"


def wait_for(path: Path) -> Path:
    """A file that a browser is saving."""
    end = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < end, f"{path} was not saved"
        time.sleep(0.05)
    return path


class Heard:
    """A model's scene that notes the questions it is asked."""

    def __init__(self, one: scene.ModelScene) -> None:
        self.about, self.one, self.questions = one.about, one, []

    def answers(self) -> dict[str, Callable]:
        def noted(name: str, answer: Callable) -> Callable:
            return lambda question: (self.questions.append((name, question)), answer(question))[1]

        return {name: noted(name, answer) for name, answer in self.one.answers().items()}

    def asked(self, name: str) -> list[dict]:
        return [question for asked, question in self.questions if asked == name]


def small(model: Path, resolution: int = 32) -> Heard:
    return Heard(scene.ModelScene(lift3d.load(model), str(model), size=32, resolution=resolution))


@needs_chromium
def test_live_on_a_model(browser: Browser, serve: object, tiny_model: Path) -> None:
    heard = small(tiny_model)
    browser.open(serve(heard).url)
    browser.wait(f"{AT_REST} && document.querySelectorAll('#strip button').length")
    browser.wait("document.getElementById('tile-projection').width === 64")
    browser.click("#strip [data-seed='2']")
    browser.wait(f"document.getElementById('seed').value === '2' && {AT_REST}")
    for slider, key, code in (("mix", "ArrowRight", 39), ("truncation", "ArrowLeft", 37)):
        browser.focus(f"#{slider}")
        before = len(heard.asked("instance"))
        browser.key(key, code)
        browser.wait(AT_REST)
        assert len(heard.asked("instance")) > before
    last = heard.asked("instance")[-1]
    assert (last["seed"], last["other"], last["mix"]) == (2, 1, 0.01)
    assert last["truncation"] == pytest.approx(heard.about()["truncation"] - 0.01)
    browser.click("#strip button:last-child")  # later seeds
    browser.wait("document.querySelector('#strip [data-seed]').dataset.seed === '16'")
    assert browser.text("toast") == ""


@needs_chromium
def test_instances_are_what_they_are(browser: Browser, serve: object, tiny_model: Path) -> None:
    model = lift3d.load(tiny_model)
    two = Instances([model, model], [model, model], model.sample([3, 5]))
    browser.open(serve(scene.ModelScene(two, "a.lift, b.lift", size=32, resolution=32)).url)
    browser.wait(AT_REST)
    assert browser.evaluate("[...document.querySelectorAll('#strip button')].map((b) => b.innerText)") == [
        "0",
        "1",
    ]
    assert browser.evaluate("[...document.querySelectorAll('#who input')].map((e) => e.id)") == ["seed"]
    browser.click("#strip [data-seed='1']")
    browser.wait(f"state.seed === 1 && {AT_REST}")
    assert browser.text("toast") == ""
    assert "lift3d export --model a.lift --model b.lift --seed 1" in browser.evaluate("command()")


@needs_chromium
def test_a_coarse_answer_comes_first(browser: Browser, serve: object, tiny_model: Path) -> None:
    heard = small(tiny_model, resolution=64)
    browser.open(serve(heard).url)
    browser.wait(AT_REST)
    assert [question["resolution"] for question in heard.asked("instance")] == [48, 64]
    assert [question["resolution"] for question in heard.asked("picture")] == [64]
    assert browser.evaluate("Object.keys(surface.pieces).filter((n) => n !== 'glyphs').sort()") == [
        "mesh",
        "quick",
    ]
    times = browser.evaluate("JSON.parse(document.body.dataset.times)")
    assert 0 < times["seed"] < times["seed, exact"]
    assert re.search(r"seed \d+ ms \(exact \d+\)", browser.text("counter"))


@needs_chromium
def test_a_drag_is_drawn_at_once_and_asked_for_at_rest(
    browser: Browser, serve: object, tiny_model: Path
) -> None:
    heard = small(tiny_model)
    browser.open(serve(heard).url)
    browser.wait(AT_REST)
    heard.questions.clear()
    frame = browser.evaluate("Number(document.body.dataset.frame)")
    exact = "Number(document.body.dataset.exact === 'true')"
    browser.evaluate(f"window.seen = []; window.paint_ = paint; paint = () => (paint_(), seen.push({exact}))")
    for _ in range(3):
        browser.drag("#mesh", 30, 10)
    browser.wait(AT_REST)
    frames = browser.evaluate("seen")
    assert frames[0] == 0 and frames[-1] == 1  # from the surface at first, then the server's maps
    assert browser.evaluate("Number(document.body.dataset.frame)") - frame == len(frames)
    asked = heard.asked("picture")
    assert len(asked) <= 3 and asked[-1]["view"] == browser.evaluate("state.view")  # of nine movements
    browser.wait("asking.projection && !asking.projection.busy")
    assert heard.asked("projection")[-1]["view"] == browser.evaluate("state.view")
    times = browser.evaluate("JSON.parse(document.body.dataset.times)")
    assert 0 < times["pose"] <= times["pose, exact"] <= times["through the GAN"]


@needs_chromium
def test_light_asks_for_no_picture(browser: Browser, serve: object, tiny_model: Path) -> None:
    heard = small(tiny_model)
    browser.open(serve(heard).url)
    browser.wait(f"{AT_REST} && asking.projection && !asking.projection.busy")
    heard.questions.clear()
    browser.after_frame(lambda: browser.drag("#picture", 40, 20))
    browser.focus("#ambient")
    browser.key("ArrowRight", 39)
    browser.wait("asking.projection.busy === false")
    assert {name for name, _ in heard.questions} == {"projection"}
    last, light = heard.asked("projection")[-1], browser.evaluate("[...state.strengths, ...state.toLight]")
    assert last["light"] == light


@needs_chromium
def test_a_model_that_throws_is_survived(browser: Browser, serve: object, tiny_model: Path) -> None:
    heard = small(tiny_model)
    server = serve(heard)
    browser.open(server.url)
    browser.wait(AT_REST)
    picture = server.answers["picture"]

    def throw(question: dict) -> bytes:
        server.answers["picture"] = picture
        raise RuntimeError("the model broke")

    server.answers["picture"] = throw
    browser.focus("#yaw")
    browser.key("ArrowRight", 39)
    browser.wait("document.getElementById('toast').textContent === 'RuntimeError: the model broke'")
    browser.key("ArrowRight", 39)
    browser.wait(AT_REST)
    assert heard.asked("picture")[-1]["view"] == browser.evaluate("state.view")
    browser.problems[:] = [p for p in browser.problems if "500" not in p]  # which Chromium logs


@needs_chromium
def test_what_is_seen_can_be_saved(
    browser: Browser, serve: object, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = small(tiny_model)
    browser.open(serve(heard).url)
    browser.wait(AT_REST)
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.drag("#mesh", 30, 10)
    browser.wait(AT_REST)
    picture = browser.picture().astype(int)
    browser.click("#save-png")
    saved = np.asarray(Image.open(wait_for(tmp_path / "lift3d.png")).convert("RGB")).astype(int)
    opaque = picture[..., 3] == 255
    np.testing.assert_array_equal(saved[opaque], picture[opaque][:, :3])
    assert (saved[picture[..., 3] == 0] == 255).all()  # the model's background
    browser.click("#save-glb")
    seed, truncation = browser.evaluate("[state.seed, state.truncation]")
    question = {"seed": seed, "truncation": truncation}
    assert wait_for(tmp_path / f"{seed}.glb").read_bytes() == heard.one.glb(question)
    browser.click("#copy")
    browser.wait("document.getElementById('toast').textContent.startsWith('Copied: echo')")
    echo, *commands = browser.evaluate("navigator.clipboard.readText()").splitlines()
    monkeypatch.chdir(tmp_path)
    subprocess.run(["sh", "-c", echo], check=True)
    for command, more in zip(commands, ([], ["--texture-size", "64", "--decimate", "500"]), strict=True):
        result = CliRunner().invoke(main, [*shlex.split(command)[1:], *more])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "head.glb").is_file()
    stored = lift3d.open_dataset(tmp_path / "seen.h5")[0].colors[0, 0].numpy()
    assert np.abs(picture[..., :3] - stored)[binary_erosion(opaque)].mean() <= 1
    browser.click("#volume")
    browser.wait(AT_REST)
    view = browser.evaluate("state.view")
    data = heard.one.picture(question | {"view": view, "size": 32, "renderer": "neus"})
    _, arrays = unpack(data)
    paint = np.asarray(browser.evaluate("[...maps.paint]")).reshape(32, 32, 4)
    np.testing.assert_array_equal(paint[..., 3] > 0, arrays["mask"] > 0)
    np.testing.assert_array_equal(paint[..., :3][arrays["mask"] > 0], arrays["albedo"][arrays["mask"] > 0])


@needs_chromium
def test_two_tabs_share_a_model_and_nothing_else(
    browser: Browser, serve: object, tiny_model: Path, tmp_path: Path
) -> None:
    url = serve(small(tiny_model)).url
    (tmp_path / "other").mkdir()
    other = Browser(tmp_path / "other")
    try:
        for page, seed in ((browser, 3), (other, 5)):
            page.open(url)
            page.wait("document.querySelectorAll('#strip button').length")
            page.click(f"#strip [data-seed='{seed}']")
        for page in (browser, other):
            page.wait(AT_REST)
        assert [page.evaluate("state.seed") for page in (browser, other)] == [3, 5]
        assert not np.array_equal(browser.picture(), other.picture())
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
    assert "1 of 2 samples done" in browser.text("who")
    browser.focus("#index")
    browser.key("ArrowLeft", 37)
    said = "document.getElementById('toast').textContent"
    browser.wait(f"{said}.includes('sample 0 of') && {said}.includes('copy.h5 is not finished')")
    assert browser.evaluate("stored.index") == 1
    with h5py.File(copy, "r+") as h5:
        h5["done"][0] = 1
    browser.key("ArrowRight", 39)
    browser.key("ArrowLeft", 37)
    browser.wait("stored.index === 0")
    browser.problems[:] = [p for p in browser.problems if "400" not in p]  # the refusal, which Chromium logs


def split(path: Path) -> np.ndarray:
    with h5py.File(path) as h5:
        return h5["split"][:]


@needs_chromium
def test_live_on_a_dataset(browser: Browser, serve: object, faces: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(faces.read_bytes())
    browser.open(serve(scene.DatasetScene(copy)).url)
    browser.wait("document.querySelectorAll('#grid button').length === 4")
    with torch.no_grad():
        one = lift3d.open_dataset(copy)[0]
    browser.after_frame(lambda: browser.click("#grid button:nth-child(4)"))
    inside = one.mask[1].numpy()
    assert np.abs(browser.picture()[inside][:, :3] - one.colors[1, 1].numpy()[inside].astype(int)).max() <= 3
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **dict(zip("xy", browser.center("#picture"))))
    browser.wait("document.getElementById('probe').textContent.includes('units')")
    read = [float(number) for number in re.findall(r"-?\d+\.\d+", browser.text("probe"))]
    at = (1, 16, 16)  # view, row, column
    there = [*one.albedo[at] / 255, *one.normals[at], one.depth[at], one.specular[at], one.shininess[at]]
    assert read == pytest.approx([float(number) for number in there], abs=0.06)
    assert browser.evaluate("surface.pieces.glyphs.count") == 2 * 16 + 2 * 6  # frustums and arrows
    assert browser.text("state") == f"sample 0 · seed {int(one.seed)} · split {SPLIT[split(copy)[0]]} · done"
    surface = "(paint(), document.getElementById('mesh').toDataURL())"
    with_glyphs = browser.evaluate(surface)
    browser.after_frame(lambda: browser.click("#glyphs"))
    assert browser.evaluate(surface) != with_glyphs
    browser.click("#verify")
    browser.wait("document.getElementById('verify').textContent === 'Verified: 2 samples'")
    copy.unlink()
    browser.focus("#index")
    browser.key("ArrowRight", 39)
    browser.wait("document.getElementById('toast').textContent.includes('not a file')")
    browser.problems[:] = [p for p in browser.problems if "400" not in p]  # the refusal, which Chromium logs
