"""Make a dataset: plan -> render -> write -> resume.

A plan is everything that decides what stands in the file. Sample i depends on (plan.seed, i) alone: not on the other
samples, their order, or how often the run was interrupted. Its views and lights are independent draws from the
model's priors, then put in order, views by yaw and lights by l_x, so that going through them turns the head and moves
the light steadily. The order does not change which views and lights are drawn; take them at random for training.

Storage decides the colours: albedo is rounded to 8 bits and the shading factors to half precision first, and the
colours are computed from the rounded values. What is stored therefore fulfils

    colors / 255 = clip(albedo / 255 * diffuse_shading + specular_shading, 0, 1)      inside the mask

up to half a code value, the rounding of the colours themselves; they differ from the renderer's by one more at most.
"""

import datetime
import json
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lift3d import __version__
from lift3d.cameras import Cameras, ViewPrior, intrinsics
from lift3d.color import to_uint8
from lift3d.errors import ConfigError, Lift3DError
from lift3d.export.hdf5_reader import describe, open_dataset
from lift3d.export.hdf5_schema import MAPS, MESH_ARRAYS, MESH_ROWS, Dimensions, stored
from lift3d.export.hdf5_writer import DatasetWriter, create
from lift3d.lights import LightPrior, Lights
from lift3d.mesh import Mesh
from lift3d.observer import Observer, SilentObserver

SIZES = (16, 32, 64, 128, 256, 512, 1024)  # pixels
RENDERERS = ("mesh", "neus")
PIXELS_AT_ONCE = 1 << 24  # of all views and lights in one call of the renderer
GAN_IMAGES_AT_ONCE = 8


@dataclass(frozen=True)
class DatasetPlan:
    """What a dataset contains."""

    n: int  # samples: people
    seed: int = 0  # 0..2^32-1
    views: int = 6  # per sample
    lights: int = 4  # per sample
    size: int = 128  # pixels, one of SIZES
    truncation: float = 0.7  # of the 2D GAN's latents, 0..1
    maps: tuple[str, ...] = MAPS  # intrinsic maps to store
    gan: bool = False  # also store the renders projected through the 2D GAN
    meshes: bool = True  # also store the meshes
    renderer: str = "mesh"  # one of RENDERERS
    mesh_resolution: int = 128  # cells per axis of the marching cubes, 16..1024
    model: str = ""  # what identifies the model, e.g. its path or checksum

    def __post_init__(self) -> None:
        for name in ("n", "views", "lights"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.size not in SIZES:
            raise ConfigError(f"size is {self.size}, expected one of {', '.join(map(str, SIZES))}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed is {self.seed}, expected 0 to 2^32 - 1")
        if not 0.0 <= self.truncation <= 1.0:
            raise ConfigError(f"truncation is {self.truncation}, expected 0 (always the mean) to 1 (none)")
        if self.renderer not in RENDERERS:
            raise ConfigError(f"renderer is {self.renderer!r}, expected one of {', '.join(RENDERERS)}")
        if not 16 <= self.mesh_resolution <= 1024:
            raise ConfigError(f"mesh_resolution is {self.mesh_resolution}, expected 16 to 1024")
        if unknown := sorted(set(self.maps) - set(MAPS)):
            raise ConfigError(f"maps: {', '.join(unknown)} unknown, expected some of {', '.join(MAPS)}")
        object.__setattr__(self, "maps", tuple(name for name in MAPS if name in self.maps))

    def gan_seed(self, i: int) -> int:
        """Seed of sample i for the GAN: i itself if the plan's seed is 0; other seeds start far away (golden ratio).

        32 bits, because torch's CPU generator uses no more.
        """
        return (self.seed * 2654435769 + i) % 2**32

    def draw(self, i: int, view_prior: ViewPrior, light_prior: LightPrior) -> tuple[Tensor, Tensor]:
        """Views [V, 6] by yaw and lights [L, 5] by l_x of sample i (module docstring)."""
        state = np.random.SeedSequence((self.seed, i)).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(state))
        views = view_prior.sample(self.views, generator)
        lights = light_prior.sample(self.lights, generator)
        return views[views[:, 1].argsort()], lights[lights[:, 2].argsort()]


class Model(Protocol):
    """What a dataset needs of ``LiftedGAN``; the annotations there are narrower."""

    config: object  # has to_json()
    view_prior: ViewPrior
    light_prior: LightPrior
    background: tuple[float, float, float]
    license: str

    def sample(self, seeds: Sequence[int], truncation: float = 0.7): ...

    def mesh(self, code: Tensor, resolution: int = 128) -> Mesh: ...

    def render(self, code: Tensor, views: Tensor, lights: Tensor, size: int, renderer: str, mesh: Mesh | None): ...

    def project(self, w: Tensor, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class PhaseSeconds:
    """Where the time of a run went. ``render`` to ``wait`` are the caller's; the rest runs beside them."""

    render: float  # sampling, meshes, images
    project: float  # through the GAN
    wait: float  # for the phases below
    deflate: float  # summed over threads
    commit: float  # writing and syncing


@dataclass(frozen=True)
class WriteReport:
    """What a run wrote."""

    path: Path
    samples: int  # written by this run
    images: int  # colour images among them
    done: int  # samples in the file
    planned: int
    seconds: float
    phases: PhaseSeconds
    interrupted: bool  # by Ctrl-C

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0


def write_dataset(
    model: Model,
    plan: DatasetPlan,
    path: Path | str,
    observer: Observer | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> WriteReport:
    """Write the samples of ``plan`` that ``path`` lacks.

    Whatever stops the run, the file stays valid and ``resume`` continues it. Ctrl-C is no error: the samples on their
    way are finished and the report says ``interrupted``.
    """
    path, observer, start = Path(path), observer or SilentObserver(), time.perf_counter()
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume contradict each other; give one of them")
    if path.exists() and not overwrite:
        if not resume:
            raise ConfigError(f"{path} exists; --resume continues it, --overwrite replaces it")
        _check_same(model, plan, path)
    else:
        _create(model, plan, path)
    run = _Run(model, plan, DatasetWriter(path))
    before = int(run.writer.done.sum())
    if before:
        observer.message(f"{path}: {before} of {plan.n} samples are there already")
    interrupted = False
    observer.start("samples", plan.n - before)
    try:
        run.write_missing(observer)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        run.writer.close()
        observer.finish()
    done, seconds = int(run.writer.done.sum()), run.writer.seconds
    return WriteReport(
        path=path,
        samples=done - before,
        images=(done - before) * plan.views * plan.lights,
        done=done,
        planned=plan.n,
        seconds=time.perf_counter() - start,
        phases=PhaseSeconds(run.render, run.project, run.wait + seconds.wait, seconds.deflate, seconds.commit),
        interrupted=interrupted,
    )


class _Run:
    """Renders the missing samples; one thread turns renders into stored arrays while the next sample is rendered."""

    def __init__(self, model: Model, plan: DatasetPlan, writer: DatasetWriter) -> None:
        self.model, self.plan, self.writer = model, plan, writer
        self.render = self.project = self.wait = 0.0  # seconds

    def write_missing(self, observer: Observer) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as background:
            pending: Future | None = None
            for i in np.flatnonzero(~self.writer.done):
                arrays = self._sample(int(i), background)
                if pending:
                    self._wait_for(pending)
                    observer.advance()
                pending = background.submit(lambda i=int(i), arrays=arrays: self.writer.write(i, _joined(arrays)))
            if pending:
                self._wait_for(pending)
                observer.advance()

    def _wait_for(self, pending: Future) -> None:
        start = time.perf_counter()
        pending.result()
        self.wait += time.perf_counter() - start
