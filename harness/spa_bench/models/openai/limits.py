"""When a call may be sent: limits a minute, the wait that a server asks for, and the wait after a failure."""

from __future__ import annotations

import email.utils
import math
import random
from collections import deque
from collections.abc import Mapping
from datetime import UTC

MINUTE = 60.0
FIRST, LONGEST = 1.0, 60.0  # seconds: the bound of the first wait, which doubles with each try, and of any


class Gate:
    """Says how long a call must wait: no minute has more requests or tokens than allowed. Times are seconds of a clock."""

    def __init__(self, requests: int | None, tokens: int | None):
        self._requests, self._tokens = requests, tokens
        self._sent: deque[list[float]] = deque()  # [time, tokens] of the calls of the last minute
        self._closed_until = -math.inf

    def wait(self, now: float, tokens: int) -> float:
        """Seconds until a call of `tokens` tokens may be sent; 0: at once. More than a minute allows wait for an empty one."""
        if now < self._closed_until:
            return self._closed_until - now
        while self._sent and self._sent[0][0] + MINUTE <= now:  # rounded as below, so that what is left waits for more than 0
            self._sent.popleft()
        if self._requests is not None and len(self._sent) >= self._requests:
            return self._sent[-self._requests][0] + MINUTE - now
        if self._tokens is None:
            return 0.0
        taken = sum(count for _, count in self._sent)
        for sent, count in self._sent:
            if taken + tokens <= self._tokens:
                return 0.0
            taken -= count
            if taken + tokens <= self._tokens or taken < 0.5:
                return sent + MINUTE - now
        return 0.0

    def sent(self, now: float, tokens: int) -> list[float]:
        """Note a call that is sent now; the row that is returned is corrected once its tokens are known."""
        row = [now, float(tokens)]
        self._sent.append(row)
        return row

    def close(self, until: float) -> None:
        """Send nothing until then: a server that is too busy for one call is so for all."""
        self._closed_until = max(self._closed_until, until)


def backoff(tries: int) -> float:
    """Seconds to wait after `tries` failed tries: random below a bound that doubles, so that calls do not come back together.

    Exponential backoff with full jitter: Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """
    return random.SystemRandom().uniform(0.0, min(LONGEST, FIRST * 2.0 ** min(tries - 1, 16)))


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that Retry-After asks for, as a number or a date (`now` is seconds since 1970); None where it asks for none."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):
        return None
    date = date.replace(tzinfo=date.tzinfo or UTC)  # "-0000" says UTC, and is read as no time zone
    return max(0.0, date.timestamp() - now)
