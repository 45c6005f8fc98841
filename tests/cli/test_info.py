"""``lift3d info`` and ``lift3d verify``: what a file says of itself, and whether it is true."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

import lift3d
from lift3d.cli.main import main
from lift3d.config.toml import read_category
from lift3d.export.hdf5.sample_file import parts_folder


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset."""
    path = tmp_path_factory.mktemp("data") / "faces.h5"
    small = [
        "--n",
        "1",
        "--views",
        "2",
        "--lights",
        "2",
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
def faces(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(written, "faces.h5")
    return Path("faces.h5")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_info_of_a_dataset(faces: Path) -> None:
    result = run("info", "faces.h5")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("faces.h5: 1 of 1 samples, ")
    assert next(line for line in lines if line.startswith("albedo")).split()[1:4] == [
        "1x2x16x16x3", "uint8", "sample,view,y,x,channel",
    ]  # fmt: skip
    about = json.loads(run("info", "faces.h5", "--json").stdout)
    assert (about["planned"], about["done"]) == (1, 1)
    assert "colors" in {dataset["name"] for dataset in about["datasets"]}


def test_info_draws_a_contact_sheet_once(faces: Path) -> None:
    result = run("info", "faces.h5", "--contact-sheet", "faces.png")
    assert result.exit_code == 0, result.output
    assert Path("faces.png").read_bytes()[:4] == b"\x89PNG"
    again = run("info", "faces.h5", "--contact-sheet", "faces.png")
    assert (again.exit_code, "faces.png exists; --overwrite replaces it" in again.stderr) == (1, True)
    assert run("info", "faces.h5", "--contact-sheet", "faces.png", "--overwrite").exit_code == 0


def test_info_of_a_model(tiny_model: Path, faces: Path) -> None:
    result = run("info", str(tiny_model))
    assert result.exit_code == 0, result.output
    assert "# format: lift3d.lifted/2" in result.stdout
    Path("own.toml").write_text(result.stdout)
    assert read_category("own.toml") == lift3d.load(tiny_model).config
    assert json.loads(run("info", str(tiny_model), "--json").stdout)["format"] == "lift3d.lifted/2"
    sheet = run("info", str(tiny_model), "--contact-sheet", "a.png")
    assert (sheet.exit_code, "is no dataset" in sheet.stderr) == (1, True)


def test_verify_a_sound_and_a_damaged_file(faces: Path) -> None:
    sound = run("verify", "faces.h5")
    assert (sound.exit_code, sound.stdout) == (0, "faces.h5: 1 samples checked, 0 problems\n"), sound.output
    with h5py.File(faces, "r+") as h5:
        h5["light_dir"][0] = np.zeros(3)
    damaged = run("verify", "faces.h5")
    assert damaged.exit_code == 1
    assert "checksum, sample 0: differs from the values stored" in damaged.stdout


@pytest.mark.parametrize("command", ["info", "verify"])
def test_files_that_are_none(command: str, faces: Path) -> None:
    missing = run(command, "nothing.h5")
    assert (missing.exit_code, "nothing.h5 is not a file" in missing.stderr) == (1, True)
    data = faces.read_bytes()
    faces.write_bytes(data[:1000])
    truncated = run(command, "faces.h5")
    assert (truncated.exit_code, "faces.h5 is truncated or no HDF5 file" in truncated.stderr) == (1, True)
    assert truncated.stderr.count("\n") == 1
    with h5py.File("other.h5", "w") as h5:
        h5["x"] = 1
    foreign = run(command, "other.h5")
    assert (foreign.exit_code, "is an HDF5 file of another program" in foreign.stderr) == (1, True)


def test_info_names_samples_that_wait_in_parts(faces: Path) -> None:
    parts_folder(faces).mkdir()
    with h5py.File(parts_folder(faces) / "000000000.h5", "w") as h5:
        h5["done"] = [True, True, False]
    assert (
        "2 more samples wait in parts beside it; lift3d sample --resume puts them in"
        in run("info", str(faces)).stdout
    )


def test_info_of_a_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    result = run("info", str(tmp_path / "notes.txt"))
    assert (result.exit_code, "notes.txt is truncated or not a safetensors file" in result.stderr) == (
        1,
        True,
    )


def test_many_findings_are_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    from lift3d.export.hdf5.verify import Finding, VerifyReport

    findings = tuple(Finding("depth", i, "is wrong") for i in range(30))
    monkeypatch.setattr(
        "lift3d.export.hdf5.verify.verify", lambda path, observer, quick: VerifyReport(path, 30, findings)
    )
    lines = run("verify", "a.h5").stdout.splitlines()
    assert len(lines) == 22
    assert lines[-2:] == ["... and 10 more", "a.h5: 30 samples checked, 30 problems"]


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl"])
def test_a_mesh_of_any_format(faces: Path, suffix: str) -> None:
    mesh = lift3d.open_dataset(faces).mesh(0)
    mesh.save(f"head{suffix}")
    about = json.loads(run("info", f"head{suffix}", "--json").stdout)
    assert (about["vertices"], about["faces"]) == (len(mesh.vertices), len(mesh.faces))
    least, _, greatest = about["ranges"]["position"]
    assert (least, greatest) == pytest.approx((mesh.vertices.min(), mesh.vertices.max()), abs=1e-5)
    for content in (b"", b"no mesh", Path(f"head{suffix}").read_bytes()[:300]):
        Path(f"head{suffix}").write_bytes(content)
        damaged = run("info", f"head{suffix}")
        assert damaged.exit_code == 1 and f"head{suffix} " in damaged.stderr, damaged.output
        assert damaged.stderr.count("\n") == 1


def test_a_run_folder(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model, tmp_path / "model.safetensors")
    assert "# format: lift3d.lifted/2" in run("info", str(tmp_path)).stdout
    (tmp_path / "model.safetensors").unlink()
    empty = run("info", str(tmp_path))
    assert (
        empty.exit_code,
        "is no run: it holds none of instance.lift, model.safetensors" in empty.stderr,
    ) == (1, True)


def test_a_mesh(faces: Path) -> None:
    run = CliRunner().invoke
    exported = run(main, ["export", str(faces), "--vertex-colors", "--out", "head.glb"])
    assert exported.exit_code == 0, exported.output
    mesh = lift3d.open_dataset(faces).mesh(0)
    about = json.loads(run(main, ["info", "head.glb", "--json"]).stdout)
    assert (about["vertices"], about["faces"]) == (len(mesh.vertices), len(mesh.faces))
    assert list(about["ranges"]) == ["position", "normals", "albedo", "specular", "shininess"]
    least, mean, greatest = about["ranges"]["shininess"]
    assert least == mesh.shininess.min() and greatest == mesh.shininess.max() and least <= mean <= greatest
    words = run(main, ["info", "head.glb"]).stdout.splitlines()
    assert words[0].startswith(f"head.glb: mesh, {len(mesh.vertices)} vertices, {len(mesh.faces)} faces, ")
    assert words[2].split() == ["vertices'", "least", "mean", "greatest"] and len(words) == 8
    Path("head.glb").write_bytes(Path("head.glb").read_bytes()[:999])
    damaged = run(main, ["info", "head.glb"])
    assert damaged.exit_code == 1 and "head.glb is not a whole glTF binary file" in damaged.stderr
