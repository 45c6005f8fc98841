"""Signals that must wait: what closes a file is not stopped half way."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def uninterrupted() -> Iterator[list[int]]:
    """SIGINT and SIGTERM wait for the end of the block; the list then holds those that came.

    What the program does on them is done at the end, but a ``KeyboardInterrupt`` is not raised.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where Python delivers no signals
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    for number in before:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in received:
            with suppress(KeyboardInterrupt):
                before[number](number, None)
