"""Ctrl-C and SIGTERM: the first one finishes the current batch, the second one stops at once. Neither loses written work.

Loops that do long work call `pause_point()` where they can stop without loss: between two batches, after a checkpoint.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Flag:
    """As an Event that nobody waits for, without a lock: what handles a signal may stand above a holder of that lock."""

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it."""
        self._is_set = True

    def clear(self) -> None:
        """Take it back."""
        self._is_set = False


_asked = Flag()  # module-level, because a signal is for the whole process


def asked() -> bool:
    """Whether the user asked to stop."""
    return _asked.is_set()


def pause_point() -> None:
    """Raise KeyboardInterrupt here if the user asked to stop since the work began."""
    if _asked.is_set():
        raise KeyboardInterrupt


@contextmanager
def patiently(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM makes pause points stop and calls `tell`; the second stops at once."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        _asked.set()
        tell("finishing the batch in hand; once more to stop at once")

    _asked.clear()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()
