"""The runner knows no training: three dummy phases are killed, interrupted, poisoned and resumed."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lift3d.errors import CheckpointError, ConfigError, CorruptFile, TrainingDiverged
from lift3d.observer import SilentObserver
from lift3d.train import runner as module
from lift3d.train.log import DEAD_STEPS, Log
from lift3d.train.phase import Group, Phase, State
from lift3d.train.runner import COLLECTED, LOG, STATE, Runner, new_optimizer

SETTINGS = {"seed": 0, "distance": "a"}


class Stop(Exception):
    """Ends a run from inside, as a kill would."""


class Notes(SilentObserver):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


class Toy:
    """Two weights, a list of three phases, and a hook that is called in every step."""

    def __init__(self, out: Path, hook=lambda phase, step: None, seconds: float = 0.0, settings=SETTINGS):
        torch.manual_seed(0)
        self.net = torch.nn.Linear(3, 2).requires_grad_(False)
        self.hook, self.notes = hook, Notes()
        out.mkdir(exist_ok=True)
        rng = torch.Generator().manual_seed(1)
        self.runner = Runner(out, self.net.state_dict(), settings, rng, self.notes, seconds)

    def phases(self) -> list[Phase]:
        def begin(name: str):
            def make(state: State):
                target = state.collected.get("target", torch.zeros(2))

                def loss(step: int) -> dict[str, torch.Tensor]:
                    self.hook(name, step)
                    x = torch.randn(4, 3, generator=state.rng)
                    return {"total": (self.net(x) - target).square().mean()}

                return loss

            return make

        def collect(state: State) -> dict[str, torch.Tensor]:
            self.hook("collect", 0)
            return {"target": torch.randn(2, generator=state.rng), "mask": torch.tensor([True, False])}

        weight, bias = Group([self.net.weight], 0.1), Group([self.net.bias], 0.2)
        return [
            Phase("first", "train", {"phase": "first"}, 30, [weight, bias], begin("first"), cooldown=0.5),
            Phase("second", "collect", {"phase": "second"}, collect=collect),
            Phase(
                "third", "train", {"phase": "third"}, 7, [bias], begin("third"), report=lambda s: {"x": 3.0}
            ),
        ]

    def run(self, resume: bool = False) -> dict[str, torch.Tensor]:
        self.runner.begin(resume)
        self.runner.run(self.phases())
        return self.net.state_dict()


def stop_at(where: str, number: int):
    def hook(phase: str, step: int) -> None:
        if (phase, step) == (where, number):
            raise Stop

    return hook


def entries(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / LOG).read_text().splitlines()]


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, torch.Tensor]:
    return Toy(tmp_path / "whole").run()


@pytest.mark.parametrize("seconds", [0.0, 1e9])
@pytest.mark.parametrize("where", [("first", 0), ("first", 25), ("collect", 0), ("third", 0), ("third", 6)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, whole: dict, where: tuple, seconds: float) -> None:
    out = tmp_path / "killed"
    with pytest.raises(Stop):
        Toy(out, stop_at(*where), seconds).run()
    again = Toy(out)
    for name, tensor in again.run(resume=True).items():
        assert torch.equal(tensor, whole[name]), name
    finished = Toy(out).run(resume=True)  # a finished run has nothing left
    assert all(torch.equal(finished[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_waits_for_the_step_and_loses_none(
    tmp_path: Path, whole: dict, number: int, error: type
) -> None:
    def hook(phase: str, step: int) -> None:
        if (phase, step) == ("first", 11):
            os.kill(os.getpid(), number)

    out = tmp_path / "stopped"
    toy, before = Toy(out, hook, 1e9), signal.getsignal(number)
    with pytest.raises(error) as caught:
        toy.run()
    if error is SystemExit:
        assert caught.value.code == 143
    assert toy.notes.messages == ["first: stopped after step 12, --resume continues"]
    assert signal.getsignal(number) is before
    again = Toy(out)
    again.runner.begin(resume=True)
    assert (again.runner.state.phase, again.runner.state.step) == (0, 12)
    again.runner.run(again.phases())
    assert all(torch.equal(t, whole[name]) for name, t in again.net.state_dict().items())


def test_a_second_signal_and_one_between_steps_do_not_wait(tmp_path: Path) -> None:
    def twice(phase: str, step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal waited")

    with pytest.raises(KeyboardInterrupt):
        Toy(tmp_path / "a", twice).run()

    def collecting(phase: str, step: int) -> None:
        if phase == "collect":
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the signal waited")

    with pytest.raises(SystemExit):
        Toy(tmp_path / "b", collecting).run()


def test_tensor_cores_are_used_in_a_run_alone(tmp_path: Path) -> None:
    before, seen = torch.backends.cuda.matmul.allow_tf32, []
    toy = Toy(tmp_path, lambda phase, step: seen.append(torch.backends.cuda.matmul.allow_tf32))
    toy.run()
    assert set(seen) == {True} and torch.backends.cuda.matmul.allow_tf32 == before
    with pytest.raises(Stop):
        Toy(tmp_path, stop_at("first", 3)).run()
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_collected_tensors_are_read_from_the_disk_as_they_are_needed(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    about, stored = module.read_tensors(tmp_path / COLLECTED)
    assert all(torch.equal(stored[name], value) for name, value in toy.runner.state.collected.items())
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path / COLLECTED) in maps


def test_checkpoints_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a second of this clock: every 10 s is every 10 steps, and each phase ends with one."""
    saved, now = [], [0.0]
    toy = Toy(tmp_path, lambda phase, step: now.__setitem__(0, now[0] + 1), 10.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    save = toy.runner._save
    monkeypatch.setattr(
        toy.runner,
        "_save",
        lambda o: (saved.append((toy.runner.state.phase, toy.runner.state.step)), save(o)),
    )
    toy.run()
    assert saved == [(0, 0), (0, 10), (0, 20), (1, 0), (2, 0), (3, 0)]


def test_the_log_has_means_marks_and_reports(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    assert [(e["phase"], e["step"]) for e in entries(tmp_path)] == [
        ("first", 20), ("first", 30), ("third", 7), ("third", 7),
    ]  # fmt: skip
    assert entries(tmp_path)[-1] == {"phase": "third", "step": 7, "x": 3.0}
    assert {"total", "gradient"} <= entries(tmp_path)[0].keys()


def test_a_half_written_line_is_removed_from_the_log(tmp_path: Path) -> None:
    path = tmp_path / LOG
    for text, left in (
        ('{"a": 1}\n{"b"', '{"a": 1}\n'),
        ('{"a"', ""),
        ('{"a": 1}\n', '{"a": 1}\n'),
        ("", ""),
    ):
        path.write_text(text)
        Log(path).write({"step": 1}, {"x": 0.12345678})
        assert path.read_text() == left + '{"step": 1, "x": 0.123457}\n'


def poisoned(toy: Toy, step_of_poison: int, factor: float) -> list[Phase]:
    first = toy.phases()[0]

    def begin(state: State):
        loss = first.begin(state)
        return lambda step: {
            name: value * (factor if step >= step_of_poison else 1.0) for name, value in loss(step).items()
        }

    return [replace(first, begin=begin, n_steps=200)]


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_what_is_not_finite_is_never_saved(tmp_path: Path, seconds: float) -> None:
    toy = Toy(tmp_path, seconds=seconds)
    toy.runner.begin(resume=False)
    steps = "45 to 45" if seconds == 0.0 else "40 to 59"
    sentence = f"first, steps {steps}: the loss is nan; the last good checkpoint was kept: lower the learning"
    with pytest.raises(TrainingDiverged, match=sentence):
        toy.runner.run(poisoned(toy, 45, float("nan")))
    assert not torch.isfinite(toy.net.weight).all()
    again = Toy(tmp_path)
    again.runner.begin(resume=True)
    assert again.runner.state.step == (45 if seconds == 0.0 else 0)
    assert all(torch.isfinite(t).all() for t in (*again.net.parameters(), *again.runner.moments.values()))


def test_a_gradient_that_is_not_finite_stops(tmp_path: Path) -> None:
    toy = Toy(tmp_path, seconds=1e9)
    toy.runner.begin(resume=False)
    bias = toy.net.bias
    loss = lambda step: {"total": (bias - bias.detach()).abs().sqrt().sum()}  # noqa: E731
    phase = Phase("p", "p", {}, 20, [Group([bias], 0.1)], lambda state: loss)
    with pytest.raises(TrainingDiverged, match="p, steps 0 to 19: the gradient is nan"):
        toy.runner.run([phase])


def test_a_dead_loss_stops(tmp_path: Path) -> None:
    toy = Toy(tmp_path, seconds=1e9)
    toy.runner.begin(resume=False)
    with pytest.raises(TrainingDiverged, match=f"the loss is dead, no gradient for {DEAD_STEPS} steps"):
        toy.runner.run(poisoned(toy, 25, 0.0))


def test_a_term_that_falls_to_zero_is_named_once(tmp_path: Path) -> None:
    toy = Toy(tmp_path, seconds=1e9)
    toy.runner.begin(resume=False)
    bias = toy.net.bias
    loss = lambda step: {"total": bias.square().sum(), "smooth": torch.tensor(float(step < 30))}  # noqa: E731
    toy.runner.run([Phase("p", "p", {}, 100, [Group([bias], 0.01)], lambda state: loss)])
    assert toy.notes.messages == ["p, step 60: smooth fell to exactly 0"]


def test_losses_are_not_read_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    for name in ("item", "tolist", "__float__", "__bool__"):
        own = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda t, own=own: (reads.append(t.requires_grad or t.numel()), own(t))[1]
        )
    toy = Toy(tmp_path, seconds=1e9)
    toy.runner.begin(resume=False)
    reads.clear()
    toy.runner._train(toy.phases()[0])
    assert len([n for n in reads if n == 40 or n == 20]) == 2  # total and gradient of 20 steps, and of 10


def test_rates_fall_linearly_in_the_cooldown() -> None:
    phase = Phase("p", "p", {}, n_steps=10, cooldown=0.4)
    assert [phase.rate_factor(i) for i in range(10)] == pytest.approx([1.0] * 7 + [0.75, 0.5, 0.25])
    assert [replace(phase, cooldown=0.0).rate_factor(i) for i in range(10)] == [1.0] * 10


def test_moments_return_to_the_device_of_their_parameters() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, device="meta"))
    moments = {"optimizer.0.step": torch.tensor(3.0)}
    moments |= {f"optimizer.0.{k}": torch.ones(2) for k in ("exp_avg", "exp_avg_sq")}
    optimizer = new_optimizer(Phase("p", "p", {}, 1, [Group([weight], 0.1)]), moments)
    assert optimizer.state[weight]["exp_avg"].device == optimizer.state[weight]["exp_avg_sq"].device
    assert optimizer.state[weight]["exp_avg"].is_meta


def test_progress_says_what_is_left(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    assert toy.notes.messages[:2] == [
        "81% of all steps done",
        "81% of all steps done, about 0 s left",
    ]


def test_refuses_other_settings_and_files(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    with pytest.raises(
        ConfigError, match=r"other settings \(seed, distance a, now b\): resume with the same"
    ):
        Toy(tmp_path, settings={"seed": 1, "distance": "b"}).run(resume=True)
    about, tensors = module.read_tensors(tmp_path / STATE)
    module.write_tensors(tmp_path / STATE, tensors, about | {"format": "other"})
    with pytest.raises(CheckpointError, match="has format 'other', expected 'lift3d.training/2'"):
        Toy(tmp_path).run(resume=True)
    module.write_tensors(tmp_path / STATE, tensors | {"model.bias": torch.tensor([0.0, torch.inf])}, about)
    with pytest.raises(CorruptFile, match="bias holds values that are not finite"):
        Toy(tmp_path).run(resume=True)
    assert (tmp_path / COLLECTED).exists()
