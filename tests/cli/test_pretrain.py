"""``lift3d pretrain``: a toy run through every step, and bad input."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lift3d
from lift3d.cli.main import main
from lift3d.config.presets import get_preset
from lift3d.config.toml import read_category, to_toml
from lift3d.masks.sources import with_masks


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
    assert (shown.exit_code, "# format: lift3d.lifted/2" in shown.stdout) == (0, True), shown.output

    before = Path("run/model.safetensors").read_bytes()
    again = pretrain("--gan", tiny_gan)
    assert (again.exit_code, "run already holds a run: pass --resume" in again.stderr) == (1, True)
    other = pretrain("--gan", tiny_gan, "--resume", "--seed", "1")
    assert (other.exit_code, "was started with other settings (seed)" in other.stderr) == (1, True)
    assert Path("run/model.safetensors").read_bytes() == before
    done = pretrain("--gan", tiny_gan, "--resume")
    assert done.exit_code == 0, done.output
    assert Path("run/model.safetensors").read_bytes() == before


@pytest.mark.parametrize("profile", ["full", "quick"])
@pytest.mark.parametrize("name", ["celeba-hq", "lsun-car", "demo"])
def test_dry_run_prints_a_file_that_gives_the_same_settings(folder: Path, name: str, profile: str) -> None:
    printed = pretrain("--dataset", name, "--dry-run", "--profile", profile).stdout
    assert not list(folder.iterdir())
    Path("own.toml").write_text(printed)
    assert read_category("own.toml") == with_masks(get_preset(name, profile), None)
    assert pretrain("--dataset", "own.toml", "--dry-run").stdout == printed
    Path("own.toml").write_text(printed.replace("truncation = ", "truncation = 0.25 # "))
    assert read_category("own.toml").truncation == 0.25


def test_a_profile_never_overrides_the_users_numbers(folder: Path) -> None:
    said = "base = 'celeba'\nname = 'own'\nsize = 128\n[joint]\nn_samples = 77\nexploit = 999\n"
    Path("own.toml").write_text(said + "[shape]\nn_hidden = 90")
    quick = read_category("own.toml", "quick")
    assert (quick.size, quick.joint.size, quick.joint.n_samples, quick.joint.exploit) == (128, 128, 77, 999)
    assert quick.shape.n_hidden == 90 and quick.joint.explore == get_preset("celeba", "quick").joint.explore
    Path("own.toml").write_text(to_toml(get_preset("celeba")))
    result = pretrain("--dataset", "own.toml", "--profile", "quick", "--dry-run")
    assert result.exit_code == 1
    assert "profile 'quick' would change nothing: leave the profile out" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--dataset", "dogs"),
            "unknown dataset 'dogs', known are celeba, celeba-hq, afhq-cat, lsun-car, ffhq, ffhq-512, demo",
        ),
        (("--profile", "slow"), "unknown profile 'slow', known are full, quick, paper"),
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
