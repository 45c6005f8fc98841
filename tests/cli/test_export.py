"""``lift3d export``: meshes of datasets and of models, and bad input."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner, Result
from gltf import textures

import lift3d
from lift3d.cli.main import main
from lift3d.export.dataset import DatasetPlan, write_dataset


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two samples."""
    path = tmp_path_factory.mktemp("data") / "faces.h5"
    small = [
        "--n",
        "2",
        "--views",
        "1",
        "--lights",
        "1",
        "--size",
        "16",
        "--mesh-resolution",
        "32",
        "--model",
        str(tiny_model),
    ]
    result = CliRunner().invoke(main, ["sample", "--out", str(path), *small])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def folder(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``faces.h5`` in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(written, "faces.h5")
    return tmp_path


def export(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *(str(argument) for argument in arguments)])


def test_a_sample_of_a_dataset(folder: Path) -> None:
    result = export("faces.h5", "--sample", 1, "--out", "head.glb", "--vertex-colors")
    assert result.exit_code == 0, result.output
    stored = lift3d.open_dataset("faces.h5").mesh(1)
    assert result.stdout.startswith(
        f"head.glb: {len(stored.vertices)} vertices, {len(stored.faces)} faces, closed manifold, in "
    )
    head = trimesh.load("head.glb", force="mesh", process=False)
    assert np.allclose(head.vertices, stored.vertices, atol=1e-6)
    assert (head.faces == stored.faces).all()
    kept = export("faces.h5", "--out", "head.glb")
    assert (kept.exit_code, "head.glb exists; --overwrite replaces it" in kept.stderr) == (1, True)
    assert export("faces.h5", "--out", "head.glb", "--overwrite").exit_code == 0


@pytest.mark.parametrize("name", ["head.obj", "head.ply", "HEAD.GLB", "head.stl"])
def test_the_name_decides_the_format(folder: Path, name: str) -> None:
    texels = ("--texture-size", 64) if Path(name).suffix.lower() in (".obj", ".glb") else ()
    result = export("faces.h5", "--out", name, *texels)
    assert result.exit_code == 0, result.output
    assert ("textures of 64 texels" in result.stdout) == (Path(name).suffix.lower() in (".obj", ".glb"))
    head = trimesh.load(name, force="mesh", process=False)
    assert len(head.faces) == len(lift3d.open_dataset("faces.h5").mesh(0).faces)


def test_a_model_gives_the_mesh_that_the_dataset_stored(folder: Path, tiny_model: Path) -> None:
    plain = ("--resolution", 32, "--vertex-colors")
    result = export("--model", tiny_model, "--seed", 1, *plain, "--out", "head.glb")
    assert result.exit_code == 0, result.output
    head = trimesh.load("head.glb", force="mesh", process=False)
    assert np.allclose(head.vertices, lift3d.open_dataset("faces.h5").mesh(1).vertices, atol=1e-5)


def test_many_instances_fill_a_folder(folder: Path) -> None:
    result = export("faces.h5", "--sample", "all", "--out", "heads", "--format", "ply")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("heads").iterdir()) == ["000000.ply", "000001.ply"]
    assert result.stdout.count("closed manifold") == 2 and "exporting: 2 in" in result.stderr
    again = export("faces.h5", "--sample", "0-1", "--out", "heads", "--format", "ply")
    assert again.exit_code == 1 and "heads/000000.ply exists; --overwrite replaces it" in again.stderr
    assert export("faces.h5", "--sample", "1,0", "--out", "heads", "--overwrite").exit_code == 0
    assert len(list(Path("heads").iterdir())) == 4


