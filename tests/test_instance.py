"""Instances: what a file keeps, that it finds its model, and that commands' questions reach the right one."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import lift3d
from lift3d.checkpoint import read_tensors, write_tensors
from lift3d.cli.main import main
from lift3d.errors import CheckpointError, ConfigError, CorruptFile
from lift3d.instance import Instances, load, own_fields, together
from lift3d.model import Samples
from lift3d.renderers import MeshRenderer


def made(base: lift3d.LiftedGAN, seed: int, change: float) -> Instances:
    """An instance whose shape differs from its model's; all numbers fit into half precision."""
    member = own_fields(base)
    with torch.no_grad():
        member.shape.head.bias.add_(change)
    sample = base.sample([seed])
    return Instances([member], [base], replace(sample, image=sample.image.half().float()))


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> lift3d.LiftedGAN:
    return load(tiny_model)


@pytest.fixture(scope="module")
def files(base: lift3d.LiftedGAN, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("instances")
    paths = [folder / "a.lift", folder / "b.lift"]
    for path, seed, change in zip(paths, (7, 8), (0.125, -0.125), strict=True):
        made(base, seed, change).save(path)
    return paths


def test_a_file_keeps_what_differs_and_nothing_else(base: lift3d.LiftedGAN, files: list[Path]) -> None:
    about, tensors = read_tensors(files[0])
    assert [k for k in tensors if k.startswith("changed.")] == ["changed.shape.head.bias"]
    assert about["checksum"] == base.checksum() and about["model"] == base.source
    original, again = made(base, 7, 0.125), load(files[0])
    assert isinstance(again, Instances)
    for name, tensor in original.members[0].state_dict().items():
        torch.testing.assert_close(again.members[0].state_dict()[name], tensor, atol=1e-3, rtol=0)
    for f in fields(Samples):
        assert torch.equal(getattr(again.samples, f.name), getattr(original.samples, f.name))
    assert torch.equal(base.shape.head.bias, load(base.source).shape.head.bias)  # the base is left alone


def test_each_instance_answers_by_its_own_fields(base: lift3d.LiftedGAN, files: list[Path]) -> None:
    both = load(*files)
    samples = both.sample([0, 1, 2])
    assert samples.seed.tolist() == [0, 1, 2] and torch.equal(samples.w[0], samples.w[2])
    points = torch.rand(1, 9, 3) - 0.5
    plain = base.surface(samples.code[:1]).sdf(points)[0]
    for i, change in ((0, 0.125), (1, -0.125)):
        found = both.surface(samples.code[i : i + 1]).sdf(points)[0] - plain
        shift = made(base, 7 + i, change).members[0].surface(samples.code[i : i + 1]).sdf(points)[0] - plain
        torch.testing.assert_close(found, shift, atol=1e-3, rtol=0)
        assert found.abs().mean() > 0.01
    one = load(files[1]).sample(5)
    view = one.cameras, one.lights, 16, MeshRenderer(resolution=24)
    colors = both.render(samples.code[1], *view).colors
    assert torch.equal(colors, load(files[1]).render(one.code[0], *view).colors)
    assert not torch.equal(colors, both.render(samples.code[0], *view).colors)
    assert both.project(samples.w[1], one.image).shape == (1, 3, 64, 64)


def test_what_is_between_two_instances_is_refused(files: list[Path]) -> None:
    both = load(*files)
    with pytest.raises(ConfigError, match="belongs to none of the 2 instances"):
        both.mesh(both.sample([0]).code[0] + 1)
    with pytest.raises(ConfigError, match="truncation is 0.3, but instances are what they are"):
        both.sample([0], 0.3)
    with pytest.raises(ConfigError, match="latents of your own go with a model"):
        both.lift(both.samples.w)
    with pytest.raises(ConfigError, match="would hold 2 instances, expected 1 a file"):
        both.save("both.lift")


def test_the_model_is_found_beside_the_instance(
    base: lift3d.LiftedGAN, files: list[Path], tmp_path: Path
) -> None:
    about, tensors = read_tensors(files[0])
    tensors = {k: t.clone() for k, t in tensors.items()}
    write_tensors(tmp_path / "a.lift", tensors, about | {"model": "/nowhere/tiny.safetensors"})
    with pytest.raises(
        CheckpointError, match="instance of /nowhere/tiny.safetensors, which is not there; put"
    ):
        load(tmp_path / "a.lift")
    base.save(tmp_path / "tiny.safetensors")
    assert isinstance(load(tmp_path / "a.lift"), Instances)
    other = own_fields(base)
    with torch.no_grad():
        other.log_sharpness.add_(1)
    other.save(tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointError, match="another version of .*its checksum differs; make it anew"):
        load(tmp_path / "a.lift")


def test_damaged_and_foreign_files(base: lift3d.LiftedGAN, files: list[Path], tmp_path: Path) -> None:
    about, tensors = read_tensors(files[0])
    tensors = {k: t.clone() for k, t in tensors.items()}
    write_tensors(tmp_path / "a.lift", {k: t for k, t in tensors.items() if k != "sample.w"}, about)
    with pytest.raises(CorruptFile, match="does not say what it is an instance of"):
        load(tmp_path / "a.lift")
    write_tensors(tmp_path / "b.lift", tensors | {"changed.nothing": torch.zeros(1)}, about)
    with pytest.raises(CheckpointError, match="unexpected nothing"):
        load(tmp_path / "b.lift")
    with pytest.raises(CheckpointError, match="expected 'lift3d.instance/1'"):
        Instances.load(base.source)
    with pytest.raises(ConfigError, match="is a model, and 2 were given; several must be instances"):
        load(base.source, files[0])
    unsaved = own_fields(base)
    unsaved.source = ""
    with pytest.raises(ConfigError, match="would name no model: save the model first"):
        made(unsaved, 7, 0.125).save(tmp_path / "c.lift")
    other = made(base, 7, 0.125)
    other.config = replace(base.config, name="other")
    with pytest.raises(ConfigError, match="instances of 2 categories do not go together"):
        together([made(base, 7, 0.125), other])


def test_every_command_takes_instances(files: list[Path], tmp_path: Path) -> None:
    both = ["--model", str(files[0]), "--model", str(files[1])]

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    faces = tmp_path / "faces.h5"
    run(
        "sample",
        "--n",
        2,
        *both,
        "--size",
        16,
        "--views",
        1,
        "--lights",
        1,
        "--mesh-resolution",
        24,
        "--out",
        faces,
    )
    run("verify", faces)
    dataset = lift3d.open_dataset(faces)
    assert torch.equal(dataset[1].code, load(files[1]).samples.code[0])
    run("export", *both, "--seed", "0-1", "--resolution", 24, "--out", tmp_path / "m", "--format", "stl")
    assert len(list((tmp_path / "m").glob("*.stl"))) == 2
    run("export", faces, "--model", files[0], "--out", tmp_path / "a.ply")
    run("turn", *both, "--seed", 1, "--out", tmp_path / "a.gif", "--size", 16, "--seconds", 0.1)
    assert "lifted" in run("eval", "--model", files[0], "--heads", 1, "--threads", 1)
    result = CliRunner().invoke(main, ["export", str(faces), *both, "--out", str(tmp_path / "b.ply")])
    assert "2 models for one dataset; give the one that made it" in result.output
