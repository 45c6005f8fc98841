"""Cards of datasets: what they say is what is in the file, and what they say to type runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from lifted_blobs import Blobs
from PIL import Image

from lift3d.cli.main import main
from lift3d.errors import ConfigError
from lift3d.export.card import Card, command, measure, write_card
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.reader import describe, open_dataset
from lift3d.plots import histograms
from lift3d.scene.cameras import Cameras

PLAN = DatasetPlan(n=3, views=2, lights=2, size=32, truncation=0.7, model="demo")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    path = tmp_path / "faces.h5"
    write_dataset(Blobs(), PLAN, path)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def head(text: str) -> dict[str, object]:
    """The YAML head, which uses nothing but scalars and lists of JSON strings."""
    lines = re.match(r"---\n(.*?)\n---\n", text, re.S)[1].splitlines()
    found: dict[str, object] = {}
    for line in lines:
        if line.startswith("- "):
            found[name].append(json.loads(line[2:]))  # noqa: F821
        else:
            name, _, value = line.partition(":")
            found[name] = [] if not value else value.strip().strip('"')
    return found


def test_a_card_says_what_is_in_the_file(faces: Path) -> None:
    card = write_card(faces)
    text = card.text.read_text()
    assert [p.name for p in (card.text, card.sheet, card.histograms)] == [
        "faces.card.md",
        "faces.card.png",
        "faces.card-histograms.png",
    ]
    about = head(text)
    assert about["license"] == "cc0-1.0" and about["pretty_name"] == "faces"
    assert about["size_categories"] == ["n<1K"] and "relighting" in about["tags"]
    assert "3 of 3 samples are finished." in text
    assert "rendered from 2 views under 2 lights at 32 x 32 pixels" in text
    for info in describe(faces).datasets:
        shape = " x ".join(map(str, info.shape))
        assert f"| `{info.name}` | {shape} | {info.dtype} | {info.units} | {info.nbytes:,} |" in text
    for name in re.findall(r"\]\((.+?)\)", text):
        with Image.open(faces.parent / name) as picture:
            assert picture.width > 300 and len(picture.convert("RGB").getcolors(1 << 20)) > 50
    assert not re.search(r"nan|None|\binf\b", text)


def test_the_head_is_yaml(faces: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
    with h5py.File(faces, "r+") as h5:
        h5.attrs["license"] = 'mine: "all" # yours'
    text = write_card(faces).text.read_text()
    about = yaml.safe_load(text.split("---\n")[1])
    assert about == head(text) | {"license_details": 'mine: "all" # yours'}
    assert about["license"] == "other" and about["license_name"] == "mine-all-yours"


def test_measured_numbers_are_the_files(faces: Path) -> None:
    measured, dataset = measure(open_dataset(faces)), open_dataset(faces)
    albedo = np.concatenate([sample.albedo[sample.mask].numpy()[::7] for sample in dataset]) / 255
    np.testing.assert_allclose(measured["albedo, green"], albedo[:, 1], atol=1e-6)
    coverage = [float(m.float().mean()) for sample in dataset for m in sample.mask]
    np.testing.assert_allclose(measured["share of pixels inside the mask"], coverage)
    np.testing.assert_allclose(measured["view angle, degrees"], 12, atol=1e-4)
    ambient = np.concatenate([sample.light_ambient.numpy() for sample in dataset])
    np.testing.assert_allclose(measured["light, ambient"], ambient)


@pytest.mark.parametrize(("pitch", "yaw"), [(0.0, 0.5), (0.4, 0.0), (0.0, -0.6)])
def test_angles_of_views(faces: Path, pitch: float, yaw: float) -> None:
    """A head that turns to the viewer's right is seen from its right; one that nods is seen from above."""
    view = torch.tensor([[pitch, yaw, 0.0, 0.0, 0.0, 0.0]]).expand(2, 6)
    with h5py.File(faces, "r+") as h5:
        h5["cam2world"][:] = Cameras.from_view(view).cam2world().numpy()
    measured = measure(open_dataset(faces))
    np.testing.assert_allclose(measured["view azimuth, degrees"], -np.degrees(yaw), atol=1e-3)
    np.testing.assert_allclose(measured["view elevation, degrees"], np.degrees(pitch), atol=1e-3)


