"""``lift3d invert`` and ``lift3d refine --image``: what they write, and what they say of strange images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from click.testing import CliRunner
from PIL import Image

from lift3d.cli.main import main
from lift3d.instance import load
from lift3d.photographs import Kind, Photograph
from lift3d.train.invert import for_photographs, invert_photograph, photometric_error


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A reddish disk on white."""
    y, x = np.mgrid[:96, :96] - 47.5
    picture = np.where((x**2 + y**2 < 28**2)[..., None], np.uint8([200, 120, 90]), np.uint8(255))
    picture[40:50, 40:50] = 60
    Image.fromarray(picture).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_folder_about_a_photograph(photo: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, common = tmp_path / "face", ["--model", tiny_model, "--steps", 2, "--threads", 1, "--device", "cpu"]
    code, said = run("invert", photo, *common, "--box", "10,10,86,86", "--out", out)
    assert code == 0 and "instance.lift: done; mean error of colors" in said, said
    for name in ("before-after", "image", "views", "lights", "maps/albedo", "maps/normals", "maps/depth"):
        with Image.open(out / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 2, name
    assert len(trimesh.load(out / "object.glb", force="mesh").faces) > 100
    assert load(out).samples.seed.tolist() == [-1]
    code, said = run("invert", photo, *common, "--out", out)
    assert code == 1 and "exists; --overwrite replaces it" in said
    code, said = run("invert", photo, "--model", out, "--out", tmp_path / "again")
    assert code == 1 and "is an instance; photographs are encoded by a joint model" in said
    code, said = run("refine", "--image", photo, *common, "--box", "10,10,86,86", "--out", tmp_path / "b")
    assert code == 0 and (tmp_path / "b" / "instance.lift").exists()
    assert not (tmp_path / "b" / "object.glb").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["invert", "nowhere.png", "--out", "x"], "nowhere.png does not exist"),
        (["invert", ".", "--out", "x"], "is a folder, expected one image file"),
        (["invert", "a.png", "--box", "1,2,3", "--out", "x"], "--box is '1,2,3', expected left,top,right"),
        (["refine", "--image", "a.png", "--seed", "3", "--out", "x"], "--seed has no effect with --image"),
        (["refine", "--masks", "auto", "--out", "x"], "--masks has no effect without --image"),
    ],
)
def test_refusals(arguments: list[str], sentence: str) -> None:
    code, said = run(*arguments)
    assert code == 1 and sentence in said, said


def test_strange_images_are_told(tiny_model: Path) -> None:
    model = load(tiny_model)
    size = model.config.size
    photograph = Photograph(
        -torch.ones(3, size, size), torch.ones(size, size, dtype=torch.bool), (0, 0, size)
    )
    code = model.invert(photograph.image[None]).code[0]
    kind = Kind((0.5, 0.5, 0.5), None, code + 1, torch.ones(len(code)), 0.1)
    config = replace(model.config.refine, iterations=1)
    found = invert_photograph(model, photograph, kind, config)
    assert found.error_before == pytest.approx(photometric_error(model, found.sample, photograph))
    said = " ".join(found.warnings)
    assert "the model does not explain it" in said and "is 10.0 times as far from the mean" in said
    with torch.no_grad():
        model.view_encoder.net[-1][0].bias[1] = 9.0
    assert any(
        "yaw is at the limit" in w for w in invert_photograph(model, photograph, kind, config).warnings
    )
    near = Kind((0.5, 0.5, 0.5), None, code, torch.ones(len(code)), 0.1)
    assert not any("times as far" in w for w in invert_photograph(model, photograph, near, config).warnings)


def test_material_learns_faster_from_photographs_and_shape_less() -> None:
    plain = load().config.refine
    less = {"shape": plain.shape / 3, "highlights": plain.highlights / 3}
    assert for_photographs(plain) == replace(plain, material=4 * plain.material, **less)
