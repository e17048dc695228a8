"""What a driver sees of its workers, and how it hands them shards.

A worker holds what a recipe loads, and does acts on it: functions of modules with plain values, pickled. A worker keeps nothing
that a shard needs from another shard, so that a worker that dies costs its shard in hand, which another worker does.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from spa_bench.errors import ModelError, SpaBenchError
from spa_bench.support.interrupt import asked

Held = TypeVar("Held")
HeldIn = TypeVar("HeldIn", covariant=True)
Result = TypeVar("Result")

MOST_LOSSES = 3  # workers that one shard, or the loading of the model, may take down before the run ends
_WAIT = 0.5  # seconds between two looks at whether the user asked to stop


class Workers(Protocol[HeldIn]):
    """Several workers of one kind. `HeldIn` is what their recipe loads."""

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

    def lasting(self, act: Callable[[HeldIn], None], undo: Callable[[HeldIn], None]) -> AbstractContextManager[None]:
        """A context in which all workers have done `act`; behind it, they do `undo`, unless the context ended in an error."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True)
class Answer:
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

    def wait(self, seats: Sequence[Seat], seconds: float) -> list[tuple[Seat, Answer | Lost]]:
        """What came from the busy `seats`; an empty list after so many seconds. Raises ModelError where all are gone."""
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
        return pickle.dumps((False, type(error)(str(error))))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return pickle.dumps((False, ModelError(f"a worker failed: {_last_lines(traceback.format_exc())}")))


