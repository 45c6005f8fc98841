"""What a person sees of long work."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from lift3d.cli import progress
from lift3d.cli.progress import RichObserver, TensorBoardObserver
from lift3d.cli.table import table
from lift3d.errors import BackendUnavailable
from lift3d.observer import SilentObserver


class Clock:
    """Time that moves when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False, soft_wrap=True)


def test_without_a_terminal_a_line_every_half_minute_and_one_at_the_end(clock: Clock) -> None:
    observer = RichObserver(console(terminal=False))
    observer.start("images", 100)
    for _ in range(100):
        clock.now += 1.0
        observer.advance(1, loss=0.25)
    observer.finish()
    lines = observer.console.file.getvalue().splitlines()
    assert lines[0] == "images: 30/100, 1/s, 70 s left, loss 0.25"
    assert lines[-1] == "images: 100 in 100.0 s"
    assert len(lines) == 4


def test_rate_in_images(clock: Clock) -> None:
    observer = RichObserver(console(terminal=False), images=9)
    observer.start("samples", 16)
    observer.advance()
    clock.now += 31.0
    observer.advance(2)
    assert observer.console.file.getvalue().startswith("samples: 3/16, 0.581 images/s, 202 s left")


def test_what_an_earlier_run_did_does_not_count_as_speed(clock: Clock) -> None:
    observer = RichObserver(console(terminal=False))
    observer.start("steps", None)
    observer.advance(5000)
    clock.now += 40.0
    observer.advance(20)
    assert observer.console.file.getvalue() == "steps: 5020/?, 0.5/s\n"


def test_on_a_terminal_a_bar_with_rate_and_time_left(clock: Clock) -> None:
    with RichObserver(console(terminal=True)) as observer:
        observer.start("images", 10)
        observer.advance(1)
        clock.now += 2.0
        observer.advance(4, loss=0.5)
        observer.bar.refresh()
        shown = observer.console.file.getvalue()
    assert "images" in shown and "5/10" in shown
    assert "2/s, 2 s left, loss 0.5" in shown
    assert observer.bar is None


def test_a_message_is_printed_as_it_is() -> None:
    observer = RichObserver(console(terminal=False))
    observer.message("a [bold]bracket[/bold] " + "x" * 200)
    assert observer.console.file.getvalue() == "a [bold]bracket[/bold] " + "x" * 200 + "\n"


def test_tensorboard_gets_the_values_over_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BackendUnavailable, match="pip install tensorboard"):
        TensorBoardObserver(SilentObserver(), tmp_path)

    class Writer:
        def __init__(self, directory: Path) -> None:
            self.scalars: list[tuple[str, float, int]] = []

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.scalars.append((name, value, step))

        def flush(self) -> None:
            self.scalars.append(("flush", 0.0, 0))

    fake = type("module", (), {"SummaryWriter": Writer})
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    inner = RichObserver(console(terminal=False))
    observer = TensorBoardObserver(inner, tmp_path)
    observer.start("explore", 3)
    observer.advance(2, loss=1.5)
    observer.advance(1, loss=1.0)
    observer.finish()
    observer.message("done")
    scalars = [("explore/loss", 1.5, 2), ("explore/loss", 1.0, 3), ("flush", 0.0, 0)]
    assert observer.writer.scalars == scalars
    assert inner.console.file.getvalue().splitlines()[-1] == "done"


def test_a_table_sets_numbers_flush_right() -> None:
    rows = [("name", "MAD", "note"), ("lifted", "17.25", "a"), ("mean head", "-", "bb")]
    assert table(rows).splitlines() == [
        "name         MAD  note",
        "lifted     17.25  a",
        "mean head      -  bb",
    ]
