"""How long work in the core (training, sampling) reports: to an ``Observer`` that the caller passes.

Rich progress bars and TensorBoard live behind this protocol in ``cli/``; the core never prints.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")


@runtime_checkable
class Observer(Protocol):
    """Receives the progress of one task at a time."""

    def start(self, task: str, total: int | None) -> None:
        """A task of ``total`` units begins (None: unknown)."""

    def advance(self, n: int = 1, **values: float) -> None:
        """``n`` units are done; ``values`` are named scalars worth showing or logging."""

    def finish(self) -> None:
        """The current task is over."""

    def message(self, text: str) -> None:
        """One line for a person."""


class SilentObserver:
    """The observer that does nothing."""

    def start(self, task: str, total: int | None) -> None: ...

    def advance(self, n: int = 1, **values: float) -> None: ...

    def finish(self) -> None: ...

    def message(self, text: str) -> None: ...


def observed(
    observer: Observer | None, task: str, items: Iterable[Item], units: Callable[[Item], int] = lambda _: 1
) -> Iterator[Item]:
    """The items one by one, as a task of the observer; ``units`` says how much an item counts. They are gone
    through twice.
    """
    observer = observer or SilentObserver()
    observer.start(task, sum(map(units, items)))
    for item in items:
        yield item
        observer.advance(units(item))
    observer.finish()
