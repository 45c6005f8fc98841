"""What a dataset will take, before it is written: bytes and time, measured on samples of its plan.

A trial writes ``TRIAL`` samples to a temporary file by the same way as the dataset. Their bytes scale with
the number of samples; what the file reserves beforehand, entries of chunks above all, is computed.
"""

import math
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lift3d.errors import ConfigError
from lift3d.export.dataset import Model, dimensions_of, specs_of, write_dataset
from lift3d.export.hdf5.layout import ChunkIndex
from lift3d.export.hdf5.reader import describe
from lift3d.export.plan.dataset import DatasetPlan
from lift3d.export.plan.latents import LatentPlan
from lift3d.export.plan.shard import Shard
from lift3d.observer import SilentObserver

TRIAL = 3  # samples: the first two warm up, the third is timed


@dataclass(frozen=True)
class Estimate:
    """What is left to do of a dataset."""

    samples: int
    images: int
    nbytes: int  # that the file still grows by
    free: int  # bytes on its disk
    sample_seconds: float

    @property
    def seconds(self) -> float:
        return self.samples * self.sample_seconds


def estimate(model: Model, plan: DatasetPlan, path: Path, resume: bool = False) -> Estimate:
    """Bytes and time that writing ``plan`` to ``path`` takes, on this machine; of a file that is resumed, for
    the samples that it lacks.
    """
    plan = plan.resolved(model.config.truncation)
    done = describe(path).done if resume and path.exists() else 0
    per_sample, fixed, seconds = _trial(model, replace(plan, n=TRIAL, latents=LatentPlan(), shard=Shard()))
    reserved = 0 if done else fixed + _reserved(model, plan)
    left = len(plan.numbers) - done
    images = left * plan.views.n * plan.lights.n
    return Estimate(left, images, reserved + round(left * per_sample), _free(path), seconds)


def require_room(model: Model, plan: DatasetPlan, path: Path, resume: bool = False) -> None:
    """``ConfigError`` where the disk cannot hold the dataset. Nothing is measured where it could hold all
    arrays uncompressed.
    """
    plan = plan.resolved(model.config.truncation)
    if _uncompressed(model, plan) <= _free(path):
        return
    need = estimate(model, plan, path, resume)
    if need.nbytes > need.free:
        raise ConfigError(
            f"{path} would take about {need.nbytes / 1e9:.2f} GB, {need.free / 1e9:.2f} GB are free there: "
            "choose fewer samples, views, lights or maps, or --meshes none; --force starts all the same"
        )


def _trial(model: Model, plan: DatasetPlan) -> tuple[float, int, float]:
    """Bytes per sample, bytes of the empty file besides what it reserves, and seconds of the last sample."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.h5"
        write_dataset(model, replace(plan, n=1), Path(folder) / "one.h5")
        write_dataset(model, plan, path, clock)
        sizes = [file.stat().st_size for file in (Path(folder) / "one.h5", path)]
    reserved = [_reserved(model, replace(plan, n=n)) for n in (1, plan.n)]
    one, all_of_them = (size - taken for size, taken in zip(sizes, reserved, strict=True))
    per_sample = (all_of_them - one) / (plan.n - 1)
    return per_sample, round(one - per_sample), clock.times[1] - clock.times[0]


class _Clock(SilentObserver):
    """When samples were finished."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def advance(self, n: int = 1, **values: float) -> None:
        self.times.append(time.perf_counter())


def _reserved(model: Model, plan: DatasetPlan) -> int:
    """Bytes of the entries of all chunks, and of datasets without chunks."""
    lengths, total = dimensions_of(model, plan), 0
    for spec in specs_of(plan):
        extent, chunk, itemsize = spec.extent(lengths), spec.chunk(lengths), np.dtype(spec.dtype).itemsize
        total += ChunkIndex.over(extent, chunk, itemsize, 0).nbytes if chunk else math.prod(extent) * itemsize
    return total


def _uncompressed(model: Model, plan: DatasetPlan) -> int:
    """Bytes of all arrays, meshes as large as they may be."""
    lengths = dimensions_of(model, plan)
    return sum(math.prod(spec.extent(lengths)) * np.dtype(spec.dtype).itemsize for spec in specs_of(plan))


def _free(path: Path) -> int:
    """Bytes on the disk of a file that may not be there yet."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; make it, or choose another path")
    return shutil.disk_usage(folder).free
