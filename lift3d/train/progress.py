"""Where a run stands: a small file in its folder, which others may read while it goes on; the latest losses
of every phase, and pictures."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lift3d.errors import ConfigError, CorruptFile

PROGRESS, LOG = "progress.json", "log.jsonl"


@dataclass(frozen=True)
class Progress:
    """Where a run stood at a ``time``, seconds since 1970."""

    title: str  # of the phase
    step: int  # steps of the phase that are done
    n_steps: int  # all of them; 0 for a phase that only collects
    share: float  # of all steps of the run that are done
    seconds_left: float | None  # None until every kind of phase was timed
    finished: bool
    time: float

    def write(self, folder: Path) -> None:
        """Into the folder of the run; a reader sees the old file or the new one."""
        partial = folder / f".{PROGRESS}.partial"
        partial.write_text(json.dumps(asdict(self)))
        os.replace(partial, folder / PROGRESS)

    @property
    def left(self) -> str:
        """For people: how much is done, and what is left."""
        left = "" if self.seconds_left is None else f", about {_span(self.seconds_left)} left"
        return f"{self.share:.0%} of all steps done{left}"

    def sentence(self, now: float | None = None) -> str:
        """For people: the phase, how much is done, what is left, how old the news is."""
        if self.finished:
            return "finished"
        step = f", step {self.step:,} of {self.n_steps:,}" if self.n_steps else ""
        age = (time.time() if now is None else now) - self.time
        return f"{self.title}{step}; {self.left}; as of {_span(age)} ago"


@dataclass(frozen=True)
class Run:
    """A run as its folder shows it."""

    progress: Progress
    losses: tuple[dict[str, int | float | str], ...]  # the latest line of the log of every kind of phase
    pictures: tuple[Path, ...]  # the latest first


def read_run(folder: Path) -> Run:
    """Reads the folder of a run. ``ConfigError`` where it is none, ``CorruptFile`` for damaged files."""
    path = folder / PROGRESS
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no {PROGRESS}; give a folder that `lift3d pretrain` or `lift3d finetune` writes"
        )
    try:
        progress = Progress(**json.loads(path.read_text()))
        lines = (folder / LOG).read_text().splitlines(keepends=True) if (folder / LOG).exists() else []
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        latest = {entry["phase"]: entry for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptFile(f"{folder} holds a damaged {PROGRESS} or {LOG}: {error}") from error
    pictures = sorted(folder.glob("*.png"), key=lambda picture: picture.stat().st_mtime, reverse=True)
    return Run(progress, tuple(latest.values()), tuple(pictures))


def _span(seconds: float) -> str:
    """A length of time in the unit that fits it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and size < 86400):
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
