"""What all jobs of a sandbox share: limits of time and size, the command that starts one, and how a program ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from spa_bench.grading.base import Outcome
from spa_bench.grading.channel import Zygote
from spa_bench.types import Verdict

TOTAL_SECONDS = 60.0  # of all calls of a suite, as in evalplus
TIME_FACTOR = 4.0  # a call may take this many times the reference's time on this machine
REFERENCE_SECONDS = 600.0
OUTPUT_FACTOR, OUTPUT_ROOM = 4, 1 << 20  # an answer may be this many times as long as the expected one, and this much longer


class TooLong(BaseException):
    """A comparison takes longer than any honest one."""


def command(job: dict[str, Any], do: str, seconds: float, cpu_seconds: float, **more: Any) -> dict[str, Any]:
    """The command that starts a job: `seconds` to load the program, `cpu_seconds` for everything together."""
    head = {"do": do, "recursion": job["recursion"], "memory_mb": job["memory_mb"], "numpy": job["numpy"]}
    return {**head, "seconds": seconds, "cpu_seconds": cpu_seconds, **more}


def ended(zygote: Zygote, end: dict[str, Any], status: int | None, *, limit: float, call: str, kills: int) -> Outcome:
    """The outcome of a program that ended before its tests did; `kills` are the memory kills before it ran."""
    if end["why"] == "timeout" or status == -signal.SIGXCPU:
        return Outcome(
            verdict=Verdict.TIMEOUT, message=f"still running after {limit:.3g} s of CPU, or {4 * limit + 1:.3g} s", call=call
        )
    if status == -signal.SIGKILL and zygote.memory_kills() > kills:
        return Outcome(verdict=Verdict.MEMORY, message="killed for the memory of all its files and threads together", call=call)
    if status is None or status >= 0:
        return Outcome(verdict=Verdict.CRASHED, message=f"exited with status {status} before its tests were done", call=call)
    how = f"killed by signal {-status} ({signal.strsignal(-status)})"
    return Outcome(verdict=Verdict.CRASHED, message=f"{how} before its tests were done", call=call)


@contextlib.contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Raise TooLong when the block takes more than `seconds` of this process' CPU time. It works in the main thread only."""

    def raise_(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, raise_)
    signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-6))  # 0 would mean without end
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
