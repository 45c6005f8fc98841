"""The log of a run, one JSON object a line, and the meter that fills it.

Losses stay on their device until a line is due: reading each would make every step wait for the device."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from lift3d.errors import TrainingDiverged

DEAD_STEPS = 50  # steps without any gradient after which a loss counts as dead
REMEDY = "the last good checkpoint was kept"


class Log:
    """JSON lines in a file, or nowhere; a line that a killed run left half-written is removed."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None and path.exists():
            whole, _, torn = path.read_bytes().rpartition(b"\n")
            if torn:
                path.write_bytes(whole + b"\n" if whole else b"")

    def write(self, where: dict[str, int | str], values: dict[str, float]) -> None:
        """Appends one line; values are rounded to six digits."""
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({**where, **{k: float(f"{v:.6g}") for k, v in values.items()}}) + "\n")


class Meter:
    """Losses and norms of gradients since the last line of the log, and whether they are sound."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.pending: list[dict[str, Tensor]] = []  # of the steps that were not read yet
        self.first = 0  # number of the first of them
        self.sums: dict[str, float] = {}
        self.count = 0
        self.dead = 0  # steps without gradient so far

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Takes the losses of a step, "gradient" among them, and reads none."""
        if not self.pending:
            self.first = step
        self.pending.append({name: value.detach() for name, value in losses.items()})

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Inside, an operation that refuses what an earlier step has ruined is reported as that step's
        failure: losses are read late, so NaN parameters may be used before they are found.
        """
        try:
            yield
        except RuntimeError:
            self.settle()
            raise

    def settle(self) -> None:
        """Reads all pending steps at once. Raises ``TrainingDiverged`` where a total or a gradient is not
        finite, and when no parameter got a gradient for ``DEAD_STEPS`` steps.
        """
        if not self.pending:
            return
        values = iter(torch.stack([v.float() for step in self.pending for v in step.values()]).cpu().tolist())
        read = [{name: next(values) for name in step} for step in self.pending]
        self.pending = []
        last = self.first + len(read) - 1
        for losses in read:
            for name, label in (("total", "the loss"), ("gradient", "the gradient")):
                if not math.isfinite(losses[name]):
                    raise TrainingDiverged(
                        f"{self.title}, steps {self.first} to {last}: {label} is {losses[name]}; "
                        f"{REMEDY}: lower the learning rates, then --resume"
                    )
            self.dead = self.dead + 1 if losses["gradient"] == 0.0 else 0
            if self.dead == DEAD_STEPS:
                raise TrainingDiverged(
                    f"{self.title}, steps {self.first} to {last}: the loss is dead, no gradient for "
                    f"{DEAD_STEPS} steps; {REMEDY}: check the masks and the view prior"
                )
            for name, value in losses.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.count += 1

    def means(self) -> tuple[int, dict[str, float]]:
        """Number of steps since the last call, and means over all of them."""
        self.settle()
        count, means = self.count, {name: value / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return count, means
