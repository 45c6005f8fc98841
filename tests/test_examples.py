"""The examples run as printed, and make what they say."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import trimesh
from PIL import Image

import lift3d

EXAMPLES = Path(__file__).parents[1] / "examples"
TESTED = {
    "render_views_and_lights",
    "interpolate_two_heads",
    "dataset_in_a_dataloader",
    "mesh_for_blender",
    "photograph",
    "lift_your_gan",
    "read_with_h5py_alone",
    "train_normals_from_images",
}


def run(name: str, folder: Path, *arguments: str) -> str:
    """Output of an example, started in ``folder``."""
    setting = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=setting, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(float)


def test_every_example_is_short_and_tested() -> None:
    found = {path.stem: path.read_text().count("\n") for path in EXAMPLES.glob("*.py")}
    assert set(found) == TESTED
    assert max(found.values()) <= 30


def test_four_views_under_two_lights(tmp_path: Path) -> None:
    run("render_views_and_lights", tmp_path)
    picture = read(tmp_path / "views.png")
    assert picture.shape == (2 + 2 * 130, 2 + 4 * 130, 3)
    left, right = picture[2:130], picture[132:260]  # the light comes from the left, then from the right
    shown = (left < 250).all(-1) & (right < 250).all(-1)
    assert np.abs(left - right)[shown].mean() > 10


def test_a_walk_between_two_heads(tmp_path: Path) -> None:
    run("interpolate_two_heads", tmp_path)
    picture = read(tmp_path / "walk.png")
    steps = [picture[2:130, 2 + 130 * i : 130 + 130 * i] for i in range(6)]
    change = [np.abs(a - b).mean() for a, b in zip(steps, steps[1:], strict=False)]
    assert np.abs(steps[0] - steps[-1]).mean() > max(change) > 0.1


def test_a_dataset_in_a_loader_and_by_h5py_alone(tmp_path: Path) -> None:
    lines = run("dataset_in_a_dataloader", tmp_path).splitlines()
    assert len(lines) == 2 and all("(2, 3, 2, 64, 64, 3) (2, 3, 64, 64, 3)" in line for line in lines)
    with h5py.File(tmp_path / "faces.h5") as file:
        assert file["done"][:].all()
    run("read_with_h5py_alone", tmp_path, "faces.h5")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (900, 300)


def test_a_network_learns_normals(tmp_path: Path) -> None:
    """Some seconds of training see more than no training, on samples that were not trained on."""
    plan = lift3d.DatasetPlan(
        n=5, views=4, lights=3, size=32, split=(0.6, 0.4, 0.0), meshes="none", mesh_resolution=48
    )
    lift3d.write_dataset(lift3d.load("demo"), plan, tmp_path / "faces.h5")
    words = "mean error on the val split: "
    untrained, trained = (
        float(run("train_normals_from_images", tmp_path, "faces.h5", s).removeprefix(words).split()[0])
        for s in ("0", "15")
    )
    assert trained < 0.6 * untrained


@pytest.mark.parametrize("name", ["head.glb"])
def test_a_textured_mesh(tmp_path: Path, name: str) -> None:
    assert "faces" in run("mesh_for_blender", tmp_path, name)
    mesh = trimesh.load(tmp_path / name, force="mesh")
    assert 1_000 < len(mesh.faces) <= 5_000 and mesh.visual.material.baseColorTexture.size == (256, 256)


def test_a_photograph(tmp_path: Path) -> None:
    run("photograph", tmp_path, "astronaut.png", "3")
    with Image.open(tmp_path / "turned.png") as picture:
        assert picture.size == (384, 128)
    assert len(trimesh.load(tmp_path / "head.glb", force="mesh").faces) > 1_000


def test_a_gan_of_ones_own(tmp_path: Path, tiny_gan: Path) -> None:
    run("lift_your_gan", tmp_path, str(tiny_gan), "tiny")
    assert (tmp_path / "lifted" / "model.safetensors").exists()
    assert trimesh.load(tmp_path / "sample.glb", force="mesh").is_watertight
