"""``lift3d sample``: from a model to a file, and everything that can be wrong with the options."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import lift3d
from lift3d.cli.main import main
from lift3d.cli.sample import sample as sample_command
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.reader import describe
from lift3d.export.hdf5.schema import MAPS
from lift3d.renderers import RENDERERS

Sample = Callable[..., Result]


@pytest.fixture
def sample(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sample:
    """Runs ``lift3d sample --out faces.h5`` in an empty folder, small unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    small = {
        "--out": "faces.h5",
        "--model": tiny_model,
        "--n": 2,
        "--views": 2,
        "--lights": 2,
        "--size": 16,
        "--mesh-resolution": 32,
    }

    def run(*flags: str, **options: object) -> Result:
        given = small | {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        return CliRunner().invoke(main, ["sample", *flags, *(str(x) for pair in given.items() for x in pair)])

    run.model = tiny_model
    return run


def test_a_dataset_is_written_and_summed_up(sample: Sample) -> None:
    result = sample("--gan", contact_sheet="faces.png", seed=5, maps="albedo,mask,normals")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("faces.h5: 2 of 2 samples; wrote 8 images in ")
    assert "images/s" in result.stdout
    assert Path("faces.png").read_bytes()[:4] == b"\x89PNG"
    faces = lift3d.open_dataset("faces.h5")
    assert len(faces) == 2
    assert faces[0].colors.shape == (2, 2, 16, 16, 3)
    assert faces[0].colors_gan.shape == (2, 2, 64, 64, 3)
    assert faces[0].depth is None and faces[0].normals is not None
    plan = json.loads(CliRunner().invoke(main, ["info", "faces.h5", "--json"]).stdout)["config"]["plan"]
    assert (plan["seed"], plan["size"], plan["gan"]) == (5, 16, True)


def test_what_exists_is_kept_unless_told_otherwise(sample: Sample) -> None:
    assert sample().exit_code == 0
    before = Path("faces.h5").read_bytes()
    again = sample()
    assert again.exit_code == 1
    assert "faces.h5 exists" in again.stderr and "--overwrite" in again.stderr and "--resume" in again.stderr
    both = sample("--overwrite", "--resume")
    assert (both.exit_code, "contradict each other" in both.stderr) == (1, True)
    other = sample("--resume", seed=1)
    assert (other.exit_code, "seed is 0 in faces.h5, 1 now" in other.stderr) == (1, True)
    assert Path("faces.h5").read_bytes() == before
    assert sample("--resume").stdout.startswith("faces.h5: 2 of 2 samples; wrote 0 images")
    assert sample("--overwrite", n=1).stdout.startswith("faces.h5: 1 of 1 samples")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 0}, "n is 0, expected at least 1"),
        ({"views": 0}, "views is '0', expected a number, 1 to 10,000"),
        ({"lights": -1}, "lights is '-1', expected a number, 1 to 10,000"),
        ({"size": 100}, "size is 100, expected one of 16, 32, 64"),
        ({"seed": -1}, "seed is -1, expected 0"),
        ({"trunc": 1.5}, "truncation is 1.5, expected a number from 0 to 1"),
        ({"maps": "albedo,color"}, "maps: color unknown, expected some of albedo"),
        ({"mesh_resolution": 4}, "mesh_resolution is 4, expected a number from 16 to 1,024"),
        ({"renderer": "raytrace"}, "renderer is 'raytrace', expected mesh or neus"),
        ({"model": "nobody"}, "there is no model file nobody"),
        ({"device": "abacus"}, "unknown device 'abacus', expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
        ({"threads": 0}, "--threads is 0, expected at least 1"),
        ({"contact_sheet": "no/such/folder.png"}, "no/such"),
        ({"contact_sheet": "faces.xyz"}, "faces.xyz has no known image format, expected a name such as"),
        ({"out": "no/such/faces.h5"}, "no/such"),
        ({"meshes": "some"}, "meshes is 'some', expected none, full or a number of faces"),
        ({"split": "0.8,0.2"}, "--split is '0.8,0.2', expected three numbers such as 0.8/0.1/0.1"),
        ({"split": "0.8/0.1"}, "split is 0.8/0.1, expected the shares of training"),
        ({"seeds": "4", "interpolate": "1:2:3"}, "--seeds and --interpolate contradict each other"),
        ({"seeds": "1-3"}, "n is 2, but seeds:1-3 has 3 instances; leave n out"),
        ({"views": "spiral:3"}, "views are 'spiral:3', expected a number, or one of random"),
    ],
)
def test_bad_options_are_one_sentence_and_write_nothing(
    sample: Sample, options: dict[str, object], sentence: str
) -> None:
    result = sample(**options)
    assert result.exit_code == 1, result.output
    assert sentence in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert not list(Path.cwd().iterdir())


