"""A sample on its way to another layout: its maps, cameras and lights as plain arrays."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from numpy import ndarray

from lift3d.export.hdf5.reader import DatasetSample
from lift3d.export.hdf5.schema import MAPS, SPECS
from lift3d.scene.mesh import Mesh

IMAGES = ("colors", "colors_gan", *MAPS)


@dataclass(frozen=True)
class Sample:
    """One instance under V views and L lights."""

    number: int  # in the dataset
    seed: int
    maps: dict[str, Shaped[ndarray, "v ..."]]  # those that are there; [v, l, h, w, ...] if they need a light
    cam2world: Float32[ndarray, "v 4 4"]  # OpenCV axes
    k: Float32[ndarray, "v 3 3"]  # pixels
    light_dir: Float32[ndarray, "l 3"]  # unit, to the light, world frame
    light_ambient: Float32[ndarray, " l"]
    light_diffuse: Float32[ndarray, " l"]
    light_negative: Float32[ndarray, " l"]
    mesh: Callable[[], Mesh]  # reads it; ``ConfigError`` where the file has none

    @staticmethod
    def of(sample: DatasetSample, mesh: Callable[[], Mesh]) -> "Sample":
        """What ``open_dataset`` gave."""
        maps = {name: getattr(sample, name) for name in IMAGES}
        lights = ("light_dir", "light_ambient", "light_diffuse", "light_negative")
        return Sample(
            number=int(sample.index),
            seed=int(sample.seed),
            maps={name: tensor.numpy() for name, tensor in maps.items() if tensor is not None},
            cam2world=sample.cam2world.numpy(),
            k=sample.intrinsics.numpy(),
            mesh=mesh,
            **{name: getattr(sample, name).numpy() for name in lights},
        )

    @property
    def name(self) -> str:
        """The sample in paths."""
        return f"{self.number:06d}"

    @property
    def size(self) -> int:
        """Pixels per side of the renders."""
        return self.maps["colors"].shape[2]

    @property
    def n_views(self) -> int:
        return len(self.cam2world)

    @property
    def n_lights(self) -> int:
        return len(self.light_dir)

    def mask(self, view: int) -> Bool[ndarray, "h w"]:
        """Where the object is; everywhere if the dataset has no masks."""
        if "mask" in self.maps:
            return self.maps["mask"][view]
        return np.ones((self.size, self.size), bool)

    def images(
        self, name: str, pixels: Shaped[ndarray, "v ..."]
    ) -> Iterator[tuple[int, int | None, ndarray]]:
        """View, light (None where the map needs none) and image, of an array of the map's layout."""
        for view, image in enumerate(pixels):
            if "light" in SPECS[name].axes:
                yield from ((view, light, lit) for light, lit in enumerate(image))
            else:
                yield view, None, image

    def light(self, i: int) -> dict[str, object]:
        """A light for JSON."""
        numbers = {n: float(getattr(self, f"light_{n}")[i]) for n in ("ambient", "diffuse", "negative")}
        return {"direction": self.light_dir[i].tolist(), **numbers}
