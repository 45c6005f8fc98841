"""The published presets from the command line: how their GANs are found, and every step of their schedules,
shrunk, on random GANs of the kinds and sizes that are published.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from published_toys import gan_file, small

import lift3d
from lift3d.cli.main import main
from lift3d.config.presets import PRESETS
from lift3d.gan import published

KINDS = {
    "celeba": (128, "rosinality"),
    "celeba-hq": (256, "nvlabs"),
    "afhq-cat": (512, "nvlabs"),
    "ffhq-512": (512, "nvlabs"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path / "cache"))
    return tmp_path


def pretrain(name: str, *arguments: object, stdin: str | None = None) -> Result:
    command = ["pretrain", "--dataset", name, "--out", "run", "--device", "cpu", *arguments]
    return CliRunner().invoke(main, [str(argument) for argument in command], input=stdin)


def failure(result: Result) -> str:
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output
    return result.stderr


@pytest.mark.filterwarnings("ignore:.*has no noise maps")
@pytest.mark.parametrize("name", KINDS)
def test_a_cached_gan_goes_through_every_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(PRESETS, name, small(name))
    (folder / "cache").mkdir()
    gan_file(folder / "cache" / published.GANS[name].file, *KINDS[name])
    result = pretrain(name)
    assert result.exit_code == 0, result.output
    entries = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert [(e["stage"], e["phase"]) for e in entries] == [
        (stage, phase) for stage in range(2) for phase in ("explore", "align", "exploit")
    ]
    assert all(np.isfinite(e["total"]) for e in entries)
    model = lift3d.load("run")
    assert (model.config.name, model.config.size) == (name, 128 if name == "celeba" else 256)
    assert model.config.masks == "auto" and entries[-1]["mask"] > 0


def test_masks_from_files_are_asked_for_and_resumed_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "celeba-hq", small("celeba-hq", n_stages=1, align=1, exploit=6))
    gan_file(folder / "gan.pkl", 256, "nvlabs")
    Path("masks").mkdir()
    arguments = ["--gan", "gan.pkl", "--masks", "masks"]

    def draw() -> list[str]:
        names = [str(path.relative_to("run/to-mask")) for path in Path("run/to-mask").rglob("*.png")]
        for name in names:
            Path("masks", name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((512, 512), 255, np.uint8)).save(Path("masks", name))
        return sorted(names)

    said = failure_after_progress(pretrain("celeba-hq", *arguments))
    assert "4 of 4 masks are missing, the first is masks/500000000.png" in said  # unlabeled samples
    assert draw() == [f"{i}.png" for i in range(500_000_000, 500_000_004)]
    said = failure_after_progress(pretrain("celeba-hq", *arguments, "--resume"))
    assert "2 of 2 masks are missing, the first is masks/1000000.png" in said
    assert draw()[:2] == ["1000000.png", "1000001.png"]
    said = failure_after_progress(pretrain("celeba-hq", *arguments, "--resume"))
    assert "4 of 4 masks are missing, the first is masks/stage-0/1000000-0.png" in said
    assert len(draw()) == 10
    other = pretrain("celeba-hq", "--gan", "gan.pkl", "--resume")
    assert "was started with other settings (masks files, now auto)" in other.stderr
    result = pretrain("celeba-hq", *arguments, "--resume")
    assert result.exit_code == 0, result.output
    last = json.loads(Path("run/log.jsonl").read_text().splitlines()[-1])
    assert last["phase"] == "exploit" and last["mask"] > 0
    assert lift3d.load("run").config.masks == "files"


def failure_after_progress(result: Result) -> str:
    """The last line of a command that fails."""
    assert result.exit_code == 1, result.output
    return result.stderr.splitlines()[-1]


def test_without_gan_flag_or_terminal_the_sentence_names_the_terms(folder: Path) -> None:
    said = failure(pretrain("celeba-hq", stdin="y\n"))
    for part in ("NVIDIA Source Code License", "--accept-license", "--gan PATH", "nvlabs-fi-cdn.nvidia.com"):
        assert part in said
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("answer", "downloaded"), [("y\n", True), ("n\n", False)])
def test_a_person_at_a_terminal_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, downloaded: bool
) -> None:
    monkeypatch.setitem(PRESETS, "celeba-hq", small("celeba-hq", n_stages=1))
    monkeypatch.setattr("lift3d.cli.options._is_terminal", lambda: True)
    asked = []

    def download(gan: published.PublishedGan, observer: object) -> Path:
        asked.append(gan)
        return gan_file(folder / "fetched.pkl", 256, "nvlabs")

    monkeypatch.setattr(published, "download", download)
    result = pretrain("celeba-hq", stdin=answer)
    assert result.exit_code == (0 if downloaded else 1), result.output
    assert "Accept these terms" in result.stderr
    assert asked == [published.GANS["celeba-hq"]] * downloaded


def test_without_a_network_the_steps_by_hand_are_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    said = failure(pretrain("afhq-cat", "--accept-license"))
    place = folder / "cache" / "afhqcat.pkl"
    assert "afhqcat.pkl could not be downloaded" in said and "Network is unreachable" in said
    url = published.GANS["afhq-cat"].urls[0]
    assert f"get {url} by other means and pass it with --gan PATH or put it at {place}" in said
    said = failure(pretrain("celeba", "--accept-license"))
    assert "`cat x00 x01 x02 x03 | tar xz checkpoints/stylegan2/stylegan2-celeba-config-e.pt`" in said


def test_a_gan_of_another_size_is_refused(folder: Path) -> None:
    gan_file(folder / "small.pkl", 64, "nvlabs")
    said = failure(pretrain("celeba-hq", "--gan", "small.pkl"))
    assert "small.pkl draws 64 x 64 pixels, celeba-hq works at 256: give a GAN of 256 pixels or more" in said


def test_cars_are_refused_before_anything_is_downloaded(folder: Path) -> None:
    said = failure(pretrain("lsun-car", "--accept-license"))
    assert "lsun-car has no joint pre-training, it is trained per instance" in said
    assert not list(folder.iterdir())
