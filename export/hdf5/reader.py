"""Read ``faces.h5``: a PyTorch dataset of its done samples, and what ``lift3d info`` says of a file.

Values are as stored (schema.py), except that half-precision maps become float32 and the mask bool. Colors
stay uint8, display-referred sRGB. A batch has the batch axis first: ``DataLoader(open_dataset(path),
batch_size=4)`` works.
"""

import bisect
import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, overload

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from lift3d.errors import ConfigError
from lift3d.export.hdf5.file import dataset_names, open_file, open_h5, parsed, read_array, reading, text
from lift3d.export.hdf5.schema import MAPS, MESH_ARRAYS, SPLIT
from lift3d.render.maps import Maps
from lift3d.scene.batch import Batch, stack
from lift3d.scene.cameras import AXES, Cameras
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh

FILE_NAMES = {"intrinsics": "cam_K"}  # where Python's name differs from the file's
FRAMES = ("world", "camera")  # of normals: the camera's has x right, y up, z towards the camera


class Stored(Batch):
    """Views and lights as a file has them."""

    @property
    def cameras(self) -> Cameras:
        """The cameras, as ``lift3d.scene.cameras`` has them."""
        k = self.intrinsics.reshape(-1, 3, 3)[0]
        fov = 2 * torch.atan(k[1, 2] / k[1, 1]).rad2deg().item()
        rotation = (self.cam2world[..., :3, :3] * self.cam2world.new_tensor(AXES["opencv"])).mT
        return Cameras(rotation, -(rotation @ self.cam2world[..., :3, 3:])[..., 0], fov)

    @property
    def lights(self) -> Lights:
        """The lights."""
        return Lights(self.light_dir, self.light_ambient, self.light_diffuse, self.light_negative)


@dataclass(frozen=True, repr=False)
class DatasetSample(Stored):
    """One instance under V views and L lights, or a batch of them ("*b"). Maps not asked for are None."""

    index: Int64[Tensor, "*b"]  # number of the sample in the file
    seed: Int64[Tensor, "*b"]
    colors: UInt8[Tensor, "*b v l h w 3"] | None
    colors_gan: UInt8[Tensor, "*b v l g g 3"] | None
    albedo: UInt8[Tensor, "*b v h w 3"] | None
    specular: Float32[Tensor, "*b v h w"] | None
    shininess: Float32[Tensor, "*b v h w"] | None
    diffuse_shading: Float32[Tensor, "*b v l h w"] | None
    specular_shading: Float32[Tensor, "*b v l h w"] | None
    depth: Float32[Tensor, "*b v h w"] | None  # z-depth, world units
    normals: Float32[Tensor, "*b v h w 3"] | None  # world frame, unless the camera's was asked for
    mask: Bool[Tensor, "*b v h w"] | None
    cam2world: Float32[Tensor, "*b v 4 4"]  # OpenCV axes
    intrinsics: Float32[Tensor, "*b v 3 3"]  # pixels
    light_dir: Float32[Tensor, "*b l 3"]  # from the surface to the light, world frame
    light_ambient: Float32[Tensor, "*b l"]
    light_diffuse: Float32[Tensor, "*b l"]
    light_negative: Float32[Tensor, "*b l"]
    latent_z: Float32[Tensor, "*b n_z"]
    latent_w: Float32[Tensor, "*b n_w"]
    code: Float32[Tensor, "*b n_c"]
    gan_image: UInt8[Tensor, "*b g g 3"]
    gan_view: Float32[Tensor, "*b 6"]
    gan_light: Float32[Tensor, "*b 5"]

    @property
    def maps(self) -> Maps:
        """All maps, as ``model.render`` returns them: colors and albedo from 0 to 1. Raises ``ConfigError``
        where one is missing.
        """
        maps = {field.name: getattr(self, field.name) for field in fields(Maps)}
        if missing := [name for name, tensor in maps.items() if tensor is None]:
            words = ", ".join(missing)
            raise ConfigError(f"{words} were not read: open a dataset that has them, without maps=")
        return Maps(**{name: x / 255 if x.dtype == torch.uint8 else x for name, x in maps.items()})