def test_the_command_of_a_card_runs(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And makes a dataset of the same plan."""
    monkeypatch.chdir(tmp_path)
    small = (
        "--n",
        1,
        "--views",
        2,
        "--lights",
        1,
        "--size",
        16,
        "--mesh-resolution",
        24,
        "--maps",
        "mask,depth",
    )
    result = run("sample", "--model", tiny_model, "--out", "faces.h5", "--gan", "--seed", 5, *small)
    assert result.exit_code == 0, result.output
    assert "faces.card.md: card of the file" in result.stdout
    words = re.search(r"^    (lift3d sample .*)$", Path("faces.card.md").read_text(), re.M)[1].split()[1:]
    words[words.index("--model") + 1] = str(tiny_model)
    assert run(*words, "--out", "again.h5").exit_code == 0
    assert describe(Path("again.h5")).config == describe(Path("faces.h5")).config


def test_commands_leave_out_what_is_not_said() -> None:
    plan = {
        "n": 3,
        "seed": 1,
        "truncation": None,
        "maps": [],
        "gan": False,
        "meshes": True,
    }
    assert command(plan) == "lift3d sample --n 3 --seed 1"
    assert command({"split": [0.5, 0.25, 0.25]}) == "lift3d sample --split 0.5/0.25/0.25"
    for latents, words in (
        ("random", "--n 9"),
        ("seeds:0-7,9", "--seeds 0-7,9"),
        ("interpolate:3:7:9", "--interpolate 3:7:9"),
        ("w:faces.npy 0123abcd", "--latents faces.npy"),
        ("seeds:5000 0123abcd", "--n 9"),
    ):
        assert command({"n": 9, "latents": latents}) == f"lift3d sample {words}"
    assert command({"gan": True, "maps": ["mask", "depth"]}) == "lift3d sample --maps mask,depth --gan"


@pytest.fixture
def sample(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    small = ("--n", 1, "--views", 1, "--lights", 1, "--size", 16, "--mesh-resolution", 24)
    return lambda *words: run("sample", "--model", tiny_model, "--out", "faces.h5", *small, *words)


def test_no_card(sample: Callable[..., Result]) -> None:
    assert sample("--no-card").exit_code == 0
    assert [path.name for path in Path().iterdir()] == ["faces.h5"]


def test_cards_are_not_replaced_unless_told(sample: Callable[..., Result]) -> None:
    Path("faces.card.md").write_text("mine")
    result = sample()
    assert result.exit_code == 1 and "faces.card.md exists; --overwrite replaces it" in result.stderr
    assert not Path("faces.h5").exists()
    assert sample("--no-card").exit_code == 0
    assert "faces.card.md exists; --overwrite replaces it" in run("card", "faces.h5").stderr
    assert Path("faces.card.md").read_text() == "mine"
    result = run("card", "faces.h5", "--overwrite")
    assert result.exit_code == 0 and result.stdout.startswith(
        "faces.card.md: card of faces.h5, with faces.card.png"
    )
    assert "1 of 1 samples are finished" in Path("faces.card.md").read_text()


def test_unfinished_samples_and_datasets_with_few_maps(tmp_path: Path) -> None:
    path = tmp_path / "few.h5"
    write_dataset(Blobs(), DatasetPlan(n=2, views=1, lights=1, size=16, maps=(), meshes=False), path)
    with h5py.File(path, "r+") as h5:
        h5["done"][0] = False
    text = write_card(path).text.read_text()
    assert "1 of 2 samples are finished; the other 1 hold nothing" in text
    assert "| albedo" not in text and "`depth`: " not in text
    with h5py.File(path, "r+") as h5:
        h5["done"][:] = False
    with pytest.raises(ConfigError, match="few.h5 has no finished sample"):
        write_card(path)


def test_names_with_dots() -> None:
    assert Card.of("a/faces.v2.h5").text == Path("a/faces.v2.card.md")


def test_histograms_draw_every_panel() -> None:
    rng = np.random.default_rng(0)
    panels = {str(i): {"": rng.normal(size=50)} for i in range(4)} | {
        "x": {"a": rng.random(9), "b": np.zeros(0)}
    }
    picture = histograms(panels, (200, 150))
    assert picture.shape == (300, 600, 3)
    cells = [picture[y : y + 150, x : x + 200] for y in (0, 150) for x in (0, 200, 400)]
    assert [bool((cell < 200).any()) for cell in cells] == [True] * 5 + [False]
