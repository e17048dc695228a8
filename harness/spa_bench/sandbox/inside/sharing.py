"""What a program's results share with its arguments, with each other and with its random numbers: it is lost between processes.

Runs in the program's process and says of each call what a test in the same process could find.
"""

from __future__ import annotations

import random
import sys
from collections import UserDict, UserList, deque
from typing import Any

from spa_bench.sandbox.inside import wire

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
_KEPT = 1 << 26  # bytes of earlier results that are kept
ARGUMENT, TWICE, AGAIN, CHANGED, RANDOM = "argument", "twice", "again", "changed", "random"


def containers(value: Any) -> tuple[dict[int, Any], bool]:
    """(what of `value` can be changed in place, by identity; whether any of it is there twice)."""
    found: dict[int, Any] = {}
    level, twice = [value], False
    while level and not set(map(type, level)) <= _ATOMS:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, UserDict | UserList):
                inner.append(item.data)
            if isinstance(item, tuple | frozenset):
                inner.extend(item)
            elif isinstance(item, list | dict | set | bytearray | deque):
                if id(item) in found:
                    twice = True
                    continue
                found[id(item)] = item
                if not isinstance(item, bytearray):
                    inner.extend(dict.values(item) if isinstance(item, dict) else item)
        level = inner
    return found, twice


class Calls:
    """The results of a program so far."""

    def __init__(self, seeded: bool):
        self._earlier: list[tuple[dict[int, Any], Any, bytes]] = []
        self._kept = 0
        self._given: dict[int, Any] = {}
        self._random = _Random() if seeded else None

    def begin(self, given: Any) -> None:
        """Note the arguments of a call."""
        self._given, _ = containers(given)
        if self._random:
            self._random.begin()

    def end(self, result: Any) -> list[str]:
        """What the result shares."""
        notes = [RANDOM] if self._random and self._random.drew() else []
        found, twice = containers(result)
        if twice:
            notes.append(TWICE)
        if found.keys() & self._given.keys():
            notes.append(ARGUMENT)
        for theirs, earlier, before in self._earlier:
            if found.keys() & theirs.keys():
                notes.append(AGAIN)
                if _written(earlier) != before:
                    notes.append(CHANGED)
        if found and self._kept < _KEPT:
            data = _written(result)
            self._kept += len(data)
            self._earlier.append((found, result, data))
        return notes

    def raised(self) -> list[str]:
        """What a call shares that ended with an exception."""
        return [RANDOM] if self._random and self._random.drew() else []


def _written(value: Any) -> bytes:
    try:
        return wire.encode(value)
    except wire.WireError:
        return b""


class _Random:
    """Whether a program takes numbers of the generators that all modules share, before it seeds them itself."""

    def __init__(self) -> None:
        self._seed, self._state = random.seed, random.getstate()
        self._drew = self._seeded = False
        random.seed = self.seed

    def seed(self, *args: Any, **kwargs: Any) -> None:
        """As random.seed."""
        self._drew = self._drew or (not self._seeded and random.getstate() != self._state)
        self._seeded = True
        self._seed(*args, **kwargs)

    def begin(self) -> None:
        """Begin a call."""
        self._state, self._drew, self._seeded = random.getstate(), False, False
        self._numpy = _numpy_state()

    def drew(self) -> bool:
        """Whether the call depended on a seed that is not the program's."""
        before, now = self._numpy, _numpy_state()
        used = now is not None and before != now  # where it was not loaded before, it may have been used
        return self._drew or used or (not self._seeded and random.getstate() != self._state)


def _numpy_state() -> Any:
    """The state of numpy's shared generator; None where it is not in use."""
    module = sys.modules.get("numpy.random")
    if module is None:
        return None
    name, keys, place, *rest = module.get_state()
    return name, keys.tobytes(), place, rest
