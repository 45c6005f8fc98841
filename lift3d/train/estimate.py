"""What a joint training will take on a device: time, memory and disk, from a few steps of every phase.

A trial runs the preset's own networks, batches and sizes for ``STEPS`` iterations of each phase in two short
stages, of which the second is timed, and re-renders and projects a few images. What grows with the number of
samples is computed: a stage keeps n m images with masks, and their projections with theirs.
"""

import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lift3d.checkpoint import read_tensors
from lift3d.config.schema import LearningRates, Preset, Schedule
from lift3d.errors import ConfigError
from lift3d.gan.files.load import LoadedGan
from lift3d.masks.sources import mask_source, with_masks
from lift3d.observer import Observer, SilentObserver
from lift3d.train.calibrate import SHAPES_PER_SAMPLE
from lift3d.train.data import SYNTHESIS_BATCH
from lift3d.train.joint import MODEL, pretrain
from lift3d.train.runner import COLLECTED, STATE

STEPS = 6  # timed iterations of a phase
STILL = 1e-9  # learning rates of the trial, the least that settings may have
N_SAMPLES = 2
N_UNLABELED = 64
IMAGES = {"re-rendering": "rerender", "projecting": "project"}  # tasks that count samples, not iterations


@dataclass(frozen=True)
class Cost:
    """A kind of work: how often, and how long each time."""

    kind: str
    count: int  # iterations, or images of "rerender", "project" and "mask"
    each: float  # seconds

    @property
    def seconds(self) -> float:
        """All together."""
        return self.count * self.each


@dataclass(frozen=True)
class Estimate:
    """What a training takes; ``device_bytes`` is 0 where the device is the CPU."""

    costs: tuple[Cost, ...]
    host_bytes: int  # at its peak; what is read from files as needed is not in it
    device_bytes: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """All together."""
        return sum(cost.seconds for cost in self.costs)


def estimate(
    preset: Preset,
    gan: LoadedGan,
    device: torch.device | str = "cpu",
    masks: str | Path | None = None,
    observer: Observer | None = None,
) -> Estimate:
    """Runs the trial; ``masks`` from elsewhere are taken to cost what the preset's do. Finding pseudo-labels
    is not in the time. Raises what ``pretrain`` raises.
    """
    if preset.joint is None:
        raise ConfigError(f"{preset.name} has no joint pre-training, so there is nothing to estimate")
    masks = masks if str(masks) in ("none", "auto") else None
    chosen = with_masks(preset, masks)
    schedule, m = chosen.joint, min(chosen.joint.n_rerendered, SYNTHESIS_BATCH)
    others = ("latent", "calibrate", "distill", "lean", "realign")
    few = {name: min(STEPS, getattr(schedule, name)) for name in others}
    short = replace(
        schedule, n_samples=N_SAMPLES, n_rerendered=m, n_stages=2,
        explore_first=STEPS, explore=STEPS, align=STEPS, exploit=STEPS, **few,
    )  # fmt: skip
    still = LearningRates(STILL, STILL, STILL, STILL)  # nothing is learned, so nothing diverges
    n_unlabeled = min(N_UNLABELED, chosen.n_unlabeled)
    trial = replace(chosen, joint=short, n_unlabeled=n_unlabeled, rates=still)
    watch = _Watch(observer or SilentObserver())
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        pretrain(trial, gan, folder, watch, device=device, masks=masks)
        sizes = {name: (Path(folder) / name).stat().st_size for name in (MODEL, STATE, COLLECTED)}
        images = read_tensors(Path(folder) / COLLECTED)[1]["projected.images"].flatten(0, 1)
        began = time.perf_counter()
        mask_source(chosen)(images, [""] * len(images))
        watch.each["mask"] = (time.perf_counter() - began) / len(images)
    unit = 1 if sys.platform == "darwin" else 1024  # of the peak that the system reports
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Estimate(
        tuple(_costs(schedule, watch, m)),
        host + stage_bytes(schedule) // 2,
        torch.cuda.max_memory_allocated(device) if cuda else 0,
        disk_bytes(schedule, sizes[MODEL], sizes[STATE]),
    )


def stage_bytes(schedule: Schedule) -> int:
    """Of the images of a stage: n m pseudo images and as many projections of three channels, and their masks.

    One half is in memory while it is made; then all of them are read from the disk as needed."""
    n = schedule.n_samples * schedule.n_rerendered
    n_calibrate = SHAPES_PER_SAMPLE * n if schedule.calibrate else 0
    return max(8 * n, 4 * n + 4 * n_calibrate) * schedule.size**2


def disk_bytes(schedule: Schedule, model: int, state: int) -> int:
    """Of a run's folder at its fullest, when the images of a stage take the place of those before: twice the
    images, a model per stage, and three times the state, whose moments of Adam are as large as what they
    belong to.
    """
    return 2 * stage_bytes(schedule) + (schedule.n_stages + 1) * model + 3 * state


def _costs(schedule: Schedule, watch: "_Watch", m: int) -> list[Cost]:
    s, n = schedule, schedule.n_samples * schedule.n_rerendered
    n_calibrations = (s.calibrate > 0) * (1 + (s.distill > 0))
    counts = {
        "explore": s.explore_first + (s.n_stages - 1) * s.explore,
        "rerender": n * (s.n_stages + n_calibrations * SHAPES_PER_SAMPLE + (s.realign > 0)),
        "latent": s.latent,
        "align": s.n_stages * s.align,
        "project": s.n_stages * n,
        "mask": s.n_samples + s.n_stages * n,
        "exploit": s.n_stages * s.exploit,
        "calibrate": n_calibrations * s.calibrate,
        "distill": s.distill,
        "lean": s.lean,
        "realign": s.realign,
    }
    # half of the iterations of the trial's first step 2 are "latent" ones, if there are any
    each = watch.each | {"latent": max(0.0, 2 * watch.first_align - watch.each["align"])}
    each |= {kind: each[kind] / m for kind in ("rerender", "project")}
    return [Cost(kind, count, each[kind]) for kind, count in counts.items() if count]


class _Watch(SilentObserver):
    """Times what the runner reports: seconds an iteration, or a sample, of the latest task of a kind."""

    def __init__(self, outer: Observer) -> None:
        self.outer, self.each, self.first_align = outer, {}, 0.0

    def start(self, task: str, total: int | None) -> None:
        """See ``Observer``."""
        self.kind = IMAGES.get(task, task.rpartition(", ")[2])
        self.total, self.began = total or 1, time.perf_counter()
        self.outer.message(f"trial: {task}")

    def finish(self) -> None:
        """See ``Observer``; the runner has read the losses, so the device has done what it was asked."""
        self.each[self.kind] = (time.perf_counter() - self.began) / self.total
        if self.kind == "align":
            self.first_align = self.first_align or self.each[self.kind]
