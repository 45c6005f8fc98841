"""Runs a list of phases: Adam, resume, log, checkpoints, interruption.

A run directory holds ``state.safetensors`` (parameters, moments of Adam, random generator, position),
``collected.safetensors`` (what phases hand on), ``log.jsonl`` and ``progress.json``. A run that is killed and
resumed is bit for bit the uninterrupted one. The state is written at the end of every phase, after
``checkpoint_seconds`` and on SIGINT and SIGTERM, which wait for the current step; nothing is written that was
not found finite."""

import json
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from lift3d.checkpoint import copy_tensors, read_tensors, require_format, write_tensors
from lift3d.errors import ConfigError
from lift3d.interrupts import handling
from lift3d.networks.products import fast_products
from lift3d.observer import Observer
from lift3d.train.log import Log, Meter
from lift3d.train.phase import Phase, State, named
from lift3d.train.progress import LOG, PROGRESS, Progress
from lift3d.train.ranks import ALONE, Ranks

FORMAT = "lift3d.training/2"
STATE, COLLECTED = "state.safetensors", "collected.safetensors"
LOG_EVERY = 20  # steps
CHECKPOINT_SECONDS = 300.0


class Runner:
    """A run in a directory, or one that writes nothing (None). ``tensors`` are what trains and is saved,
    changed in place; ``settings``, of plain values, are stored, and a resume must have the same ones. Of
    several ``ranks`` each has a runner, and rank 0 writes; a resume may have another number of them.
    """

    def __init__(
        self,
        out: Path | None,
        tensors: Mapping[str, Tensor],
        settings: Mapping[str, object],
        rng: torch.Generator,
        observer: Observer,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        ranks: Ranks = ALONE,
    ) -> None:
        self.out, self.tensors, self.observer, self.ranks = out, tensors, observer, ranks
        self.settings = json.loads(json.dumps(settings))
        self.state = State(rng)
        self.checkpoint_seconds = checkpoint_seconds
        self.moments: dict[str, Tensor] = {}  # of Adam, after a resume within a phase
        self.deferring, self.received = False, 0  # signals
        self.log = Log(None)
        self.phases: Sequence[Phase] = ()
        self.rates: dict[str, float] = {}  # seconds a step of phases of a kind, or a phase without steps

    def begin(self, resume: bool) -> None:
        """Continues the run in the directory, or starts a new one there, which can be resumed from now on."""
        if resume:
            self._load()
        elif self.ranks.is_first:
            for name in (STATE, COLLECTED, LOG, PROGRESS):
                (self.out / name).unlink(missing_ok=True)
            self._save(None)
        self.ranks.wait()
        self.log = Log(self.out / LOG if self.ranks.is_first else None)

    def run(self, phases: Sequence[Phase]) -> None:
        """Runs what is left of the list. Raises ``TrainingDiverged`` (log.py) and, when interrupted,
        ``KeyboardInterrupt`` or, by SIGTERM, ``SystemExit`` with 143.
        """
        state, self.phases = self.state, phases
        with self._signals(), fast_products():
            while state.phase < len(phases):
                phase, since = phases[state.phase], time.monotonic()
                first = state.step
                self._show_progress()
                if phase.n_steps:
                    self._train(phase)
                if phase.collect is not None:
                    state.collected |= phase.collect(state)
                    self._keep_collected()
                if phase.report is not None and self.ranks.is_first:
                    values = phase.report(state)
                    if values:
                        self.log.write({**phase.where, "step": phase.n_steps}, values)
                        self.observer.message(", ".join(f"{k} {v:.3f}" for k, v in values.items()))
                if first < phase.n_steps or not phase.n_steps:
                    seconds = time.monotonic() - since
                    self.rates[phase.kind] = seconds / max(1, phase.n_steps - first)
                state.phase, state.step = state.phase + 1, 0
                self._save(None)
                if state.phase < len(phases):
                    self.observer.message(progress_of(phases, state, self.rates).left)
            self._show_progress()

    def _train(self, phase: Phase) -> None:
        """The steps of a phase that are left."""
        state, meter, positive, warned = self.state, Meter(phase.title), set(), set()
        parameters = [p for group in phase.groups for p in group.parameters]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = new_optimizer(phase, self.moments)
        self.moments = {}
        loss = phase.begin(state)
        self.observer.start(phase.title, phase.n_steps)
        self.observer.advance(state.step)
        saved = began = time.monotonic()
        first = state.step
        for step in range(state.step, phase.n_steps):
            self.deferring = True
            for group, own in zip(optimizer.param_groups, phase.groups, strict=True):
                group["lr"] = own.rate * phase.rate_factor(step)
            optimizer.zero_grad(set_to_none=True)
            with meter.blamed():
                losses = loss(step)
                losses["total"].backward()
                self.ranks.average(parameters)
                norm = nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
            meter.add(step, losses | {"gradient": norm})
            state.step = step + 1
            ended = state.step == phase.n_steps or (phase.until is not None and phase.until(step))
            if state.step % LOG_EVERY == 0 or ended:
                count, means = meter.means()
                self.log.write({**phase.where, "step": state.step}, means)
                self.observer.advance(count, **means)
                self.rates[phase.kind] = (time.monotonic() - began) / (state.step - first)
                self._show_progress()
                for name in sorted(n for n in positive - warned if means.get(n) == 0.0):
                    warned.add(name)
                    self.observer.message(f"{phase.title}, step {state.step}: {name} fell to exactly 0")
                positive |= {name for name, mean in means.items() if mean > 0}
            self.received = self.ranks.largest(self.received)
            due = time.monotonic() - saved >= self.checkpoint_seconds
            if phase.guard is not None and (state.step % LOG_EVERY == 0 or ended or due or self.received):
                phase.guard(phase.title)
            if self.received or (due and not ended):
                meter.settle()
                self._save(optimizer)
                saved = time.monotonic()
            self.deferring = False
            if self.received:
                self.observer.message(f"{phase.title}: stopped after step {state.step}, --resume continues")
                _stop(self.received)
            if ended:
                break
        self.observer.finish()
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None

    def _show_progress(self) -> None:
        if self.out is not None and self.ranks.is_first:
            progress_of(self.phases, self.state, self.rates).write(self.out)

    def _keep_collected(self) -> None:
        """On disk, from where the tensors are then read as they are needed: ranks share that memory."""
        if self.out is None:
            return
        if self.ranks.is_first:
            write_tensors(self.out / COLLECTED, self.state.collected, {"format": FORMAT})
        self.ranks.wait()
        self.state.collected = read_tensors(self.out / COLLECTED)[1]

    def _save(self, optimizer: torch.optim.Adam | None) -> None:
        if self.out is None or not self.ranks.is_first:
            return
        tensors = named("model", self.tensors) | {"rng": self.state.rng.get_state()}
        if optimizer is not None:
            for i, moments in optimizer.state_dict()["state"].items():
                tensors |= named(f"optimizer.{i}", moments)
        position = [self.state.phase, self.state.step]
        write_tensors(
            self.out / STATE, tensors, {"format": FORMAT, "settings": self.settings, "position": position}
        )

    def _load(self) -> None:
        """Raises ``CheckpointError`` for files of other formats, and ``ConfigError`` when the run was started
        with other settings.
        """
        path = self.out / STATE
        about, tensors = read_tensors(path)
        require_format(about, FORMAT, path, "start anew with --overwrite")
        then, now = about["settings"], self.settings
        differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        if differing:
            shown = ", ".join(_difference(name, then.get(name), now.get(name)) for name in differing)
            raise ConfigError(
                f"{self.out} was started with other settings ({shown}): resume with the same ones or pass "
                "--overwrite"
            )
        copy_tensors(self.tensors, tensors, "model.", path)
        self.state.rng.set_state(tensors["rng"])
        self.state.phase, self.state.step = about["position"]
        self.moments = {k: v for k, v in tensors.items() if k.startswith("optimizer.")}
        if (self.out / COLLECTED).exists():
            self.state.collected = read_tensors(self.out / COLLECTED)[1]

    def _signals(self):
        """SIGINT and SIGTERM wait for the current step, where there is one; a second one does not wait."""

        def receive(number: int, frame: FrameType | None) -> None:
            if self.received or not self.deferring:
                _stop(number)
            self.received = number

        return handling(receive, signal.SIGINT, signal.SIGTERM)