def _last_lines(trace: str) -> str:
    """The last place and the message of a traceback, on one line."""
    lines = [line.strip() for line in trace.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    return f"{lines[-1][:300]} ({places[-1] if places else 'no place known'})"


@dataclass(kw_only=True)
class _Worker:
    """One worker and what it has in hand."""

    seat: Seat
    place: int
    ready: int = 0  # acts of all workers that it has done
    round: int = 0  # of `each`, whose shard is in hand
    shard: int | None = None  # in hand; None: an act of all workers
    busy: bool = False


@dataclass
class _Everywhere:
    """An act that every worker does once."""

    parcel: object | None  # None: it is over, and workers that start later need not do it
    check: Callable[[str, object], None] | None
    results: dict[int, object] = field(default_factory=dict)  # by place

    def results_in_order(self) -> list[object]:
        """The results of all workers."""
        return [self.results[place] for place in sorted(self.results)]


class Pool(Generic[Held]):
    """See Workers. `recipe` loads in each worker what its acts take; `tell` is told, on one line, of workers that died."""

    def __init__(self, transport: Transport, recipe: Callable[[], Held], *, tell: Callable[[str], None] = lambda _: None):
        self._transport, self._tell = transport, tell
        self._common: list[_Everywhere] = []
        self._failures = 0  # workers that died before they were ready, one after another
        self._round = 0
        self._workers: list[_Worker] = []
        try:
            self._workers += (_Worker(seat=transport.start(place), place=place) for place in range(transport.count))
            self._share(recipe, None)
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """See Workers.count."""
        return self._transport.count

    def everywhere(self, act: Callable[[Held], Result], *, check: Callable[[str, Result], None] | None = None) -> list[Result]:
        """See Workers.everywhere."""
        return self._share(act, check).results_in_order()  # type: ignore[arg-type, return-value]

    @contextmanager
    def lasting(self, act: Callable[[Held], None], undo: Callable[[Held], None]) -> Iterator[None]:
        """See Workers.lasting."""
        begun = self._share(act, None)
        try:
            yield
        finally:
            self._over(begun)
        self._over(self._share(undo, None))

    def _over(self, common: _Everywhere) -> None:
        """Workers that start later need not do `common`."""
        self._transport.drop(common.parcel)
        common.parcel = None

    def _share(self, act: Callable[..., object], check: Callable[[str, object], None] | None) -> _Everywhere:
        common = _Everywhere(self._transport.pack(pickle.dumps(act)), check)
        self._common.append(common)
        while any(worker.ready < len(self._common) for worker in self._workers):
            if asked():
                raise KeyboardInterrupt
            for worker in self._workers:
                self._prepare(worker)
            if any(worker.busy for worker in self._workers):
                self._turn()
        return common

    def each(self, shards: Iterable[Callable[[Held], Result]]) -> Iterator[tuple[int, Result]]:
        """See Workers.each."""
        self._round += 1
        mine, source, lost = self._round, enumerate(shards), dict[int, int]()
        parcels: dict[int, object] = {}  # of shards that were handed out and are not done
        again: list[int] = []  # those of workers that died
        more = True
        while more or parcels:
            for worker in self._workers:
                self._prepare(worker)
                if worker.busy or asked():
                    continue
                number = again.pop() if again else None
                if number is None and more:
                    number, act = next(source, (None, None))
                    if number is None:
                        more = False
                    else:
                        parcels[number] = self._transport.pack(pickle.dumps(act))
                if number is not None:
                    worker.round, worker.shard = mine, number
                    self._send(worker, parcels[number])
            in_hand = any(worker.busy and worker.round == mine and worker.shard is not None for worker in self._workers)
            if asked() and not in_hand:
                raise KeyboardInterrupt
            if not more and not parcels:
                return
            for worker, reply in self._turn():
                if worker.round != mine or worker.shard not in parcels:
                    continue  # of a round that was broken off
                if isinstance(reply, Lost):
                    number = worker.shard
                    lost[number] = lost.get(number, 0) + 1
                    if lost[number] >= MOST_LOSSES:
                        raise ModelError(
                            f"shard {number} took down {MOST_LOSSES} workers ({reply.why}), likely for lack of memory: give "
                            f"fewer workers or, where they hold a model, a smaller --batch-size; everything done so far is kept"
                        )
                    again.append(number)
                else:
                    self._transport.drop(parcels.pop(worker.shard))
                    yield worker.shard, _opened(reply)  # type: ignore[misc]

    def close(self) -> None:
        """See Workers.close."""
        for worker in self._workers:
            worker.seat.stop()
        self._workers = []
        self._transport.close()

    def _prepare(self, worker: _Worker) -> None:
        """Send an idle worker the next of the acts that all workers do, if it has not done them all."""
        while not worker.busy and worker.ready < len(self._common):
            if self._common[worker.ready].parcel is None:
                worker.ready += 1
                continue
            worker.shard = None
            self._send(worker, self._common[worker.ready].parcel)

    def _send(self, worker: _Worker, parcel: object) -> None:
        worker.busy = True
        worker.seat.send(parcel)

    def _turn(self) -> list[tuple[_Worker, Answer | Lost]]:
        """Wait for answers, start workers in place of those that died, and return what came for shards."""
        found = []
        of_seat = {id(worker.seat): worker for worker in self._workers if worker.busy}
        for seat, reply in self._transport.wait([w.seat for w in of_seat.values()], _WAIT):
            worker = of_seat[id(seat)]
            worker.busy = False
            if isinstance(reply, Lost):
                self._replace(worker, reply)
            if worker.shard is not None:
                found.append((worker, reply))
            elif isinstance(reply, Answer):
                self._done(worker, reply)
        return found

    def _done(self, worker: _Worker, reply: Answer) -> None:
        """Note the result of an act that all workers do."""
        common = self._common[worker.ready]
        result = _opened(reply)
        if common.check is not None:
            common.check(worker.seat.name, result)
        common.results.setdefault(worker.place, result)
        worker.ready += 1
        self._failures = 0

    def _replace(self, worker: _Worker, lost: Lost) -> None:
        """Start another worker at the place of one that died."""
        if worker.shard is None:
            self._failures += 1
            if self._failures >= MOST_LOSSES:
                raise ModelError(
                    f"{worker.seat.name} died before it was ready ({lost.why}), {MOST_LOSSES} times, likely for lack of "
                    f"memory: give fewer workers"
                )
        self._tell(f"{worker.seat.name} died ({lost.why}); another one takes its place")
        worker.seat.stop()
        self._workers[self._workers.index(worker)] = _Worker(seat=self._transport.start(worker.place), place=worker.place)


def _opened(reply: Answer) -> object:
    """The result in an answer. Raises what the worker raised."""
    fine, content = pickle.loads(reply.reply)
    if not fine:
        raise content
    return content
