"""Ctrl-C and SIGTERM: once finishes the batch in hand, twice stops at once. Either way nothing that was written is lost.

Loops that do long work call `pause_point()` where they can stop well: between two batches, behind a checkpoint.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()  # a signal is the process's, and so is this


def asked() -> bool:
    """Whether the user asked to stop."""
    return _asked.is_set()


def pause_point() -> None:
    """Raise KeyboardInterrupt here if the user asked to stop since the work began."""
    if _asked.is_set():
        raise KeyboardInterrupt


@contextmanager
def patiently(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM asks pause points to stop and `tell`s so; the second stops at once."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
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