def new_optimizer(phase: Phase, moments: Mapping[str, Tensor]) -> torch.optim.Adam:
    """Adam over the groups of a phase, betas (0.9, 0.999), fused on a GPU. ``moments`` are named
    ``optimizer.<number of the parameter>.<name>``; they go to the devices of their parameters.
    """
    cuda = all(p.is_cuda for group in phase.groups for p in group.parameters)
    groups = [{"params": list(g.parameters), "lr": g.rate} for g in phase.groups]
    optimizer = torch.optim.Adam(groups, fused=True if cuda else None)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        _, i, moment = name.split(".")
        state.setdefault(int(i), {})[moment] = value.clone()  # the file's pages may not be written to
    if state:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return optimizer


def progress_of(phases: Sequence[Phase], state: State, rates: Mapping[str, float]) -> Progress:
    """Where a run of these phases stands; ``rates``: seconds a step, or a phase without steps, of each kind
    that was timed.
    """
    rest, steps, left = phases[state.phase :], [phase.n_steps for phase in phases], None
    if all(phase.kind in rates for phase in rest):
        left = sum(rates[p.kind] * max(1, p.n_steps) for p in rest)
        left -= rates[rest[0].kind] * state.step if rest else 0.0
    title, n_steps = (rest[0].title, rest[0].n_steps) if rest else ("", 0)
    share = (sum(steps[: state.phase]) + state.step) / max(1, sum(steps))
    return Progress(title, state.step, n_steps, share, left, not rest, time.time())


def _difference(name: str, then: object, now: object) -> str:
    return f"{name} {then}, now {now}" if isinstance(then, str) and isinstance(now, str) else name


def _stop(number: int) -> None:
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)
    raise KeyboardInterrupt