@dataclass(frozen=True)
class DatasetInfo:
    """One HDF5 dataset of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: str
    units: str
    nbytes: int  # as stored


@dataclass(frozen=True)
class FileInfo:
    """What ``lift3d info`` shows of a file."""

    path: Path
    format_version: int
    generator: str
    created: str
    license: str
    config: dict  # parsed JSON: "plan" and "model"
    planned: int
    done: int
    nbytes: int
    datasets: tuple[DatasetInfo, ...]


def describe(path: Path) -> FileInfo:
    """What is in a file."""
    with open_file(path) as h5, reading(f"{path}: its header"):
        datasets = tuple(_dataset_info(name, h5[name]) for name in dataset_names(h5))
        return FileInfo(
            path=Path(path),
            format_version=int(h5.attrs["format_version"]),
            config=parsed(path, h5.attrs["config"]),
            planned=len(h5["done"]),
            done=int(h5["done"][:].sum()),
            nbytes=os.path.getsize(path),
            datasets=datasets,
            **{name: text(h5, path, name) for name in ("generator", "created", "license")},
        )


def _dataset_info(name: str, dataset: h5py.Dataset) -> DatasetInfo:
    words = (str(dataset.attrs.get(key, "")) for key in ("axes", "units"))
    return DatasetInfo(name, dataset.shape, str(dataset.dtype), *words, dataset.id.get_storage_size())


@dataclass(eq=False, repr=False)
class LiftedDataset(Dataset[DatasetSample]):
    """The done samples of a file. It is opened on first use in every process, so workers can have a copy.

    Samples are given to ``transform`` if there is one, with normals in the frame ``normals_frame``.
    """

    path: Path
    indices: NDArray[np.int64]
    names: tuple[str, ...]
    normals_frame: str = "world"
    transform: Callable[[DatasetSample], Any] | None = None

    def __post_init__(self) -> None:
        self._open: tuple[int, h5py.File] | None = None  # process id, file
        self._arrays: dict[str, h5py.Dataset] = {}  # of the open file, by name
        self._tables: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"LiftedDataset({str(self.path)!r}, {len(self)} samples)"

    @overload
    def __getitem__(self, item: int) -> DatasetSample: ...
    @overload
    def __getitem__(self, item: slice) -> "LiftedDataset": ...
    def __getitem__(self, item: int | slice) -> "DatasetSample | LiftedDataset":
        """A sample, or a dataset of some of the samples."""
        if isinstance(item, slice):
            return replace(self, indices=self.indices[item])
        index = int(self.indices[item])
        values = {field.name: self._tensor(field.name, index) for field in fields(DatasetSample)}
        sample = DatasetSample(**values | {"index": torch.tensor(index)})
        if self.normals_frame == "camera":
            sample = with_normals_in_camera(sample)
        return sample if self.transform is None else self.transform(sample)

    def places(self, numbers: Sequence[int] | None = None) -> list[int]:
        """Where the samples of these numbers in the file stand, each once; all of them by default.

        Raises ``ConfigError`` where there is no sample, and for numbers that are not there or not done.
        """
        place = {number: i for i, number in enumerate(self.indices.tolist())}
        with open_file(self.path) as h5:
            done = h5["done"][:]
        if not place:
            raise ConfigError(f"{self.path} has no finished sample here; lift3d sample --resume finishes it")
        for number in place if numbers is None else numbers:
            if not 0 <= number < len(done):
                raise ConfigError(f"{self.path} has no sample {number}, expected 0 to {len(done) - 1}")
            if number not in place and done[number]:
                raise ConfigError(f"sample {number} of {self.path} is not in the part that was asked for")
            if number not in place:
                raise ConfigError(
                    f"sample {number} of {self.path} is not finished; lift3d sample --resume finishes it"
                )
        return list(place.values()) if numbers is None else [place[n] for n in dict.fromkeys(numbers)]

    def mesh(self, item: int) -> Mesh:
        """The mesh of a sample."""
        h5, index = self._file(), int(self.indices[item])
        if "meshes" not in h5:
            raise ConfigError(f"{self.path} has no meshes; lift3d sample stores them: write it again")
        return Mesh(**{name.removeprefix("meshes/"): read_array(h5, name, index) for name in MESH_ARRAYS})

    def show(self, *items: int) -> object:
        """The share page of these samples (by default the first), which a notebook draws inline:
        ``lift3d.show``.
        """
        from lift3d import show

        return show(self, *items)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": None, "_arrays": {}, "_tables": {}}

    def array(self, name: str) -> h5py.Dataset:
        """An HDF5 dataset of the file, looked up once in every process, as that takes as long as reading."""
        h5 = self._file()
        if name not in self._arrays:
            with reading(f"{self.path}: {name}"):
                self._arrays[name] = h5[name]
        return self._arrays[name]

    def table(self, name: str) -> Tensor:
        """Numbers of all samples that come without pixels, such as cameras, read once in every process."""
        array = self.array(name)
        if name not in self._tables:
            with reading(f"{self.path}: {name}"):
                self._tables[name] = as_tensor(name, array[:])
        return self._tables[name]

    def _file(self) -> h5py.File:
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), open_h5(self.path)
            self._arrays, self._tables = {}, {}
        return self._open[1]

    def _tensor(self, field: str, index: int) -> Tensor | None:
        name = FILE_NAMES.get(field, field)
        return as_tensor(name, read_array(self._file(), name, index)) if name in self.names else None


def as_tensor(name: str, array: NDArray) -> Tensor:
    """What the file stores, in the dtypes of ``DatasetSample``."""
    tensor = torch.from_numpy(array.astype(bool) if name == "mask" else array)
    return tensor.float() if tensor.dtype == torch.float16 else tensor  # faster than NumPy's


Views = TypeVar("Views")  # DatasetSample, or DatasetImage


def with_normals_in_camera(one: Views) -> Views:
    """The same with normals in the frames of the cameras (``FRAMES``)."""
    if one.normals is None:
        return one
    turn = one.cam2world[..., :3, :3] * one.cam2world.new_tensor(AXES["opencv"])
    return replace(one, normals=one.normals @ turn[..., None, :, :])


class Shards(ConcatDataset):
    """The samples of several files, one file after the other, with all that those of one file can."""

    def __repr__(self) -> str:
        return f"Shards({self.datasets})"

    @property
    def indices(self) -> NDArray[np.int64]:
        """Numbers of the samples, each in its file."""
        return np.concatenate([part.indices for part in self.datasets])

    @property
    def names(self) -> tuple[str, ...]:
        """Datasets that are read, as in the first file."""
        return self.datasets[0].names

    def __getitem__(self, item: int | slice) -> Any:
        """A sample, or a dataset of some of the samples."""
        if not isinstance(item, slice):
            return super().__getitem__(item)
        wanted = range(len(self))[item]
        firsts = (0, *self.cumulative_sizes[:-1])
        pairs = list(zip(firsts, self.datasets, strict=True))[:: -1 if wanted.step < 0 else 1]
        parts = []
        for first, part in pairs:
            own = [i - first for i in wanted if first <= i < first + len(part)]
            if own:
                end = own[-1] + wanted.step
                parts.append(part[own[0] : end if end >= 0 else None : wanted.step])
        return Shards(parts) if parts else self.datasets[0][:0]

    def mesh(self, item: int) -> Mesh:
        """The mesh of a sample."""
        item = range(len(self))[item]
        k = bisect.bisect_right(self.cumulative_sizes, item)
        return self.datasets[k].mesh(item - (self.cumulative_sizes[k - 1] if k else 0))


def open_dataset(
    path: Path | str | Sequence[Path | str], maps: Sequence[str] | None = None, split: str | None = None,
    flat: bool = False, normals_frame: str = "world", transform: Callable[..., Any] | None = None,
) -> "LiftedDataset | Dataset":  # fmt: skip
    """The done samples of ``path``, a PyTorch dataset. Several files, given as a list or by a pattern such as
    "faces-*.h5", are read one after the other.

    Of the images (``colors`` too) only ``maps`` are read, by default all. ``split`` takes the samples of one
    part: "train", "val" or "test". ``flat`` gives an item per image, a sample seen from one view under one
    light, instead of one per sample. Normals are in the world's frame or, on request, in the camera's: x
    right, y up, z towards the camera. Items are given to ``transform``.
    """
    if isinstance(maps, str):
        raise ConfigError(f"maps is {maps!r}, expected a sequence of names: maps=({maps!r},)")
    if normals_frame not in FRAMES:
        raise ConfigError(f"normals_frame is {normals_frame!r}, expected {' or '.join(map(repr, FRAMES))}")
    images = ("colors", "colors_gan", *MAPS)
    if len(files := _files(path)) > 1:
        return Shards([open_dataset(file, maps, split, flat, normals_frame, transform) for file in files])
    with open_file(path := files[0]) as h5:
        present = dataset_names(h5)
        if unknown := set(maps or ()) - {name for name in present if name in images}:
            choices = ", ".join(name for name in present if name in images)
            raise ConfigError(f"maps: {sorted(unknown)} are not in {path}; it has {choices}")
        names = tuple(name for name in present if name not in images or maps is None or name in maps)
        with reading(f"{path}: done"):
            chosen = np.flatnonzero(h5["done"][:] & _in_part(h5, split))
        if not flat:
            return LiftedDataset(Path(path), chosen, names, normals_frame, transform)
        from lift3d.export.hdf5.images import ImageDataset  # which is made of what is above

        samples = LiftedDataset(Path(path), chosen, names, normals_frame)
        return ImageDataset(samples, *h5["colors"].shape[1:3], transform)


def _files(path: Path | str | Sequence[Path | str]) -> list[Path]:
    """The files that a path, a pattern or a list of them stands for."""
    if not isinstance(path, Path | str):
        files = [file for one in path for file in _files(one)]
        if not files:
            raise ConfigError("the list of files is empty, expected paths of datasets that lift3d wrote")
        return files
    if Path(path).exists() or not glob.has_magic(str(path)):
        return [Path(path)]
    if not (found := sorted(glob.glob(str(path)))):
        raise ConfigError(f"no file matches {path}; give the path of a dataset that lift3d wrote")
    return [Path(file) for file in found]


def _in_part(h5: h5py.File, split: str | None) -> NDArray[np.bool_]:
    """Which samples are in a part of the split."""
    if split is None:
        return np.ones(len(h5["done"]), bool)
    if split not in SPLIT:
        raise ConfigError(f"split is {split!r}, expected one of {', '.join(SPLIT)}")
    if "split" not in h5:
        raise ConfigError(f"{h5.filename} has no split; lift3d sample --split 0.8/0.1/0.1 writes one")
    return h5["split"][:] == SPLIT.index(split)


def collate(batch: Sequence[Views], **_: object) -> Views:
    """Items -> one item with a batch axis; what ``DataLoader`` uses unless told otherwise."""
    return stack(batch)


default_collate_fn_map[DatasetSample] = collate
