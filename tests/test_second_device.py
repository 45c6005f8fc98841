"""Nothing assumes a CPU: the whole way, on a second device that refuses to be mixed with the first."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from second_device import MixedDevices, OnDevice, second_device
from tiny_gan import PRESET, tiny_gan

from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.reader import open_dataset
from lift3d.export.objects import finish, from_model
from lift3d.model import load
from lift3d.observer import SilentObserver
from lift3d.render import rasterize
from lift3d.render.rasterize.embree import EmbreeRasterizer
from lift3d.render.volume import SamplingConfig
from lift3d.renderers import MeshRenderer, VolumeRenderer
from lift3d.train import runner
from lift3d.train.joint import pretrain


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as there:
        yield there


class OnDeviceRasterizer(EmbreeRasterizer):
    """What nvdiffrast is on a GPU: it takes meshes of its device, and answers there."""

    asked: ClassVar[list[bool]] = []  # whether a mesh was on the device

    def prepare(self, vertices, faces):
        assert isinstance(vertices, OnDevice) == isinstance(faces, OnDevice)
        self.asked.append(isinstance(vertices, OnDevice))
        return super().prepare(vertices, faces)


def test_the_device_refuses_what_a_gpu_refuses(device: torch.device) -> None:
    there = torch.arange(3.0, device=device)
    torch.testing.assert_close((there + 1).cpu(), torch.arange(1.0, 4.0))
    with pytest.raises(MixedDevices, match="got tensors of the second device and of the CPU"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()
    moments = torch.zeros(3)
    with pytest.raises(MixedDevices):
        there.addcdiv_(moments, there + 1)


@pytest.mark.parametrize("seam", ["embree", "on the device"])
def test_what_a_model_renders_is_where_the_model_is(
    device: torch.device, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, seam: str
) -> None:
    if seam == "on the device":
        monkeypatch.setattr(rasterize, "EmbreeRasterizer", OnDeviceRasterizer)
    here, model = load(tiny_model), load(tiny_model).to(device)
    one, same = model.sample(3)[0], here.sample(3)[0]
    assert all(isinstance(x, OnDevice) for x in (one.seed, one.code, one.view, one.light))
    for renderer in (MeshRenderer(resolution=24), VolumeRenderer(SamplingConfig(8, 8))):
        maps = model.render(one.code, same.cameras, same.lights, 16, renderer)  # cameras of the CPU are moved
        expected = here.render(same.code, same.cameras, same.lights, 16, renderer)
        for name, value in vars(maps).items():
            assert isinstance(value, OnDevice), name
            torch.testing.assert_close(value.cpu(), getattr(expected, name), atol=1e-4, rtol=1e-4)
    assert seam == "embree" or OnDeviceRasterizer.asked == [True, False]
    projected = model.project(one.w, one.image[None])
    assert isinstance(projected, OnDevice)


def test_datasets_and_meshes_leave_the_device(device: torch.device, tiny_model: Path, tmp_path: Path) -> None:
    model = load(tiny_model).to(device)
    plan = DatasetPlan(n=1, views=2, lights=2, size=16, gan=True, mesh_resolution=24, meshes=200)
    assert write_dataset(model, plan, tmp_path / "a.h5").done == 1
    write_dataset(load(tiny_model), plan, tmp_path / "b.h5")
    there, here = open_dataset(tmp_path / "a.h5")[0], open_dataset(tmp_path / "b.h5")[0]
    assert (there.colors.int() - here.colors.int()).abs().max() <= 1
    finished = finish(from_model(model, [0], resolution=24).instance(0), 32, 200)
    finished.mesh.save(tmp_path / "head.ply")


class Stop(Exception):
    """Ends a run from inside, as a kill would."""


class StopInExploit(SilentObserver):
    """Raises ``Stop`` at the second progress report of step 3, when Adam has its moments."""

    def __init__(self) -> None:
        self.phase, self.reports = "", 0

    def start(self, phase: str, total: int | None = None) -> None:
        self.phase, self.reports = phase, 0

    def advance(self, n: int = 1, **values: float) -> None:
        self.reports += bool(values)
        if "exploit" in self.phase and self.reports == 2:
            raise Stop


def test_training_and_its_resumption(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every phase, pictures and curves, and Adam's moments after a resume."""
    monkeypatch.setattr(runner, "LOG_EVERY", 1)
    preset = replace(PRESET, joint=replace(PRESET.joint, n_stages=1, shape=1.0))
    with pytest.raises(Stop):
        pretrain(preset, tiny_gan(), tmp_path, StopInExploit(), device=device, checkpoint_seconds=0.0)
    model = pretrain(preset, tiny_gan(), tmp_path, device=device, resume=True, checkpoint_seconds=0.0)
    assert all(isinstance(p.data, OnDevice) for p in model.parameters())
    assert {"stage-0-intrinsics.png", "stage-0-projections.png"} <= {p.name for p in tmp_path.iterdir()}
    whole = pretrain(preset, tiny_gan(), tmp_path / "whole", checkpoint_seconds=0.0)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), whole.state_dict()[name], atol=1e-5, rtol=1e-5, msg=name)
