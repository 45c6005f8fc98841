"""What a dataset will take, before it is written: bytes and time, measured on samples of its plan.

A trial writes some samples to a temporary file by the same way as the dataset. Their bytes scale with
the number of samples; those of numbers without pixels, which a file has from its first sample on, and of the
indices of chunks are computed.
"""

import math
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lift3d.errors import ConfigError
from lift3d.export.dataset import Model, dimensions_of, samples_at_once, specs_of, write_dataset
from lift3d.export.hdf5.reader import describe
from lift3d.export.hdf5.sample_file import index_bytes
from lift3d.export.hdf5.writer import PART_BYTES, PART_SECONDS
from lift3d.export.plan.dataset import DatasetPlan
from lift3d.export.plan.latents import LatentPlan
from lift3d.export.plan.shard import Shard
from lift3d.observer import SilentObserver

TRIAL = 3  # samples of each of those that are made at a time: the first warms up, the others are timed


@dataclass(frozen=True)
class Estimate:
    """What is left to do of a dataset."""

    samples: int
    images: int
    nbytes: int  # that the file still grows by
    peak: int  # bytes that must be free meanwhile: samples wait in parts until one file has them all
    free: int  # bytes on its disk
    memory: int  # bytes that this process has needed at most, with the trial
    sample_seconds: float

    @property
    def seconds(self) -> float:
        return self.samples * self.sample_seconds


def estimate(model: Model, plan: DatasetPlan, path: Path, resume: bool = False) -> Estimate:
    """Bytes and time that writing ``plan`` to ``path`` takes, on this machine; of a file that is resumed, for
    the samples that it lacks.
    """
    plan = plan.resolved(model.config.truncation)
    resumed = resume and path.exists()
    done, there = (describe(path).done, path.stat().st_size) if resumed else (0, 0)
    trial = replace(plan, n=TRIAL * samples_at_once(model), latents=LatentPlan(), shard=Shard())
    per_sample, fixed, seconds = _trial(model, trial)
    n, left = len(plan.numbers), len(plan.numbers) - done
    nbytes = _computed(model, plan, n) - _computed(model, plan, done) + round(left * per_sample)
    nbytes += 0 if done else fixed
    parts = nbytes if done or nbytes > PART_BYTES or left * seconds > PART_SECONDS else 0
    images = left * plan.views.n * plan.lights.n
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Estimate(left, images, nbytes, nbytes + parts + there, _free(path), memory, seconds)


def require_room(model: Model, plan: DatasetPlan, path: Path, resume: bool = False) -> None:
    """``ConfigError`` where the disk cannot hold the dataset. Nothing is measured where it could hold all
    arrays uncompressed.
    """
    plan = plan.resolved(model.config.truncation)
    if 3 * _uncompressed(model, plan) <= _free(path):
        return
    need = estimate(model, plan, path, resume)
    if need.peak > need.free:
        raise ConfigError(
            f"{path} would take about {need.peak / 1e9:.2f} GB, {need.free / 1e9:.2f} GB are free there: "
            "choose fewer samples, views, lights or maps, or --meshes none; --force starts all the same"
        )


def _trial(model: Model, plan: DatasetPlan) -> tuple[float, int, float]:
    """Bytes per sample, bytes of a file without samples, both besides what is computed, and seconds per
    sample.
    """
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.h5"
        write_dataset(model, replace(plan, n=1), Path(folder) / "one.h5")
        write_dataset(model, plan, path, clock)
        sizes = [file.stat().st_size for file in (Path(folder) / "one.h5", path)]
    computed = [_computed(model, replace(plan, n=n), n) for n in (1, plan.n)]
    one, all_of_them = (size - known for size, known in zip(sizes, computed, strict=True))
    per_sample = (all_of_them - one) / (plan.n - 1)
    warm = clock.times[samples_at_once(model) - 1 :]
    return per_sample, round(one - per_sample), (warm[-1] - warm[0]) / (len(warm) - 1)


class _Clock(SilentObserver):
    """When samples were finished."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def advance(self, n: int = 1, **values: float) -> None:
        self.times.append(time.perf_counter())


def _computed(model: Model, plan: DatasetPlan, n: int) -> int:
    """Bytes of the datasets without chunks and of the indices of chunks, when n samples are done."""
    lengths, total = dimensions_of(model, plan), 0
    for spec in specs_of(plan) if n else ():
        extent, chunk = spec.extent(lengths), spec.chunk(lengths)
        if chunk is None:
            total += math.prod(extent) * np.dtype(spec.dtype).itemsize
        elif spec.image:
            per_sample = math.prod(extent[1:]) // math.prod(chunk)
            total += index_bytes(n * per_sample, len(extent))
    return total


def _uncompressed(model: Model, plan: DatasetPlan) -> int:
    """Bytes of all arrays, meshes as large as they may be."""
    most = len(plan.numbers) * (plan.meshes if isinstance(plan.meshes, int) else 16 * plan.mesh_resolution**2)
    lengths = replace(dimensions_of(model, plan), vertices=most, faces=2 * most)
    return sum(math.prod(spec.extent(lengths)) * np.dtype(spec.dtype).itemsize for spec in specs_of(plan))


def _free(path: Path) -> int:
    """Bytes on the disk of a file that may not be there yet."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; make it, or choose another path")
    return shutil.disk_usage(folder).free
