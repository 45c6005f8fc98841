"""A phase of a training as a value: what trains, on which loss, for how many steps, and what is collected
after.

A training is a list of phases for one runner (runner.py). A phase without steps only collects: re-rendering
and projection are such phases. What phases hand on is a dictionary of named tensors, ``State.collected``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Losses = dict[str, Tensor]  # named scalars; "total" is minimized, the others are logged
Step = Callable[[int], Losses]  # the losses of a step, by its number


@dataclass(frozen=True)
class Group:
    """Parameters with their learning rate."""

    parameters: Sequence[nn.Parameter]
    rate: float

    @staticmethod
    def of(rate: float, *networks: nn.Module) -> "Group":
        """All parameters of some networks."""
        return Group([p for network in networks for p in network.parameters()], rate)


@dataclass
class State:
    """Where a run stands: ``step`` steps of the phase number ``phase`` are done. With the parameters and the
    moments of Adam, that is everything an exact resume needs.
    """

    rng: torch.Generator
    phase: int = 0
    step: int = 0
    collected: dict[str, Tensor] = field(default_factory=dict)

    def of(self, name: str) -> dict[str, Tensor]:
        """What was collected as ``named`` so."""
        start = f"{name}."
        return {k.removeprefix(start): x for k, x in self.collected.items() if k.startswith(start)}


def named(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are collected: ``name.key``."""
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


@dataclass(frozen=True)
class Phase:
    """One Adam over some parameters for a number of steps, then what is collected and reported.

    ``begin`` is called once before the first step, also after a resume; it gets the state, may not draw from
    its generator, and returns the loss of a step. ``collect`` returns tensors that are added to the state's
    and kept on disk. ``report`` draws pictures and may return scalars for the log."""

    title: str  # for people: "stage 1 of 3, explore"
    kind: str  # phases of a kind take about the same time per step
    where: Mapping[str, int | str]  # what the lines of the log are marked with
    n_steps: int = 0
    groups: Sequence[Group] = ()
    begin: Callable[[State], Step] | None = None
    collect: Callable[[State], dict[str, Tensor]] | None = None
    report: Callable[[State], dict[str, float] | None] | None = None
    cooldown: float = 0.0  # last fraction of the steps, in which the rates fall linearly to 0
    until: Callable[[int], bool] | None = None  # asked after every step, by its number; True ends the phase
    guard: Callable[[str], None] | None = None  # called now and then with the title; may raise

    def rate_factor(self, step: int) -> float:
        """By which the learning rates of a step are multiplied."""
        return min(1.0, (self.n_steps - step) / max(1.0, self.cooldown * self.n_steps))
