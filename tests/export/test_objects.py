"""Instances of datasets and models: whose fields paint them, and what is said where they cannot."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from analytic import surface_of
from tiny_gan import tiny_gan as untrained

import lift3d
from lift3d.errors import CheckpointError, ConfigError
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.objects import agrees, finish, from_dataset, from_model
from lift3d.model import LiftedGAN
from lift3d.scene.surface_mesh import project_to_surface

CELLS = 32


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose material varies over the surface."""
    lifted = lift3d.load(tiny_model)
    torch.manual_seed(2)  # whatever tests came before
    with torch.no_grad():
        lifted.shape.head.weight.normal_(0, 0.005)
        lifted.material.head.weight.normal_(0, 0.3)
        lifted.material.body.biases.weight.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("model") / "maker.safetensors"
    lifted.save(path)
    return path


@pytest.fixture(scope="module")
def written(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two samples."""
    path = tmp_path_factory.mktemp("data") / "faces.h5"
    plan = DatasetPlan(
        n=2, views=2, lights=1, size=16, mesh_resolution=CELLS, model=model.name, meshes="full"
    )
    write_dataset(lift3d.load(model), plan, path)
    return path


@pytest.fixture
def faces(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dataset, in a folder of its own that is not the current one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return Path(shutil.copy(written, tmp_path / "faces.h5"))


def other_model(path: Path) -> Path:
    """A model that paints other colors on the same shape."""
    lifted = lift3d.load(path)
    with torch.no_grad():
        lifted.material.head.bias += 0.05
    lifted.save(path)
    return path


def test_a_dataset_is_painted_by_the_model_that_it_names(faces: Path, model: Path) -> None:
    shutil.copy(model, faces.parent)
    stored = from_dataset(faces)
    assert stored.numbers == (0, 1)
    one, sampled = stored.instance(1), from_model(lift3d.load(model), [1], None, CELLS).instance(1)
    assert one.note == "" and one.size == 16 and one.cameras.translation.shape == (2, 3)
    np.testing.assert_array_equal(one.mesh.vertices, sampled.mesh.vertices)
    a, b = (finish(instance, texels=64).textures for instance in (one, sampled))
    for name in ("uv", "albedo", "specular", "shininess"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6, err_msg=name)
    named = from_dataset(faces, [1], model).instance(1)
    np.testing.assert_array_equal(finish(named, texels=64).textures.albedo, a.albedo)


def test_without_its_model_the_vertices_are_all_there_is(faces: Path, model: Path) -> None:
    instance = from_dataset(faces, [0]).instance(0)
    assert instance.note == (
        f"{faces}: its model is not here, so textures are made of vertex colors; --model FILE gives it"
    )
    found = instance.materials(instance.mesh.vertices)
    np.testing.assert_allclose(found.albedo, instance.mesh.albedo, atol=1e-5)
    other_model(Path(shutil.copy(model, faces.parent)))
    assert "its model has changed, so textures" in from_dataset(faces, [0]).instance(0).note
    assert from_dataset(faces, [0], fields=False).instance(0).note == ""
    (faces.parent / model.name).write_bytes(b"no model")
    assert "its model is not here" in from_dataset(faces, [0]).instance(0).note


def test_a_wrong_model_is_refused(faces: Path, model: Path, tmp_path: Path) -> None:
    other = other_model(Path(shutil.copy(model, tmp_path / "other.safetensors")))
    with pytest.raises(
        ConfigError, match="other.safetensors did not make sample 0 of .*its material differs"
    ):
        from_dataset(faces, [0], other).instance(0)
    with pytest.raises(CheckpointError, match="there is no model file nobody"):
        from_dataset(faces, [0], "nobody")


def test_agreement(model: Path) -> None:
    lifted = lift3d.load(model)
    code = lifted.sample([0]).code[0]
    mesh = lifted.mesh(code, CELLS)
    assert agrees(lifted, code, mesh)
    assert not agrees(lifted, code[:-1], mesh)
    assert not agrees(lifted, code + 1.0, mesh)
    assert not agrees(lifted, code, replace(mesh, albedo=mesh.albedo + np.float32(0.01)))
    other = LiftedGAN(replace(lifted.config, n_code=5), untrained().generator)
    assert not agrees(other, code, mesh)


def test_instances_that_are_not_there(faces: Path) -> None:
    with pytest.raises(ConfigError, match="faces.h5 has no sample 2, expected 0 to 1"):
        from_dataset(faces, [0, 2])
    with h5py.File(faces, "r+") as h5:
        h5["done"][1] = False
    with pytest.raises(ConfigError, match="sample 1 of .*faces.h5 is not finished; lift3d sample --resume"):
        from_dataset(faces, [1])
    assert from_dataset(faces).numbers == (0,)
    with h5py.File(faces, "r+") as h5:
        h5["meshes/vertex_span"][0], h5["meshes/face_span"][0] = (0, 0), (0, 0)
    with pytest.raises(ConfigError, match="sample 0 of .*faces.h5 has an empty mesh; leave it out"):
        from_dataset(faces).instance(0)
    with h5py.File(faces, "r+") as h5:
        h5["done"][0] = False
    with pytest.raises(ConfigError, match="faces.h5 has no finished sample here; lift3d sample --resume"):
        from_dataset(faces)


def test_a_dataset_without_meshes_is_made_again_by_its_model(faces: Path, model: Path) -> None:
    bare = faces.parent / "bare.h5"
    plan = DatasetPlan(
        n=2, views=2, lights=1, size=32, mesh_resolution=CELLS, model=model.name, meshes="none", maps=()
    )
    write_dataset(lift3d.load(model), plan, bare)
    with pytest.raises(ConfigError, match="bare.h5 has no meshes, and its model is not here .* --model FILE"):
        from_dataset(bare)
    for instances in (from_dataset(bare, [1], model), from_dataset(bare, [1], model, fields=False)):
        one = instances.instance(1)
        wanted = from_model(lift3d.load(model), [1], None, CELLS).instance(1)
        np.testing.assert_array_equal(one.mesh.vertices, wanted.mesh.vertices)
        np.testing.assert_array_equal(one.mesh.albedo, wanted.mesh.albedo)
        assert one.note == "" and len(one.cameras) == 2
    shutil.copy(model, faces.parent)
    assert len(from_dataset(bare).instance(0).mesh.faces)
    other = other_model(Path(shutil.copy(model, faces.parent / "other.safetensors")))
    with pytest.raises(ConfigError, match="other.safetensors did not make sample 0 of .*: its image differs"):
        from_dataset(bare, [0], other).instance(0)


def test_the_vertices_that_are_left_are_the_fields(model: Path) -> None:
    lifted = lift3d.load(model)
    instance = from_model(lifted, [3], None, CELLS).instance(3)
    budget = len(instance.mesh.faces) // 4
    done = finish(instance, n_faces=budget)
    assert done.textures is None and done.report.solid and 0.8 * budget < len(done.mesh.faces) <= budget
    code = lifted.sample([3]).code[0]
    sdf = lambda points: lifted.surface(code[None]).sdf(points[None])[0][0, :, 0]  # noqa: E731
    there = project_to_surface(done.mesh, surface_of(sdf), 0.1)
    normals = project_to_surface(there, surface_of(sdf), 0.1).normals
    exact = replace(lifted.evaluate_material(there, code), normals=normals)
    for name, array in exact.attributes().items():
        np.testing.assert_allclose(getattr(done.mesh, name), array, rtol=1e-3, atol=1e-3, err_msg=name)
    assert finish(instance, n_faces=10**6).mesh is instance.mesh
