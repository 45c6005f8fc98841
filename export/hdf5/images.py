"""The images of a dataset one by one: an item per sample, view and light, which reads that image alone.

For training in random order: a whole sample is views x lights images, an item here is one. Values are those
of ``DatasetSample`` without the axes of views and lights.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from lift3d.export.hdf5 import reader
from lift3d.export.hdf5.file import reading
from lift3d.export.hdf5.schema import SPECS


@dataclass(frozen=True, repr=False)
class DatasetImage(reader.Stored):
    """One image, or a batch of them ("*b"). Maps not asked for are None."""

    index: Int64[Tensor, "*b"]  # number of the sample in the file
    view: Int64[Tensor, "*b"]
    light: Int64[Tensor, "*b"]
    seed: Int64[Tensor, "*b"]
    colors: UInt8[Tensor, "*b h w 3"] | None
    colors_gan: UInt8[Tensor, "*b g g 3"] | None
    albedo: UInt8[Tensor, "*b h w 3"] | None
    specular: Float32[Tensor, "*b h w"] | None
    shininess: Float32[Tensor, "*b h w"] | None
    diffuse_shading: Float32[Tensor, "*b h w"] | None
    specular_shading: Float32[Tensor, "*b h w"] | None
    depth: Float32[Tensor, "*b h w"] | None  # z-depth, world units
    normals: Float32[Tensor, "*b h w 3"] | None  # world frame, unless the camera's was asked for
    mask: Bool[Tensor, "*b h w"] | None
    cam2world: Float32[Tensor, "*b 4 4"]  # OpenCV axes
    intrinsics: Float32[Tensor, "*b 3 3"]  # pixels
    light_dir: Float32[Tensor, "*b 3"]  # from the surface to the light, world frame
    light_ambient: Float32[Tensor, "*b"]
    light_diffuse: Float32[Tensor, "*b"]
    light_negative: Float32[Tensor, "*b"]


_PLACES = ("sample", "view", "light")
_NOTHING = dict.fromkeys(field.name for field in fields(DatasetImage))


@dataclass(eq=False, repr=False)
class ImageDataset(Dataset[DatasetImage]):
    """The images of a dataset's samples; the light changes fastest, then the view.

    Items are given to ``transform`` if there is one. Workers may have a copy, as ``LiftedDataset``.
    """

    samples: "reader.LiftedDataset"
    n_views: int
    n_lights: int
    transform: Callable[..., Any] | None

    def __post_init__(self) -> None:
        self._fields: dict[str, tuple[str, list[str]]] = {}  # name in the file, axes with a place on them
        for field in _NOTHING:
            if (name := reader.FILE_NAMES.get(field, field)) in self.samples.names:
                self._fields[field] = name, [axis for axis in SPECS[name].axes.split(",") if axis in _PLACES]

    def __len__(self) -> int:
        return len(self.samples) * self.n_views * self.n_lights

    def __repr__(self) -> str:
        return f"ImageDataset({str(self.samples.path)!r}, {len(self)} images)"

    def __getitem__(self, item: int) -> DatasetImage | Any:
        """One image, or what ``transform`` makes of it."""
        if not -len(self) <= item < len(self):
            raise IndexError(f"image {item} of {len(self)}")
        rest, light = divmod(item % len(self), self.n_lights)
        sample, view = divmod(rest, self.n_views)
        place = {"sample": int(self.samples.indices[sample]), "view": view, "light": light}
        values = {
            field: self._tensor(name, tuple(place[axis] for axis in axes))
            for field, (name, axes) in self._fields.items()
        }
        numbers = {"index": place["sample"], "view": view, "light": light}
        image = DatasetImage(**_NOTHING | values | {name: torch.tensor(n) for name, n in numbers.items()})
        if self.samples.normals_frame == "camera":
            image = reader.with_normals_in_camera(image)
        return image if self.transform is None else self.transform(image)

    def _tensor(self, name: str, where: tuple[int, ...]) -> Tensor:
        if not SPECS[name].image:
            return self.samples.table(name)[where]
        with reading(f"{self.samples.path}: {name} of sample {where[0]}"):
            return reader.as_tensor(name, self.samples.array(name)[where])


default_collate_fn_map[DatasetImage] = reader.collate
