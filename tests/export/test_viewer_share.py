"""Shared pages and packs; the answers that a page gets without a browser."""

import base64
import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from lifted_blobs import Blobs

import lift3d
from lift3d.cli.main import main
from lift3d.errors import ConfigError
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.viewer import scene, share
from lift3d.export.viewer.pack import pack, quantize, unpack


def test_a_pack_keeps_arrays_up_to_half_a_step() -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 9, (3, 5)).astype(np.uint8)
    values = rng.uniform(-1.1, 1.1, (7, 3)).astype(np.float32)
    for dtype, step in (("i2", 2.2 / 65535), ("u2", 2.2 / 65535), ("u1", 2.2 / 255)):
        about, arrays = unpack(pack({"a": [1]}, {"p": plain, "q": quantize(values, dtype, -1.1, 1.1)}))
        assert about == {"a": [1]}
        np.testing.assert_array_equal(arrays["p"], plain)
        assert np.abs(arrays["q"] - values).max() <= step / 2 + 1e-6


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
    page = lift3d.open_dataset(faces).show(1)
    assert page.text == lift3d.show(lift3d.open_dataset(faces), 1).text
    assert page._repr_html_().startswith("<iframe") and "srcdoc=" in page._repr_html_()
    for address in ("http://", "https://", "src=", "@import"):
        assert address not in page.text.replace("srcdoc=", "")
    with pytest.raises(ConfigError, match="show takes a LiftedGAN or a dataset, got int"):
        lift3d.show(3)


def test_models_show_their_seeds() -> None:
    model = lift3d.load("demo")
    assert model.show(7).text == lift3d.show(model, 7).text != model.show().text


def packs(page: share.Page) -> list[tuple[dict, dict[str, np.ndarray]]]:
    found = re.findall(r'application/octet-stream">(.*?)</script>', page.text)
    return [unpack(gzip.decompress(base64.b64decode(text))) for text in found]


def test_a_page_holds_all_views_and_the_maps_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(Blobs(), DatasetPlan(n=1, views=5, lights=2, size=32), tmp_path / "five.h5")
    dataset = lift3d.open_dataset(tmp_path / "five.h5")
    for room, maps in ((share.BYTES, 5), (1, 1)):
        monkeypatch.setattr(share, "BYTES", room)
        ((about, arrays),) = packs(share.from_dataset(dataset, [0]))
        assert len(about["cameras"]) == 5
        assert sorted(n for n in arrays if n.startswith("mask/")) == [f"mask/{i}" for i in range(maps)]
        for view in range(maps):
            np.testing.assert_array_equal(arrays[f"albedo/{view}"], dataset[0].albedo[view].numpy())


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
