"""Work as an observer sees it."""

import pytest

from lift3d.errors import BackendUnavailable, optional
from lift3d.observer import SilentObserver, observed


class Told(SilentObserver):
    def __init__(self) -> None:
        self.said: list[object] = []

    def start(self, task: str, total: int | None) -> None:
        self.said.append((task, total))

    def advance(self, n: int = 1, **values: float) -> None:
        self.said.append(n)

    def finish(self) -> None:
        self.said.append("finish")


def test_items_are_a_task_that_advances_after_each() -> None:
    told = Told()
    for item in observed(told, "words", ["a", "bcd"], len):
        told.said.append(item)
    assert told.said == [("words", 4), "a", 1, "bcd", 3, "finish"]
    assert list(observed(None, "words", range(3))) == [0, 1, 2]


def test_a_task_that_fails_is_not_finished() -> None:
    told = Told()
    with pytest.raises(KeyError):
        for item in observed(told, "numbers", [1, 2]):
            raise KeyError(item)
    assert told.said == [("numbers", 2)]


def test_a_package_that_is_not_there_is_named_with_its_remedy() -> None:
    assert optional("math", "never said").pi > 3
    with pytest.raises(BackendUnavailable, match="pip install nothing") as caught:
        optional("no_such_package", "pip install nothing")
    assert isinstance(caught.value.__cause__, ImportError)
