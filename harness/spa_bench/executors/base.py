"""What a driver sees of its workers, and how it hands them shards.

A worker holds what a recipe loads, and does acts on it: functions of modules with plain values, pickled. A worker keeps nothing
that a shard needs from another shard, so that a worker that dies costs its shard in hand, which another worker does.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from spa_bench.errors import ModelError, SpaBenchError, with_message

Held = TypeVar("Held")
HeldIn = TypeVar("HeldIn", covariant=True)
Result = TypeVar("Result")


class Workers(Protocol[HeldIn]):
    """Several workers of one kind. `HeldIn` is what their recipe loads. Several threads may use them at once."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def each(self, shards: Iterable[Callable[[HeldIn], Result]]) -> Iterator[tuple[int, Result]]:
        """(number of the shard, its result) as shards finish. A shard is done by one worker, whichever is free.

        At the first Ctrl-C no further shard is handed out, those in hand are finished, and KeyboardInterrupt is raised. Raises
        what a shard raises in its worker, where that is a SpaBenchError; ModelError for a shard that took down MOST_LOSSES
        workers, or where there are no workers any more.
        """
        ...

    def everywhere(
        self, act: Callable[[HeldIn], Result], *, check: Callable[[str, Result], None] | None = None
    ) -> list[Result]:
        """The results of all workers. A worker that starts later, in place of one that died, does `act` first as well.

        `check` is called with the name of a worker and its result, and raises where that worker cannot be used.
        """
        ...

    def first(self, act: Callable[[HeldIn], None]) -> None:
        """Let every worker do `act` before its next shard, also one that starts later. What it raises, later calls raise."""
        ...

    def lasting(self, act: Callable[[HeldIn], None], undo: Callable[[HeldIn], None]) -> AbstractContextManager[None]:
        """A context in which every worker does `act` before its next shard.

        Behind it, those that did it do `undo` before their next shard, unless the context ended in an error.
        """
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True)
class Returned:
    """What a worker sent back."""

    reply: bytes  # of `serve`


@dataclass(frozen=True)
class Lost:
    """A worker that ended without an answer."""

    why: str  # as the system says it, on one line


class Seat(Protocol):
    """One worker, as the driver sees it: it does one act at a time."""

    name: str  # for messages, such as "worker 0 (cuda:0)"

    def send(self, parcel: object) -> None:
        """Begin the act in `parcel`."""
        ...

    def stop(self) -> None:
        """End the worker, whatever it does."""
        ...


class Transport(Protocol):
    """Starts workers and carries bytes to and from them."""

    count: int

    def start(self, place: int) -> Seat:
        """A new worker at `place`, 0 to count - 1. Raises ModelError where none can be had."""
        ...

    def pack(self, act: bytes) -> object:
        """`act` as a parcel that may be sent to several workers."""
        ...

    def drop(self, parcel: object) -> None:
        """Forget a parcel that is sent to nobody any more."""
        ...

    def wait(self, seats: Sequence[Seat], seconds: float) -> list[tuple[Seat, Returned | Lost]]:
        """What came from the busy `seats`; an empty list after `seconds`, or sooner. Raises ModelError where all are gone.

        What comes meanwhile from a seat that is not among them, as another thread sent to it, is kept for a later call.
        """
        ...

    def close(self) -> None:
        """Free what the transport holds itself."""
        ...


def serve(state: list[Held], act: bytes) -> bytes:
    """What a worker answers to a pickled `act`. The first act is the recipe: its result becomes the only item of `state`."""
    try:
        job = pickle.loads(act)
        if not state:
            state.append(job())
            return pickle.dumps((True, None))
        return pickle.dumps((True, job(*state)))
    except SpaBenchError as error:
        return pickle.dumps((False, with_message(error, str(error))))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return pickle.dumps((False, ModelError(f"a worker failed: {_last_lines(traceback.format_exc())}")))


def _last_lines(trace: str) -> str:
    """The last place and the message of a traceback, on one line."""
    lines = [line.strip() for line in trace.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    return f"{lines[-1][:300]} ({places[-1] if places else 'no place known'})"