def test_resume_writes_who_is_missing(folder: Path) -> None:
    plain = ("--sample", "all", "--out", "heads", "--vertex-colors")
    assert export("faces.h5", *plain).exit_code == 0
    whole = Path("heads/000000.glb").read_bytes()
    Path("heads/000000.glb").write_bytes(b"kept")
    Path("heads/000001.glb").unlink()
    result = export("faces.h5", *plain, "--resume")
    assert result.exit_code == 0 and "exporting: 1 in" in result.stderr, result.output
    assert Path("heads/000000.glb").read_bytes() == b"kept" and Path("heads/000001.glb").exists()
    Path("heads/000000.glb").unlink()
    assert export("faces.h5", *plain, "--resume").exit_code == 0
    assert Path("heads/000000.glb").read_bytes() == whole


def test_the_model_of_a_dataset_paints_it(folder: Path, tiny_model: Path) -> None:
    textured = ("--out", "head.glb", "--overwrite", "--texture-size", 64, "--normal-map")
    alone = export("faces.h5", *textured)
    assert alone.exit_code == 0 and "faces.h5: its model is not here, so textures are made of" in alone.stderr
    named = export("faces.h5", *textured, "--model", tiny_model)
    assert named.exit_code == 0 and "not here" not in named.stderr, named.output
    assert textures(Path("head.glb").read_bytes())[0]["normal"].shape == (64, 64, 3)
    shutil.copy(tiny_model, folder)
    by_name = Path("head.glb").read_bytes()
    assert "not here" not in export("faces.h5", *textured).stderr
    assert Path("head.glb").read_bytes() == by_name


def test_fewer_faces(folder: Path, tiny_model: Path) -> None:
    whole = lift3d.open_dataset("faces.h5").mesh(0)
    budget = len(whole.faces) // 3
    result = export("faces.h5", "--out", "head.ply", "--decimate", budget)
    assert result.exit_code == 0 and "closed manifold" in result.stdout, result.output
    small = trimesh.load("head.ply", process=False)
    assert 0.8 * budget < len(small.faces) <= budget
    assert small.volume == pytest.approx(trimesh.Trimesh(whole.vertices, whole.faces).volume, rel=0.03)


