"""Signals that are handled otherwise for a while, such as those that must wait: what closes a file is not
stopped half way.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def handling(handle: Callable[[int, object], None], *signals: int) -> Iterator[dict[int, object]]:
    """``handle`` gets these signals in the block, in place of the handlers that are yielded. Only the main
    thread can have handlers: in another one nothing changes.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[list[int]]:
    """SIGINT and SIGTERM wait for the end of the block; the list then holds those that came.

    What the program does on them is done at the end, but a ``KeyboardInterrupt`` is not raised.
    """
    received: list[int] = []
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))]
    try:
        with handling(lambda number, _: received.append(number), *signals) as before:
            yield received
    finally:
        for number in received:
            with suppress(KeyboardInterrupt):
                before[number](number, None)
