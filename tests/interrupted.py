"""Runs that are stopped from inside, as a kill would."""

from lift3d.observer import SilentObserver


class Stop(Exception):
    """Ends a run from inside, as a kill would."""


class StopAfter(SilentObserver):
    """Raises ``Stop`` when the n-th progress report arrives."""

    def __init__(self, n: int) -> None:
        self.left = n

    def advance(self, n: int = 1, **values: float) -> None:
        if values:
            self.left -= 1
            if self.left == 0:
                raise Stop