def test_a_foreign_model_file_is_refused(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"not a model")
    result = sample(model="model.bin")
    assert (result.exit_code, "model.bin is truncated or not a safetensors file" in result.stderr) == (
        1,
        True,
    )


def test_a_folder_that_may_not_be_written(sample: Sample) -> None:
    result = sample(out="/proc/faces.h5")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_a_full_disk(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "faces.h5")

    monkeypatch.setattr("lift3d.export.dataset.write_dataset", full)
    result = sample()
    assert result.exit_code == 1
    assert "faces.h5: the disk is full" in result.stderr


def test_maps_are_listed_without_anything_else(sample: Sample) -> None:
    result = CliRunner().invoke(main, ["sample", "--maps", "list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(MAPS)


def test_plans_seeds_and_split_reach_the_file(sample: Sample) -> None:
    Path("rig.json").write_text(
        '{"views": [{"yaw": 20}], "lights": [{"direction": [1, 0, 0], "ambient": 0}]}'
    )
    options = {"views": "file:rig.json", "lights": "file:rig.json", "meshes": "none", "split": "0.5/0.5/0"}
    arguments = [str(x) for name, value in options.items() for x in (f"--{name}", value)]
    small = ["--size", "16", "--mesh-resolution", "32", "--model", str(sample.model)]
    result = CliRunner().invoke(main, ["sample", "--out", "a.h5", "--seeds", "4-6,9", *arguments, *small])
    assert result.exit_code == 0, result.output
    faces = lift3d.open_dataset("a.h5")
    assert [int(s.seed) for s in faces] == [4, 5, 6, 9] and faces[0].light_dir.tolist() == [[1, 0, 0]]
    plan = json.loads(CliRunner().invoke(main, ["info", "a.h5", "--json"]).stdout)["config"]["plan"]
    assert plan["views"].startswith("file:rig.json ") and plan["lights"].startswith("file:rig.json ")
    assert (plan["latents"], plan["meshes"], plan["split"]) == ("seeds:4-6,9", "none", [0.5, 0.5, 0.0])
    walk = ["--interpolate", "4:9:3", "--views", "1", "--lights", "1", "--meshes", "none", *small]
    assert CliRunner().invoke(main, ["sample", "--out", "b.h5", *walk]).exit_code == 0
    np.save("w.npy", np.stack([s.latent_w for s in lift3d.open_dataset("b.h5")]))
    given = ["--latents", "w.npy", *walk[2:]]
    assert CliRunner().invoke(main, ["sample", "--out", "c.h5", *given]).exit_code == 0
    for a, b in zip(lift3d.open_dataset("b.h5"), lift3d.open_dataset("c.h5"), strict=True):
        assert torch.allclose(a.code, b.code) and int(a.seed) == -1


def test_every_default_is_said_in_one_place() -> None:
    plan = DatasetPlan(n=1)
    given = sample_command.make_context("sample", ["--out", "a.h5"]).params
    assert (given["views"], given["lights"]) == (str(plan.views), str(plan.lights))
    assert (given["size"], given["meshes"]) == (plan.size, str(plan.meshes))
    assert (given["renderer"], given["mesh_resolution"]) == (plan.renderer, plan.mesh_resolution)
    assert given["truncation"] is plan.truncation is None  # the model's
    assert next(p for p in sample_command.params if p.name == "renderer").metavar == "|".join(RENDERERS)


def test_a_seed_is_the_same_head_in_a_dataset_and_in_an_export(tiny_model: Path, tmp_path: Path) -> None:
    model = lift3d.load(tiny_model)
    plan = DatasetPlan(n=1, views=1, lights=1, size=16, mesh_resolution=24, maps=())
    write_dataset(model, plan, tmp_path / "a.h5")
    assert torch.allclose(lift3d.open_dataset(tmp_path / "a.h5")[0].latent_w, model.sample([0]).w[0])
    assert describe(tmp_path / "a.h5").config["plan"]["truncation"] == model.config.truncation