def test_a_dataset_without_meshes(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = DatasetPlan(n=1, views=1, lights=1, size=16, mesh_resolution=32, meshes=False)
    write_dataset(lift3d.load(tiny_model), plan, Path("faces.h5"))
    result = export("faces.h5", "--out", "head.glb")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert (
        "faces.h5 has no meshes, and its model is not here to make them: give it by --model FILE"
        in result.stderr
    )
    maker = ["--model", tiny_model, "--sample", 0]
    assert export("faces.h5", "--out", "head.ply", *maker).exit_code == 0
    whole = lift3d.load(tiny_model)
    wanted = whole.mesh(whole.sample(0).code[0], 32)
    assert len(trimesh.load("head.ply", process=False).faces) == len(wanted.faces)
    shared = export("faces.h5", "--out", "page.html", *maker)
    assert shared.exit_code == 0 and "page.html: 1 instances" in shared.stdout, shared.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give a dataset (faces.h5 --sample 0) or a model"),
        (["faces.h5", "--model", "demo"], "demo did not make sample 0 of faces.h5: its material differs"),
        (["faces.h5", "--seed", 1], "--seed does not go with a dataset"),
        (["--model", "demo", "--sample", 1], "--sample does not go with a model alone"),
        (["faces.h5", "--sample", 2], "faces.h5 has no sample 2, expected 0 to 1"),
        (["faces.h5", "--sample", "0-99999999999"], "expected up to 1,000,000 numbers such as 3 or 0-9,12"),
        (["faces.h5", "--sample", "²"], "--sample is '²', expected up to"),
        (
            ["faces.h5", "--sample", -1],
            "--sample is '-1', expected up to",
        ),
        (["faces.h5", "--sample", "0,x"], "--sample is '0,x', expected up to"),
        (["faces.h5", "--sample", "3-1"], "--sample is '3-1', expected up to"),
        (["faces.h5", "--sample", "0-1"], "2 instances do not fit into head.glb; give a folder as --out"),
        (["faces.h5", "--texture-size", 0], "texture size is 0, expected 16 to 8192 texels"),
        (["--model", "demo", "--seed", 2**32], "--seed is '4294967296', expected up to"),
        (["faces.h5", "--scale", 2], "--scale has no effect in .glb files, only in .blend; leave it out"),
        (["faces.h5", "--material", "pbr"], "--material has no effect in .glb files, only in .blend"),
        (["faces.h5", "--blender", "x"], "--blender has no effect in .glb files, only in .blend"),
        (["faces.h5", "--format", "ply"], "--format has no effect on a single file, whose name decides"),
        (["faces.h5", "--up", "z"], "--up has no effect in .glb files, whose standard decides"),
        (["faces.h5", "--up", "x", "--out", "a.ply"], "--up is 'x', expected y or z"),
        (
            ["faces.h5", "--out", "a.ply", "--texture-size", 64],
            "--texture-size has no effect without",
        ),
        (
            ["faces.h5", "--vertex-colors", "--texture-size", 64],
            "--texture-size has no effect without",
        ),
        (["faces.h5", "--out", "a.html", "--resume"], "--resume has no effect on a page; leave it out"),
        (["--model", "demo", "--out", "a.html", "--resolution", 64], "--resolution has no effect on a page"),
        (["faces.h5", "--out", "a.stl", "--vertex-colors"], "--vertex-colors has no effect in .stl files"),
        (["faces.h5", "--decimate", 3], "decimate: 3 faces asked for, expected at least 4"),
        (["faces.h5", "--out", "folder", "--format", "fbx"], "--format fbx has no known format"),
        (["nothing.h5"], "nothing.h5 is not a file"),
        (["--model", "nobody"], "there is no model file nobody"),
        (["--model", "faces.h5"], "faces.h5 is truncated or not a safetensors file"),
        (["faces.h5", "--out", "no/head.glb"], "no is no folder"),
        (["faces.h5", "--out", "no/heads"], "no/heads: No such file or directory"),
        (["faces.h5", "--out", "faces.h5/heads"], "faces.h5/heads: Not a directory"),
        (["faces.h5", "--out", "heads", "--texture-size", 9000], "texture size is 9000, expected 16 to 8192"),
        (["faces.h5", "--overwrite", "--resume"], "--overwrite and --resume contradict each other"),
        (["faces.h5", "--out", "a.ply", "--normal-map"], "--normal-map is for .glb and .blend files"),
        (["faces.h5", "--vertex-colors", "--normal-map"], "leave it out, or write such a file"),
        (
            ["faces.h5", "--out", "head.xyz"],
            "head.xyz has no known format, expected one of .glb, .obj, .blend, .ply, .stl",
        ),
    ],
)
def test_bad_options(folder: Path, arguments: list[object], sentence: str) -> None:
    result = export("--out", "head.glb", *arguments)
    assert result.exit_code == 1, result.output
    assert sentence in result.stderr and result.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["faces.h5"]


def test_a_truncated_dataset(folder: Path) -> None:
    data = Path("faces.h5").read_bytes()
    Path("faces.h5").write_bytes(data[: len(data) // 2])
    result = export("faces.h5", "--out", "head.glb")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: faces.h5") and result.stderr.count("\n") == 1


def test_what_a_blend_file_needs_is_known_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr("lift3d.export.objects.finish", work)
    for options, sentence in (
        (["--blender", "no/blender"], "no/blender is no program; give the path"),
        (["--material", "wax"], "material is 'wax', expected one of pbr, exact"),
        (["--scale", 0], "scale is 0.0, expected a number above 0"),
    ):
        result = export("faces.h5", "--out", "head.blend", *options)
        assert result.exit_code == 1 and sentence in result.stderr, result.output


@pytest.mark.parametrize(("option", "value"), [("--trunc", 1.5), ("--resolution", 1), ("--threads", 0)])
def test_numbers_out_of_range(folder: Path, tiny_model: Path, option: str, value: object) -> None:
    result = export("--model", tiny_model, option, value, "--out", "head.glb")
    assert result.exit_code == 1, result.output
    assert "expected" in result.stderr and result.stderr.count("\n") == 1
