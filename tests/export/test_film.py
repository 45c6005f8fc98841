"""Films: frames are renders, paths close, files hold all frames."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from lift3d.cli.main import main
from lift3d.errors import BackendUnavailable, ConfigError
from lift3d.export.film import PATHS, check_film, film, scene_at, write_film
from lift3d.model import LiftedGAN, load
from lift3d.renderers import MeshRenderer
from lift3d.scene.images import to_picture


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LiftedGAN:
    return load(tiny_model)


@pytest.mark.parametrize("path", ["turntable", "swing", "light", "both"])
def test_frames_are_the_renders_of_the_path(model: LiftedGAN, path: str) -> None:
    samples = model.sample(3)
    frames = list(film(model, samples, path, 3, 16))
    mesh = model.mesh(samples.code[0], 128)
    for i, frame in enumerate(frames):
        cameras, lights = scene_at(model, samples, PATHS[path], i / 3)
        maps = model.render(samples.code[0], cameras, lights, 16, MeshRenderer(mesh))
        assert np.array_equal(frame, to_picture(maps.colors[0, 0]))
    views, suns = zip(*(scene_at(model, samples, PATHS[path], t) for t in (0.0, 1.0)), strict=True)
    for ends in (views, suns):  # it ends where it began
        for name, value in vars(ends[0]).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, vars(ends[1])[name], atol=1e-5, rtol=1e-5)


def test_a_morph_goes_from_the_first_to_the_last(model: LiftedGAN) -> None:
    samples = model.sample([3, 5, 8])
    frames = list(film(model, samples, "morph", 5, 16, with_gan=True))
    assert all(frame.shape == (16, 32, 3) for frame in frames)
    cameras, lights = scene_at(model, samples, PATHS["morph"], 0.0)
    for frame, code in ((frames[0], samples.code[0]), (frames[-1], samples.code[2])):
        wanted = model.render(code, cameras, lights, 16, MeshRenderer(resolution=128))
        assert np.abs(frame[:, :16].astype(int) - to_picture(wanted.colors[0, 0]).astype(int)).max() <= 1


def moving(n: int) -> list[np.ndarray]:
    frames = np.zeros((n, 24, 32, 3), np.uint8)
    for i in range(n):
        frames[i, :, 2 * i : 2 * i + 2] = (255, 128, 0)
    return list(frames)


def test_a_gif_holds_every_frame(tmp_path: Path) -> None:
    write_film(tmp_path / "a.gif", moving(6), fps=10)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 6 and picture.info["duration"] == 100 and picture.info["loop"] == 0
        for i, frame in enumerate(moving(6)):
            picture.seek(i)
            shown = np.asarray(picture.convert("RGB")).astype(int)
            assert np.abs(shown - frame).max() <= 8


def test_a_strip_shows_the_first_and_the_last_of_them(tmp_path: Path) -> None:
    write_film(tmp_path / "a.png", moving(12))
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as picture:
        strip = np.asarray(picture)
    assert strip.shape == (28, 8 * 34 + 2, 3)
    assert np.array_equal(strip[2:26, 2:34], moving(12)[0])
    assert np.array_equal(strip[2:26, -34:-2], moving(12)[-1])


def test_what_is_refused(
    model: LiftedGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    with pytest.raises(ConfigError, match="path is 'loop', expected one of turntable, swing"):
        film(model, model.sample(0), "loop", 3)
    with pytest.raises(ConfigError, match="1 seeds for path 'morph': morph takes two or more, others one"):
        film(model, model.sample(0), "morph", 3)
    with pytest.raises(ConfigError, match="0 frames of 256 pixels, expected at least 1"):
        film(model, model.sample(0), "light", 0)
    with pytest.raises(ConfigError, match=r"a.avi is no film, expected a name that ends in .gif"):
        check_film("a.avi", 10)
    with pytest.raises(ConfigError, match="fps is 90, expected 1 to 60"):
        check_film("a.gif", 90)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(BackendUnavailable, match="pip install imageio-ffmpeg"):
        check_film("a.mp4", 10)
    arguments = ["turn", "--model", str(tiny_model), "--out", str(tmp_path / "a.gif"), "--size", "16"]
    done = CliRunner().invoke(main, [*arguments, "--seconds", "0.2", "--fps", "10"])
    assert done.exit_code == 0 and "2 frames" in done.stdout, done.output
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and "exists; --overwrite replaces it" in again.stderr
