"""Generators of one's own: what is asked of them, how they are named; no file runs code by itself."""

import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny_gan import PRESET, tiny_gan

import lift3d
from lift3d.checkpoint import read_tensors, write_tensors
from lift3d.cli.main import main
from lift3d.config.toml import to_toml
from lift3d.errors import CheckpointError, ConfigError
from lift3d.gan.generator import Liftable
from lift3d.gan.own import TRUSTED, as_gan, import_generator
from lift3d.model import LiftedGAN
from lift3d.train import features

SOURCE = '''
import torch
from torch import nn

class Blobs(nn.Module):
    """Colors of w on a disk."""

    z_dim, w_dim, h_dim, resolution = 4, 4, 4, 16

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 3 * 16 * 16, generator=rng) / 4)
        self.register_buffer("w_avg", torch.full((4,), 0.5))

    def to_w(self, z):
        return 2 * z + 0.5

    def to_image(self, w):
        return torch.tanh(w @ self.weight).unflatten(1, (3, 16, 16))

    def offset(self, step):
        return step

    def styles(self, w):
        return w

def generator():
    return Blobs()

def with_features():
    blobs = Blobs()
    blobs.features = lambda x: [nn.functional.avg_pool2d(x, 2)]
    return blobs

not_a_function = 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module of that source; neither trusted nor imported yet."""
    (tmp_path / "blobs.py").write_text(SOURCE)
    (tmp_path / "blobs.toml").write_text(to_toml(PRESET))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRUSTED, raising=False)
    monkeypatch.delitem(sys.modules, "blobs", raising=False)
    monkeypatch.setattr(features, "N_IMAGES", 64)
    monkeypatch.setattr(features, "N_STEPS", 20)
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, [*arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_lift_a_function_and_load_it_once_it_is_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run(
        "pretrain", "--dataset", "blobs.toml", "--gan", "blobs:generator", "--out", "run", "--threads", "1"
    )
    assert "learned from 64 samples" in said
    about, tensors = read_tensors("run/model.safetensors")
    assert about["generator"] == {"kind": "own", "made_by": "blobs:generator", "w_avg": [0.5] * 4}
    assert not [name for name in tensors if name.startswith("generator.")]

    del sys.modules["blobs"]
    with pytest.raises(ConfigError, match="set LIFT3D_GENERATOR=blobs:generator in the environment if you"):
        lift3d.load("run")
    assert "blobs" not in sys.modules  # nothing ran
    monkeypatch.setenv(TRUSTED, "blobs:other")
    with pytest.raises(ConfigError, match="which is code and not in the file"):
        lift3d.load("run")
    monkeypatch.setenv(TRUSTED, "blobs:generator")
    model = lift3d.load("run")
    given = lift3d.load("run", generator=import_generator("blobs:generator").generator)
    assert torch.equal(model.sample(3).code, given.sample(3).code)
    assert model.checksum() == given.checksum()
    run("sample", "--model", "run", "--n", "1", "--size", "16", "--out", "a.h5", "--mesh-resolution", "16")


def test_a_resumed_run_finds_the_features_that_it_learned(folder: Path) -> None:
    gan = import_generator("blobs:generator")
    lift3d.lift(gan, PRESET, "run")
    stamp = Path("run/features.safetensors").stat().st_mtime_ns
    lift3d.lift("blobs:generator", PRESET, "run", resume=True)
    assert Path("run/features.safetensors").stat().st_mtime_ns == stamp
    lift3d.lift(gan, PRESET, "run", overwrite=True)
    assert Path("run/features.safetensors").stat().st_mtime_ns != stamp


def test_a_module_is_lifted_and_must_be_given_again(folder: Path) -> None:
    module = import_generator("blobs:with_features").generator
    del module.made_by
    model = lift3d.lift(module, PRESET, "run")
    assert not Path("run/features.safetensors").exists()  # it brought its own
    with pytest.raises(ConfigError, match="pass it, lift3d.load.path, generator=....$"):
        lift3d.load("run")
    assert torch.equal(lift3d.load("run", generator=module).sample(1).code, model.sample(1).code)
    other = import_generator("blobs:generator").generator
    other.w_avg += 1
    with pytest.raises(CheckpointError, match="another generator than .* Blobs: its w_avg differs"):
        lift3d.load("run", generator=other)
    about, tensors = read_tensors("run/model.safetensors")
    for bad in (None, "0.5", [0.5], ["a"] * 4):
        broken = about | {"generator": about["generator"] | {"w_avg": bad}}
        write_tensors("broken.safetensors", tensors, broken)
        with pytest.raises(CheckpointError, match="its w_avg differs"):
            lift3d.load("broken.safetensors", generator=module)
    LiftedGAN(PRESET, tiny_gan().generator).save("style.safetensors")
    with pytest.raises(ConfigError, match="style.safetensors holds its generator: leave yours out"):
        lift3d.load("style.safetensors", generator=module)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "nowhere:generator",
            "No module named 'nowhere'; it must be installed, or lie in the current folder",
        ),
        ("blobs:nothing", "blobs has no function nothing, expected package.module:function"),
        ("blobs:not_a_function", "blobs has no function not_a_function"),
    ],
)
def test_names_that_name_nothing(folder: Path, name: str, sentence: str) -> None:
    before = list(sys.path)
    result = CliRunner().invoke(
        main, ["pretrain", "--dataset", "blobs.toml", "--gan", name, "--out", "run", "--threads", "1"]
    )
    assert result.exit_code == 1 and sentence in result.stderr and "Traceback" not in result.stderr
    assert sys.path == before and not Path("run").exists()


def test_what_is_no_generator_is_told_what_it_lacks(folder: Path) -> None:
    with pytest.raises(ConfigError, match="class Linear has no z_dim, w_dim, .*: docs/own-category.md lists"):
        as_gan(torch.nn.Linear(2, 2))
    blobs = import_generator("blobs:generator").generator
    assert isinstance(blobs, Liftable)
    blobs.resolution = 32
    with pytest.raises(
        ConfigError, match=r"to_image.w. has the shape .1, 3, 16, 16., expected .1, 3, 32, 32."
    ):
        as_gan(blobs)
