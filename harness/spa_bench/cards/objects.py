"""Samplers, tasks, metrics and models that a Python program gives as objects: each has a name for as long as a run lasts.

The name, `object:EverySecond`, stands wherever a card, a spec or an option has the name of a kind. It is in no table and in no
package: outside the program that gave the object it leads to one line that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

from spa_bench.errors import UsageError

PREFIX = "object:"
UNHASHED = "unhashed"
_NONE: Mapping[tuple[str, str], GivenObject] = MappingProxyType({})
_given: ContextVar[Mapping[tuple[str, str], GivenObject]] = ContextVar("given", default=_NONE)


@dataclass(frozen=True)
class Source:
    """The hash of an object, or why it has none."""

    hash: str  # 16 hex digits; "" where it cannot be hashed
    why: str = ""  # on one line

    @property
    def text(self) -> str:
        """The entry in a spec: the hash, or `unhashed: ` and the reason."""
        return self.hash or f"{UNHASHED}: {self.why}"


@dataclass(frozen=True, kw_only=True)
class GivenObject:
    """An object that takes the place of a name."""

    table: str  # sampler, task, metric or engine
    name: str  # begins with PREFIX
    target: object  # the kind of that table, or the Metric
    source: Source
    card: object = None  # of a sampler or a task: its card


@contextmanager
def giving(objects: Iterable[GivenObject]) -> Iterator[None]:
    """Within the block the names of `objects` lead to them. Raises UsageError for two objects of one table and name."""
    named: dict[tuple[str, str], GivenObject] = {}
    for one in objects:
        if (one.table, one.name) in named:
            raise UsageError(f"two {one.table}s are named {one.name.removeprefix(PREFIX)!r}; give one of them another name")
        named[one.table, one.name] = one
    token = _given.set(MappingProxyType({**_given.get(), **named}))
    try:
        yield
    finally:
        _given.reset(token)


def is_object(name: object) -> bool:
    """Whether `name` is that of an object."""
    return isinstance(name, str) and name.startswith(PREFIX)


def given_object(table: str, name: str) -> GivenObject:
    """The object of that name. Raises UsageError where this program has not given it."""
    check_given(table, name)
    return _given.get()[table, name]


def check_given(table: str, name: object, where: str = "") -> None:
    """Raises UsageError for the name of an object that is not at hand: what a run needs that was made with it."""
    if is_object(name) and (table, name) not in _given.get():
        what = "model" if table == "engine" else table
        raise UsageError(
            f"{where or 'this run'} was made in Python with the {what} object {str(name).removeprefix(PREFIX)}, which is in no "
            f"file and no package: call spa_bench.run or spa_bench.score there with it again, or put it in a module and name "
            f"it as package.module:NAME"
        )


def unhashed(spec: Mapping[str, object]) -> list[str]:
    """What a spec says of the parts whose code could not be hashed: `sampler: the source of f cannot be read`."""
    code, metrics = spec.get("code"), spec.get("metrics")
    found = []
    for prefix, part in (("", code), ("metric ", metrics)):
        for key, value in part.items() if isinstance(part, Mapping) else ():
            if isinstance(value, str) and value.startswith(f"{UNHASHED}: "):
                found.append(f"{prefix}{key.removeprefix(PREFIX)}: {value.partition(': ')[2]}")
    return found
