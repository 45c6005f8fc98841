"""Signals that come while a file is closed."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from lift3d.interrupts import uninterrupted


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c() -> Iterator[None]:
    """Where tests run in the background, the shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_signals_wait_for_the_end_of_the_block() -> None:
    done, seen = [], []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with uninterrupted() as received:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("closed")
            assert not seen
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGINT, signal.SIGTERM] and done and seen == [signal.SIGTERM]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_ignored_signals_stay_ignored_and_other_threads_have_none() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted() as received:
            os.kill(os.getpid(), signal.SIGINT)
        assert received == [] and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    kept = []

    def elsewhere() -> None:
        with uninterrupted() as received:
            kept.append((list(received), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert kept == [([], before)]
