"""How long a program sleeps, seen from its share of CPU time, and when that is too long."""

from __future__ import annotations

PATIENCE = 4  # seconds by the clock that a program may be idle for each second of CPU, and one more
LONGEST = 20  # seconds by the clock for each second of CPU, idle or not, and five more: also for a program that naps
WINDOW = 0.25  # seconds over which a program is seen to work or to be idle
WORKING = 0.02  # the least share of a processor that counts as work: a fair share among fifty programs


class Idle:
    """Seconds by the clock in which a program used next to no CPU time.

    A program that wants a processor gets a share of it on the busiest machine; one that sleeps gets none. So a window in which
    a program used less than `WORKING` of the time counts as idle. The current window counts as idle until it is judged.
    """

    def __init__(self, now: float):
        self._began, self._used, self._before = now, 0.0, 0.0

    def seconds(self, now: float, used: float) -> float:
        """All idle seconds until `now`, when the program has used `used` CPU seconds."""
        length, work = now - self._began, used - self._used
        idle = length if work < WORKING * length else 0.0
        if length >= WINDOW:
            self._began, self._used, self._before = now, used, self._before + idle
            return self._before
        return self._before + idle


def too_long(idle: float, passed: float, allowed: float) -> bool:
    """Whether a program that is allowed `allowed` CPU seconds was idle for too long, or took too long by the clock."""
    return idle > PATIENCE * allowed + 1 or passed > LONGEST * allowed + 5
