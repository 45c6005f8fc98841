"""``lift3d pretrain``: a toy run through every step, and bad input."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lift3d
from lift3d.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pretrain(*arguments: object) -> Result:
    command = ["pretrain", "--dataset", "tiny", "--out", "run", "--device", "cpu", *arguments]
    return CliRunner().invoke(main, [str(argument) for argument in command])


def test_a_run_ends_with_a_model_and_is_not_overwritten_by_accident(tiny_gan: Path, folder: Path) -> None:
    result = pretrain("--gan", tiny_gan)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("run: done\n")
    assert lift3d.load("run").config.name == "tiny"
    shown = CliRunner().invoke(main, ["info", "run/model.safetensors"])
    assert (shown.exit_code, '"format": "lift3d.lifted/2"' in shown.stdout) == (0, True), shown.output

    before = Path("run/model.safetensors").read_bytes()
    again = pretrain("--gan", tiny_gan)
    assert (again.exit_code, "run already holds a run: pass --resume" in again.stderr) == (1, True)
    other = pretrain("--gan", tiny_gan, "--resume", "--seed", "1")
    assert (other.exit_code, "was started with other settings (seed)" in other.stderr) == (1, True)
    assert Path("run/model.safetensors").read_bytes() == before
    done = pretrain("--gan", tiny_gan, "--resume")
    assert done.exit_code == 0, done.output
    assert Path("run/model.safetensors").read_bytes() == before


def test_dry_run_prints_the_settings_and_writes_nothing(folder: Path) -> None:
    full, quick = (
        json.loads(pretrain("--dataset", "demo", "--dry-run", "--profile", profile).stdout)["joint"]
        for profile in ("full", "quick")
    )
    assert quick["exploit"] < full["exploit"]
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--dataset", "dogs"),
            "unknown dataset 'dogs', known are celeba, celeba-hq, afhq-cat, lsun-car, demo",
        ),
        (("--profile", "slow"), "unknown profile 'slow', known are full, quick"),
        (("--seed", "99999999999999999999"), "seed is 99999999999999999999, expected 0 to 2^32 - 1"),
        (("--overwrite", "--resume"), "--overwrite and --resume contradict each other"),
        (("--resume",), "run holds no run to resume"),
        (("--device", "cuda:99"), "device 'cuda:99' is not there"),
        (("--gan", "nothing.safetensors"), "nothing.safetensors does not exist"),
        (("--dataset", "lsun-car"), "lsun-car has no joint pre-training"),
    ],
)
def test_bad_options(tiny_gan: Path, folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    result = pretrain("--gan", tiny_gan, *arguments)
    assert result.exit_code == 1, result.output
    assert sentence in result.stderr and result.stderr.count("\n") == 1
    assert not list(folder.iterdir())


def test_a_foreign_gan_file_is_refused(tiny_model: Path, folder: Path) -> None:
    (folder / "gan.bin").write_bytes(b"no GAN")
    result = pretrain("--gan", "gan.bin")
    assert (result.exit_code, "gan.bin is truncated or not a safetensors file" in result.stderr) == (1, True)
    result = pretrain("--gan", tiny_model)
    assert (result.exit_code, "expected 'lift3d.gan/2'" in result.stderr) == (1, True)
