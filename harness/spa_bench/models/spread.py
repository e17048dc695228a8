"""The seam between work that has independent parts and a model that several workers hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable
from uuid import uuid4

from spa_bench.executors.base import Workers
from spa_bench.types import DivergenceSums, Member, Messages

if TYPE_CHECKING:
    from spa_bench.models.hf.model import HFModel

Result = TypeVar("Result")
Context = tuple[str | Messages, str]
"""A prompt or messages, and the continuation behind it."""


@dataclass(kw_only=True)
class Station:
    """What a worker holds: a model, the adapters that it was sent, and what acts leave for later acts."""

    model: HFModel
    adapters: dict[Path, Path]  # the driver's folder of an adapter -> its copy here; others are read where the driver has them
    kept: dict[str, object]
    folder: Path | None = None  # of the adapters that were sent; None until one was

    def here(self, members: Sequence[Member]) -> list[Member]:
        """`members` with the folders that their adapters have on this machine."""
        return [Member(m.name, self.adapters.get(m.adapter, m.adapter) if m.adapter else None, m.decoding) for m in members]


def own_name(what: str) -> str:
    """A name for what an act keeps at a Station, which no other piece of work has: several may be under way at once."""
    return f"{what} {uuid4().hex}"


@dataclass(frozen=True)
class Group:
    """Contexts that are measured together, because company can move the last digits."""

    contexts: Sequence[Context]
    again: Collection[int]  # see Model.divergence


@runtime_checkable
class SpreadModel(Protocol):
    """A model that several workers hold. An act is a function of a module with plain values, on a worker's Station."""

    @property
    def workers(self) -> Workers[Station]:
        """The workers themselves, for work that needs no model."""
        ...

    @property
    def cores(self) -> int:
        """The cores that are each worker's own."""
        ...

    @property
    def count(self) -> int:
        """How many workers there are."""
        ...

    def spread(self, acts: Iterable[Callable[[Station], Result]]) -> Iterator[tuple[int, Result]]:
        """(number, result) of each act as it finishes, by whichever worker is free."""
        ...

    def left(self, act: Callable[[Station], None], undo: Callable[[Station], None]) -> AbstractContextManager[None]:
        """A context in which `act` was done in every worker, also in those that take the place of others; then `undo` is."""
        ...

    def divergences(
        self, groups: Sequence[Group], members: Sequence[Member], *, base: bool, top: int
    ) -> Iterator[list[DivergenceSums | None]]:
        """Model.divergence of each group, in order."""
        ...
