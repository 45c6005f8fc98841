"""The optimization loop: the one place where optimizers step, non-finite values stop a run, and steps are
logged.

A *phase* (explore, align or exploit of one stage) trains some parameters with one Adam for a number of steps.
The loop is resumable at every step: parameters, Adam moments, the random generator and the step are all its
state."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lift3d.errors import TrainingDiverged
from lift3d.observer import Observer

Losses = dict[str, Tensor]  # named scalars; "total" is minimized, the others are logged
DEAD_STEPS = 50  # steps without any gradient after which a loss counts as dead
LOG_EVERY = 20  # steps
REMEDY = "the last good checkpoint was kept: lower the learning rates, then --resume"


@dataclass(frozen=True)
class Group:
    """Parameters with their learning rate."""

    parameters: Sequence[nn.Parameter]
    rate: float


class Log:
    """JSON lines: stage, phase, step and mean losses since the last line."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, losses: dict[str, float]) -> None:
        """Counts one step."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def flush(self, **where: object) -> dict[str, float]:
        """Writes and returns the means."""
        means = {name: value / self.count for name, value in self.sums.items()}
        if self.path is not None:
            with open(self.path, "a") as f:
                f.write(json.dumps({**where, **{k: float(f"{v:.6g}") for k, v in means.items()}}) + "\n")
        self.sums, self.count = {}, 0
        return means


def new_optimizer(groups: Sequence[Group]) -> torch.optim.Adam:
    """Adam over the groups, betas (0.9, 0.999)."""
    return torch.optim.Adam([{"params": list(g.parameters), "lr": g.rate} for g in groups])


def optimize(
    optimizer: torch.optim.Adam,
    loss: Callable[[int], Losses],
    first_step: int,
    n_steps: int,
    observer: Observer,
    log: Log,
    where: dict[str, object],
    checkpoint: Callable[[int], None],
    checkpoint_every: int,
    cooldown: float = 0.0,
) -> None:
    """Steps ``first_step`` .. ``n_steps`` - 1; ``checkpoint(step)`` is called with the number of finished
    steps.

    In the last ``cooldown`` of the steps, a fraction, learning rates fall linearly to 0. Raises
    ``TrainingDiverged`` on a non-finite loss or gradient, before the step is applied, and when no
    parameter gets a gradient for ``DEAD_STEPS`` steps."""
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    rates = [g["lr"] for g in optimizer.param_groups]
    dead = 0
    observer.start(f"stage {where['stage']} {where['phase']}", n_steps)
    observer.advance(first_step)
    for step in range(first_step, n_steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (n_steps - step) / max(1.0, cooldown * n_steps))
        optimizer.zero_grad(set_to_none=True)
        losses = loss(step)
        total = losses["total"]
        if not math.isfinite(total.item()):
            raise TrainingDiverged(f"{_place(where, step)}: the loss is {total.item()}; {REMEDY}")
        total.backward()
        norm = nn.utils.clip_grad_norm_(parameters, 1.0).item()
        if not math.isfinite(norm):
            raise TrainingDiverged(f"{_place(where, step)}: the gradient is not finite; {REMEDY}")
        dead = dead + 1 if norm == 0.0 else 0
        if dead == DEAD_STEPS:
            raise TrainingDiverged(
                f"{_place(where, step)}: the loss is dead, no gradient for {DEAD_STEPS} steps; "
                "the last good checkpoint was kept: check the masks and the view prior"
            )
        optimizer.step()
        log.add({name: value.item() for name, value in losses.items()} | {"gradient": norm})
        done = step + 1
        if done % LOG_EVERY == 0 or done == n_steps:
            observer.advance(log.count, **log.flush(**where, step=done))
        if done % checkpoint_every == 0 and done < n_steps:
            checkpoint(done)
    observer.finish()


def _place(where: dict[str, object], step: int) -> str:
    return f"stage {where['stage']}, {where['phase']}, step {step}"
