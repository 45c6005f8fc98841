"""Observers for people: progress with rate and time left on stderr, curves for TensorBoard."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lift3d.errors import optional
from lift3d.observer import Observer

LOG_SECONDS = 30.0  # between two lines where stderr is no terminal


class RichObserver:
    """A progress bar per task on a terminal, elsewhere a line every ``LOG_SECONDS``; the time at the end.

    The rate counts from the first ``advance``, which after a resume stands for what the earlier run did.
    It is shown in images where a unit of the task is ``images`` of them.
    """

    def __init__(self, console: Console | None = None, images: int | None = None) -> None:
        self.images = images
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None
        self.start("", None)

    def __enter__(self) -> "RichObserver":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def start(self, task: str, total: int | None) -> None:
        """See ``Observer``."""
        self.__exit__()
        now = time.monotonic()
        self.task, self.total, self.done, self.started, self.shown = task, total, 0, now, now
        self.first: tuple[float, int] | None = None  # time and units of the first advance
        self.values: dict[str, float] = {}
        if task and self.console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            state = TextColumn("{task.fields[state]}")
            self.bar = Progress(*columns, state, console=self.console, transient=True)
            self.bar.add_task(task, total=total, state="")
            self.bar.start()

    def advance(self, n: int = 1, **values: float) -> None:
        """See ``Observer``."""
        self.done += n
        self.values.update(values)
        now = time.monotonic()
        self.first = self.first or (now, self.done)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], advance=n, state=self._state(now))
        elif now - self.shown >= LOG_SECONDS:
            self.shown = now
            self.message(f"{self.task}: {self.done}/{self.total or '?'}, {self._state(now)}")

    def finish(self) -> None:
        """See ``Observer``."""
        self.__exit__()
        self.message(f"{self.task}: {self.done} in {time.monotonic() - self.started:.1f} s")

    def message(self, text: str) -> None:
        """See ``Observer``."""
        self.console.print(text, markup=False)

    def _state(self, now: float) -> str:
        """Rate, time left and the latest values."""
        since, before = self.first if self.first and self.done > self.first[1] else (self.started, 0)
        rate = (self.done - before) / max(now - since, 1e-9)
        shown = f"{rate:.3g}/s" if self.images is None else f"{rate * self.images:.3g} images/s"
        left = [] if self.total is None or not rate else [f"{(self.total - self.done) / rate:.0f} s left"]
        return ", ".join([shown, *left, *(f"{name} {value:.4g}" for name, value in self.values.items())])


class TensorBoardObserver:
    """Passes everything on to ``inner`` and writes the values as curves over the task's units."""

    def __init__(self, inner: Observer, directory: Path) -> None:
        remedy = "--tensorboard needs a package: pip install tensorboard"
        writer = optional("torch.utils.tensorboard", remedy).SummaryWriter(directory)
        self.inner, self.writer, self.task, self.done = inner, writer, "", 0

    def start(self, task: str, total: int | None) -> None:
        """See ``Observer``."""
        self.task, self.done = task, 0
        self.inner.start(task, total)

    def advance(self, n: int = 1, **values: float) -> None:
        """See ``Observer``."""
        self.done += n
        for name, value in values.items():
            self.writer.add_scalar(f"{self.task}/{name}", value, self.done)
        self.inner.advance(n, **values)

    def finish(self) -> None:
        """See ``Observer``."""
        self.writer.flush()
        self.inner.finish()

    def message(self, text: str) -> None:
        """See ``Observer``."""
        self.inner.message(text)
