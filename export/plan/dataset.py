"""The plan of a dataset: everything that decides what stands in the file.

Sample i depends on (plan.seed, i) alone: not on the other samples, their order, or how often the run was
interrupted. Views and lights drawn for it are independent, then put in order, views by yaw and lights from
left to right, so that going through them turns the head and moves the light steadily. The order does not
change which are drawn; take them at random for training.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from lift3d import defaults
from lift3d.errors import ConfigError
from lift3d.export.hdf5.schema import MAPS
from lift3d.export.plan.latents import LatentModel, LatentPlan
from lift3d.export.plan.lights import LightPlan
from lift3d.export.plan.shard import Shard
from lift3d.export.plan.views import ViewPlan
from lift3d.model import Samples
from lift3d.renderers import RENDERERS
from lift3d.scene.cameras import Cameras, ViewPrior
from lift3d.scene.lights import LightPrior, Lights
from lift3d.seeds import dataset_seed
from lift3d.settings import check, setting, shown

SIZES = (16, 32, 64, 128, 256, 512, 1024)  # pixels
_STEP = (math.sqrt(5) - 1) / 2  # multiples of it, modulo 1, lie evenly in [0, 1), however many there are


@dataclass(frozen=True)
class DatasetPlan:
    """What a dataset contains."""

    n: int | None = None  # samples: instances; None: as many as ``latents`` has
    seed: int = setting(0, 0, 2**32 - 1, "of every random choice")
    views: ViewPlan | str | int = defaults.VIEWS  # a plan, its text, or a number; a plan from here on
    lights: LightPlan | str | int = defaults.LIGHTS  # likewise
    size: int = defaults.IMAGE_SIZE  # pixels, one of SIZES
    truncation: float | None = setting(None, 0, 1, "of the 2D GAN's latents; None: that of the model")
    maps: tuple[str, ...] | str = MAPS  # intrinsic maps to store; a string is refused
    gan: bool = False  # also store the renders projected through the 2D GAN
    meshes: str | int = defaults.MESH_FACES  # "none", "full", or how many faces a stored mesh has at most
    renderer: str = setting(defaults.RENDERERS[0], None, None, "how images are made", "", tuple(RENDERERS))
    mesh_resolution: int = setting(defaults.MESH_RESOLUTION, 16, 1024, "cells per axis of the marching cubes")
    latents: LatentPlan = LatentPlan()  # which instances
    split: tuple[float, ...] = ()  # shares of training, validation and test samples; (): no split
    shard: Shard | str = Shard()  # which of the samples stand in this file
    model: str = ""  # what identifies the model, e.g. its path or checksum

    def __post_init__(self) -> None:
        for name, kind in (("views", ViewPlan), ("lights", LightPlan), ("shard", Shard)):
            if not isinstance(value := getattr(self, name), kind):
                object.__setattr__(self, name, kind.parse(str(value)))
        object.__setattr__(self, "n", _count(self.n, self.latents))
        object.__setattr__(self, "meshes", _faces(self.meshes))
        self.shard.of(self.n)  # refuses empty ones
        check(self)
        if self.size not in SIZES:
            raise ConfigError(f"size is {self.size}, expected one of {', '.join(map(str, SIZES))}")
        if isinstance(self.maps, str):
            raise ConfigError(f"maps is {self.maps!r}, expected a sequence of names: maps=({self.maps!r},)")
        if unknown := sorted(set(self.maps) - set(MAPS)):
            raise ConfigError(f"maps: {', '.join(unknown)} unknown, expected some of {', '.join(MAPS)}")
        object.__setattr__(self, "maps", tuple(name for name in MAPS if name in self.maps))
        object.__setattr__(self, "split", tuple(map(float, self.split)))
        if self.split:
            _check_split(self.split)

    @property
    def numbers(self) -> range:
        """Numbers of the samples in this file; of all n where there are no shards."""
        return self.shard.of(self.n)

    def sample(self, model: LatentModel, i: int) -> Samples:
        """The instance of sample i [1]."""
        return self.latents.sample(model, i, self.seed, self.truncation)

    def draw(self, i: int, view_prior: ViewPrior, light_prior: LightPrior) -> tuple[Cameras, Lights]:
        """Cameras [V] and lights [L] of sample i."""
        own, views, lights = self._random(i), self._random(0, 1), self._random(0, 2)
        cameras = self.views.cameras(view_prior, views if self.views.shared else own)
        return cameras, self.lights.lights(light_prior, lights if self.lights.shared else own)

    def part(self, i: int) -> int:
        """Number of the part of the split that sample i belongs to: 0 training, 1 validation, 2 test.

        It depends on (seed, i) alone, and the first n samples have the shares of the split up to a few.
        """
        place = (dataset_seed(self.seed, 0) / 2**32 + (i + 1) * _STEP) % 1.0
        return int(np.searchsorted(np.cumsum(self.split[:2]), place, side="right"))

    def resolved(self, truncation: float) -> "DatasetPlan":
        """The plan with the truncation of a model, unless it has one."""
        return replace(self, truncation=truncation) if self.truncation is None else self

    def to_json(self) -> dict:
        """The plan as it stands in the file."""
        plans = ("views", "lights", "latents", "shard")
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: str(value) if name in plans else value for name, value in values.items()}

    def _random(self, *stream: int) -> torch.Generator:
        """Random numbers of a sample (i), or of what all samples share (0, k)."""
        state = np.random.SeedSequence((self.seed, *stream)).generate_state(1)[0]
        return torch.Generator().manual_seed(int(state))


def _count(n: int | None, latents: LatentPlan) -> int:
    """The number of samples."""
    if n is None and latents.n is None:
        raise ConfigError("n is not given, expected the number of samples, or latents that say it")
    if n is not None and latents.n not in (None, n):
        raise ConfigError(f"n is {n}, but {latents} has {latents.n} instances; leave n out")
    if (n := latents.n if n is None else n) <= 0:
        raise ConfigError(f"n is {n}, expected at least 1")
    return n


def _check_split(shares: tuple[float, ...]) -> None:
    if len(shares) != 3 or not min(shares) >= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ConfigError(
            f"split is {'/'.join(f'{x:g}' for x in shares)}, expected the shares of training, validation and "
            "test samples, which add up to 1, such as 0.8/0.1/0.1"
        )


def _faces(meshes: str | int | bool) -> str | int:
    """What is stored of meshes, as the plan keeps it; True stands for "full", False for "none"."""
    meshes = {True: "full", False: "none"}[meshes] if isinstance(meshes, bool) else meshes
    if isinstance(meshes, str) and meshes.isdecimal() and len(meshes) < 12:
        meshes = int(meshes)
    if meshes not in ("none", "full") and not (isinstance(meshes, int) and meshes >= 4):
        raise ConfigError(f"meshes is {shown(meshes)}, expected none, full or a number of faces, 4 or more")
    return meshes
