"""``lift3d gan``: a toy training, samples, and bad input."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lift3d.cli.main import main
from lift3d.gan.files.load import load

SMALL = (
    "--resolution",
    "8",
    "--channels",
    "64",
    "8",
    "--latent",
    "8",
    "--mapping-layers",
    "2",
    "--batch",
    "4",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder but for ``images.npy``."""
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8))
    return tmp_path


def train(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["gan", "train", "images.npy", "--out", "run", *SMALL, *arguments])


def test_train_resume_and_sample(folder: Path) -> None:
    first = train("--kimg", "0.004")
    assert (first.exit_code, first.stdout) == (0, "run: 4 images seen\n"), first.output
    again = train("--kimg", "0.008")
    assert (again.exit_code, "run already holds a run" in again.stderr) == (1, True)
    more = train("--kimg", "0.008", "--resume")
    assert (more.exit_code, more.stdout) == (0, "run: 8 images seen\n"), more.output

    (network,) = Path("run").glob("network-*.safetensors")
    assert load(network).generator.config.channels == (8, 8)
    drawn = CliRunner().invoke(
        main, ["gan", "sample", str(network), "--out", "grid.jpg", "--seeds", "0-4", "--columns", "3"]
    )
    assert (drawn.exit_code, drawn.stdout) == (0, "grid.jpg: 5 samples\n"), drawn.output
    with Image.open("grid.jpg") as picture:
        assert picture.format == "JPEG"
        assert picture.width > picture.height >= 16
    kept = CliRunner().invoke(main, ["gan", "sample", str(network), "--out", "grid.jpg"])
    assert (kept.exit_code, "grid.jpg exists; --overwrite" in kept.stderr) == (1, True)
    shown = CliRunner().invoke(main, ["info", str(network)])
    assert shown.exit_code == 0
    assert "kind           lift3d\n" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the training has no end: give --kimg, --hours or both"),
        (("--kimg", "1", "--resolution", "12"), "resolution is 12, expected a power of two"),
        (
            ("--kimg", "1", "--resolution", "16"),
            "images are 8px wide, expected a multiple of the network's 16px",
        ),
        (("--kimg", "1", "--device", "cuda:99"), "device 'cuda:99' is not there"),
        (("--kimg", "1", "--resume"), "run/checkpoint.safetensors does not exist"),
    ],
)
def test_bad_training_options(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    result = train(*arguments)
    assert result.exit_code == 1, result.output
    assert sentence in result.stderr and result.stderr.count("\n") == 1


def test_overwrite_starts_anew_and_checks_its_input_first(folder: Path) -> None:
    assert train("--kimg", "0.01").exit_code == 0
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    for options, sentence in (
        ((), "run already holds a run: pass --resume to continue it or --overwrite to start anew"),
        (("--overwrite", "--resume"), "--overwrite and --resume contradict each other"),
        (("--overwrite", "--resolution", "16"), "images are 8px wide"),
    ):
        refused = train("--kimg", "0.01", *options)
        assert refused.exit_code == 1 and sentence in refused.stderr, refused.output
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    Path("run/network-000099.safetensors").write_bytes(b"of another run")
    assert train("--kimg", "0.01", "--overwrite", "--seed", "1").exit_code == 0
    assert not Path("run/network-000099.safetensors").exists()
    assert Path("run/checkpoint.safetensors").read_bytes() != before["checkpoint.safetensors"]


def test_images_that_are_none(folder: Path) -> None:
    (folder / "images.npy").write_bytes(b"PK\x03\x04 no array")
    result = train("--kimg", "1")
    assert (result.exit_code, "images.npy is truncated or no .npy file" in result.stderr) == (1, True), (
        result.output
    )
    (folder / "images.npy").unlink()
    result = train("--kimg", "1")
    assert (
        result.exit_code,
        "images.npy is neither a folder of pictures nor a .npy file" in result.stderr,
    ) == (1, True), result.output


def test_a_folder_of_photographs(folder: Path) -> None:
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (9 + i, 14, 3), np.uint8)).save(f"photos/{i}.png")
    Path("photos/broken.jpg").write_bytes(b"no picture")

    def run(*more: str) -> Result:
        arguments = ["gan", "train", "photos", "--out", "run", *SMALL, "--no-mirror", "--augment", "none"]
        return CliRunner().invoke(main, [*arguments, *more])

    first = run("--kimg", "0.004")
    assert (first.exit_code, first.stdout) == (0, "run: 4 images seen\n"), first.output
    assert "skipped photos/broken.jpg: cannot identify image file" in first.stderr
    (pack,) = Path("run").glob("images-8-*.npy")
    assert np.load(pack).shape == (6, 8, 8, 3)
    more = run("--kimg", "0.008", "--resume")
    assert (more.exit_code, "skipped" in more.stderr) == (0, False), more.output
    Path("photos/5.png").unlink()
    other = run("--kimg", "0.012", "--resume")
    assert (other.exit_code, "photos does not have the pictures that the run in run" in other.stderr) == (
        1,
        True,
    )
    refused = run("--kimg", "0.012")
    assert (refused.exit_code, "run already holds a run" in refused.stderr) == (1, True)
    anew = run("--kimg", "0.004", "--overwrite")
    assert anew.exit_code == 0, anew.output
    (pack,) = Path("run").glob("images-8-*.npy")
    assert len(np.load(pack)) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing.safetensors", "--out", "a.png"], "nothing.safetensors does not exist"),
        (["images.npy", "--out", "a.png"], "images.npy is truncated or not a safetensors file"),
        (["images.npy", "--out", "a.png", "--columns", "0"], "--columns is 0, expected at least 1"),
        (
            ["images.npy", "--out", "a.png", "--seeds", "5-1"],
            "--seeds is '5-1', expected up to 10,000 numbers",
        ),
        (["images.npy", "--out", "no/a.png"], "no is no folder"),
        (["images.npy", "--out", "a.xyz"], "a.xyz has no known image format, expected a name such as"),
    ],
)
def test_bad_sampling_options(folder: Path, arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["gan", "sample", *arguments])
    assert result.exit_code == 1
    assert sentence in result.stderr and result.stderr.count("\n") == 1


def test_a_lifted_model_is_no_gan(tiny_model: Path, folder: Path) -> None:
    result = CliRunner().invoke(main, ["gan", "sample", str(tiny_model), "--out", "a.png"])
    assert (result.exit_code, "expected 'lift3d.gan/2'" in result.stderr) == (1, True)
