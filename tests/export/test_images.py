"""The reader for training: single images, splits, frames of normals, transforms, workers."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from lifted_blobs import Blobs
from torch.utils.data import DataLoader

from lift3d.errors import ConfigError, CorruptFile
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.images import DatasetImage
from lift3d.export.hdf5.reader import open_dataset
from lift3d.export.hdf5.schema import MAPS

PLAN = DatasetPlan(n=5, views=3, lights=2, size=16, gan=True, split=(0.6, 0.4, 0.0), truncation=0.7)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "faces.h5"
    write_dataset(Blobs(), PLAN, path)
    return path


def test_items_are_the_images_of_the_samples(written: Path) -> None:
    samples, images = open_dataset(written), open_dataset(written, flat=True)
    assert len(images) == 5 * 3 * 2
    for k, image in enumerate(images):
        sample = samples[k // 6]
        v, li = k % 6 // 2, k % 2
        assert (int(image.index), int(image.view), int(image.light)) == (k // 6, v, li)
        for name in ("colors", "colors_gan", "diffuse_shading", "specular_shading"):
            assert torch.equal(getattr(image, name), getattr(sample, name)[v, li]), name
        for name in (
            "albedo",
            "specular",
            "shininess",
            "depth",
            "normals",
            "mask",
            "cam2world",
            "intrinsics",
        ):
            assert torch.equal(getattr(image, name), getattr(sample, name)[v]), name
        for name in ("light_dir", "light_ambient", "light_diffuse", "light_negative"):
            assert torch.equal(getattr(image, name), getattr(sample, name)[li]), name
        assert torch.equal(image.seed, sample.seed)
        torch.testing.assert_close(image.cameras.rotation, sample.cameras.rotation[v])
        assert torch.equal(image.lights.direction, sample.lights.direction[li])
    assert torch.equal(images[-1].colors, images[29].colors)
    assert repr(samples) == f"LiftedDataset({str(written)!r}, 5 samples)"
    assert repr(images) == f"ImageDataset({str(written)!r}, 30 images)"
    with pytest.raises(IndexError, match="image 30 of 30"):
        images[30]


def test_an_item_reads_one_image_of_the_maps_asked_for(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, int]] = []
    original = h5py.Dataset.__getitem__

    def counted(self: h5py.Dataset, where: object, **named: object) -> object:
        found = original(self, where, **named)
        read.append((self.name, np.asarray(found).nbytes))
        return found

    images = open_dataset(written, maps=("colors", "normals"), flat=True)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    image = images[17]
    sizes = dict(read)
    assert sizes["/colors"] == 16 * 16 * 3 and sizes["/normals"] == 16 * 16 * 3 * 2
    assert len(read) == len(sizes) and not {"/depth", "/mask", "/albedo"} & set(sizes)
    assert all(getattr(image, name) is None for name in MAPS if name != "normals")


def test_parts_are_those_of_the_file(written: Path, tmp_path: Path) -> None:
    parts = [PLAN.part(i) for i in range(5)]
    for number, name in enumerate(("train", "val", "test")):
        wanted = [i for i in range(5) if parts[i] == number]
        assert open_dataset(written, split=name).indices.tolist() == wanted
        assert len(open_dataset(written, split=name, flat=True)) == 6 * len(wanted)
    with pytest.raises(ConfigError, match="split is 'dev', expected one of train, val, test"):
        open_dataset(written, split="dev")
    write_dataset(Blobs(), DatasetPlan(n=1, views=1, lights=1, size=16), tmp_path / "whole.h5")
    with pytest.raises(
        ConfigError, match=r"whole.h5 has no split; lift3d sample --split 0.8/0.1/0.1 writes one"
    ):
        open_dataset(tmp_path / "whole.h5", split="train")


def test_normals_in_the_frame_of_the_camera(written: Path) -> None:
    """The renderer's own, and what a frontal ball would show: z towards the camera."""
    model = Blobs()
    for i, sample in enumerate(open_dataset(written, normals_frame="camera")):
        cameras, lights = PLAN.draw(i, model.config.view_prior, model.config.light_prior)
        maps = model.render(model.sample([i], 0.7).code[0], cameras, lights, PLAN.size)
        wanted = maps.normals_in_camera(cameras)[maps.mask]
        torch.testing.assert_close(sample.normals[sample.mask], wanted, atol=2e-3, rtol=0)
        flat = open_dataset(written, maps=("normals",), flat=True, normals_frame="camera")[6 * i + 2]
        torch.testing.assert_close(flat.normals, sample.normals[1])
        assert sample.normals[sample.mask][:, 2].mean() > 0.5
    assert open_dataset(written, maps=("depth",), normals_frame="camera")[0].normals is None
    with pytest.raises(ConfigError, match="normals_frame is 'view', expected 'world' or 'camera'"):
        open_dataset(written, normals_frame="view")


def test_a_single_name_is_no_sequence_of_maps(written: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"maps is 'colors', expected a sequence of names: maps=\('colors',\)"
    ):
        open_dataset(written, maps="colors")


def pair(image: DatasetImage) -> tuple[torch.Tensor, torch.Tensor]:
    """Colors and normals, channels first."""
    return image.colors.movedim(-1, 0) / 255, image.normals.movedim(-1, 0)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_shuffle_images(written: Path, context: str) -> None:
    images = open_dataset(written, maps=("colors",), flat=True)
    assert images[3].colors is not None  # opened here, before the workers start
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again[3].colors, images[3].colors)
    loader = DataLoader(images, batch_size=8, shuffle=True, num_workers=2, multiprocessing_context=context)
    seen = set()
    for batch in loader:
        assert batch.colors.shape[1:] == (16, 16, 3) and batch.depth is None
        assert batch.cameras.rotation.shape[1:] == (3, 3) and batch.lights.direction.shape[1:] == (3,)
        for k, key in enumerate(
            zip(batch.index.tolist(), batch.view.tolist(), batch.light.tolist(), strict=True)
        ):
            item = key[0] * 6 + key[1] * 2 + key[2]
            assert torch.equal(batch.colors[k], images[item].colors)
            seen.add(key)
    assert len(seen) == 30


def test_transforms(written: Path) -> None:
    images = open_dataset(written, maps=("colors", "normals"), flat=True, transform=pair)
    colors, normals = next(iter(DataLoader(images, batch_size=4)))
    assert colors.shape == (4, 3, 16, 16) and normals.shape == (4, 3, 16, 16) and colors.max() <= 1
    samples = open_dataset(written, maps=(), transform=lambda sample: sample.code)
    assert samples[1:][0].shape == (4,)


def test_a_damaged_image(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    path.write_bytes(written.read_bytes())
    with h5py.File(path) as h5:
        place = h5["colors"].id.get_chunk_info_by_coord((0, 1, 0, 0, 0, 0))
    with open(path, "r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)
    images = open_dataset(path, flat=True)
    assert images[0].colors is not None
    with pytest.raises(
        CorruptFile, match="damaged.h5: colors of sample 0 cannot be read .* write the file again"
    ):
        images[2]
