"""The pool: hands shards of several threads to workers, those of dead workers again, and lets all of them do common acts."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from spa_bench.errors import ModelError
from spa_bench.executors.base import Lost, Returned, Seat, Transport
from spa_bench.support.interrupt import asked
from spa_bench.support.text import one_line

Held = TypeVar("Held")
Result = TypeVar("Result")

MOST_LOSSES = 3  # workers that one shard, or the loading of the model, may take down before the run ends
_WAIT = 0.5  # seconds between two looks at whether the user asked to stop
_SHORT = 0.05  # seconds between two looks at what other threads do


@dataclass(kw_only=True)
class _Worker:
    """One worker and what it has in hand."""

    seat: Seat
    place: int
    ready: int = 0  # acts of all workers that it has done, or need not do
    did: set[int] = field(default_factory=set)  # those that it has done
    round: int = 0  # of `each`, whose shard is in hand
    shard: int | None = None  # in hand; None: an act of all workers
    busy: bool = False


@dataclass(kw_only=True)
class _Everywhere:
    """An act that every worker does once."""

    parcel: object | None  # None: it is over, and workers that have not done it need not
    check: Callable[[str, object], None] | None = None
    undoes: int | None = None  # the number of the act that it undoes, in workers that have done that
    results: dict[int, object] = field(default_factory=dict)  # by place
    lost: int = 0  # workers that it took down, one after another


@dataclass(kw_only=True)
class _Round:
    """One call of `each`."""

    number: int
    more: bool = True  # whether shards were not handed out yet
    here: bool = False  # whether its thread waits for workers
    turn: int = 0  # when it handed out its last shard, counted in shards of all rounds
    parcels: dict[int, object] = field(default_factory=dict)  # of shards that were handed out and are not done
    again: list[int] = field(default_factory=list)  # those of workers that died
    lost: dict[int, int] = field(default_factory=dict)  # shard -> workers that it took down
    answers: deque[tuple[int, Returned]] = field(default_factory=deque)
    error: ModelError | None = None

    @property
    def in_hand(self) -> int:
        """Shards that workers are at."""
        return len(self.parcels) - len(self.again)

    @property
    def wants(self) -> bool:
        """Whether it has a shard for a free worker."""
        return self.more or bool(self.again)

    def before(self, other: _Round) -> bool:
        """Whether a free worker is for this round first: that with fewer shards in hand, then that which waited longer."""
        return self.here and self.wants and (self.in_hand, self.turn) < (other.in_hand, other.turn)


class Pool(Generic[Held]):
    """See Workers. `recipe` loads in each worker what its acts take; `tell` is told, on one line, of workers that died.

    Each thread that waits takes the answers of all threads. A free worker takes a shard of the thread that has the
    fewest in hand; where several have, of the one that waited longest.
    """

    def __init__(self, transport: Transport, recipe: Callable[[], Held], *, tell: Callable[[str], None] = lambda _: None):
        self._transport, self._tell = transport, tell
        self._change = threading.Condition()  # held by whoever reads or changes what follows
        self._common: list[_Everywhere] = []
        self._rounds: dict[int, _Round] = {}
        self._numbers = count(1)  # of rounds
        self._turns = count(1)
        self._listens = False  # whether a thread listens to the workers
        self._end = threading.Event()
        self._workers: list[_Worker] = []
        try:
            self._workers += (_Worker(seat=transport.start(place), place=place) for place in range(transport.count))
            self._await(self._share(recipe))
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """See Workers.count."""
        return self._transport.count

    def everywhere(self, act: Callable[[Held], Result], *, check: Callable[[str, Result], None] | None = None) -> list[Result]:
        """See Workers.everywhere."""
        return self._await(self._share(act, check=check))  # type: ignore[arg-type, return-value]

    def first(self, act: Callable[[Held], None]) -> None:
        """See Workers.first."""
        self._share(act)

    @contextmanager
    def lasting(self, act: Callable[[Held], None], undo: Callable[[Held], None]) -> Iterator[None]:
        """See Workers.lasting."""
        begun = self._share(act)
        try:
            yield
        finally:
            with self._change:
                self._transport.drop(self._common[begun].parcel)
                self._common[begun].parcel = None
        self._share(undo, undoes=begun)

    def _share(
        self,
        act: Callable[..., object],
        *,
        check: Callable[[str, object], None] | None = None,
        undoes: int | None = None,
    ) -> int:
        """The number of a new act of all workers, which those that are free begin."""
        with self._change:
            self._common.append(_Everywhere(parcel=self._transport.pack(pickle.dumps(act)), check=check, undoes=undoes))
            self._prepare()
            return len(self._common) - 1

    def _await(self, number: int) -> list[object]:
        """The results of all workers of an act of theirs, by place."""
        with self._change:
            while not self._workers or any(worker.ready <= number for worker in self._workers):
                if asked():
                    raise KeyboardInterrupt
                self._prepare()
                self._listen()
            results = self._common[number].results
            return [results[place] for place in sorted(results)]

    def each(self, shards: Iterable[Callable[[Held], Result]]) -> Iterator[tuple[int, Result]]:
        """See Workers.each."""
        source = enumerate(shards)
        with self._change:
            mine = _Round(number=next(self._numbers))
            self._rounds[mine.number] = mine
        try:
            while True:
                with self._change:
                    self._hand_out(mine, source)
                    while not mine.answers and self._goes_on(mine):
                        mine.here = True
                        self._listen()
                        mine.here = False
                        self._hand_out(mine, source)
                    found = list(mine.answers)
                    mine.answers.clear()
                if not found:
                    return
                for number, reply in found:
                    yield number, _opened(reply)  # type: ignore[misc]
        finally:
            with self._change:
                del self._rounds[mine.number]
                for parcel in mine.parcels.values():
                    self._transport.drop(parcel)
                self._change.notify_all()

    def _goes_on(self, mine: _Round) -> bool:
        """Whether there is something to wait for. Raises what ends the round before its time."""
        if mine.error is not None:
            raise mine.error
        if asked() and not mine.in_hand:
            raise KeyboardInterrupt
        return mine.more or bool(mine.parcels)

    def _hand_out(self, mine: _Round, source: Iterator[tuple[int, Callable[[Held], object]]]) -> None:
        """Give free workers shards of `source`, until it is the turn of another round that waits."""
        self._prepare()
        for worker in self._workers:
            if worker.busy or asked() or mine.error is not None:
                continue
            if any(other.before(mine) for other in self._rounds.values()):
                self._change.notify_all()
                return
            number = mine.again.pop() if mine.again else None
            if number is None and mine.more:
                number, act = next(source, (None, None))
                if number is None:
                    mine.more = False
                    self._change.notify_all()
                else:
                    mine.parcels[number] = self._transport.pack(pickle.dumps(act))
            if number is None:
                return
            mine.turn = next(self._turns)
            worker.round, worker.shard = mine.number, number
            self._send(worker, mine.parcels[number])

    def close(self) -> None:
        """See Workers.close."""
        with self._change:
            self._end.set()
            while self._listens:  # it ends by itself soon, and must not read what is closed
                self._change.wait(_WAIT)
            for worker in self._workers:
                worker.seat.stop()
            self._workers = []
            self._transport.close()

    def _prepare(self) -> None:
        """Send each free worker the next of the acts that all workers do, if it has not done them all."""
        for worker in self._workers:
            while not worker.busy and worker.ready < len(self._common):
                common = self._common[worker.ready]
                if common.parcel is None or (common.undoes is not None and common.undoes not in worker.did):
                    worker.ready += 1
                    continue
                worker.shard = None
                self._send(worker, common.parcel)

    def _send(self, worker: _Worker, parcel: object) -> None:
        worker.busy = True
        worker.seat.send(parcel)

    def _listen(self) -> None:
        """Wait a while for answers, and give each to whom it is for; or let another thread do so that is at it."""
        if self._end.is_set():
            raise ModelError("the workers were closed while work was in hand; run the same command again")
        if not self._workers:
            raise ModelError("there are no workers any more; everything done so far is kept: run the same command again")
        of_seat = {id(worker.seat): worker for worker in self._workers if worker.busy}
        if self._listens or not of_seat:
            self._change.wait(_SHORT)
            return
        self._listens = True
        self._change.release()
        try:
            # others may send to workers meanwhile that are not listened to here
            came = self._transport.wait([w.seat for w in of_seat.values()], _SHORT if len(self._rounds) > 1 else _WAIT)
        finally:
            self._change.acquire()
            self._listens = False
            self._change.notify_all()
        if self._end.is_set():
            return
        errors: list[Exception] = []
        for seat, reply in came:
            try:
                self._take(of_seat[id(seat)], reply)
            except Exception as error:  # raised behind the other answers, for which somebody waits
                errors.append(error)
        if errors:
            raise errors[0]

    def _take(self, worker: _Worker, reply: Returned | Lost) -> None:
        """Give what came from a worker to whom it is for."""
        worker.busy = False
        if worker.shard is not None:
            self._deliver(worker.round, worker.shard, reply)
        elif isinstance(reply, Returned):
            self._done(worker, reply)
        if isinstance(reply, Lost):
            self._replace(worker, reply)

    def _deliver(self, number: int, shard: int, reply: Returned | Lost) -> None:
        """Give a reply to the round whose shard it is of; to none where that was broken off."""
        mine = self._rounds.get(number)
        if mine is None or shard not in mine.parcels:
            return
        if isinstance(reply, Returned):
            self._transport.drop(mine.parcels.pop(shard))
            mine.answers.append((shard, reply))
            return
        mine.lost[shard] = mine.lost.get(shard, 0) + 1
        mine.again.append(shard)
        if mine.lost[shard] >= MOST_LOSSES:
            mine.error = ModelError(
                f"shard {shard} took down {MOST_LOSSES} workers ({reply.why}), likely for lack of memory: give fewer workers "
                "or, where they hold a model, a smaller --batch-size; everything done so far is kept"
            )

    def _done(self, worker: _Worker, reply: Returned) -> None:
        """Note the result of an act that all workers do."""
        common = self._common[worker.ready]
        result = _opened(reply)
        if common.check is not None:
            common.check(worker.seat.name, result)
        common.results.setdefault(worker.place, result)
        worker.did.add(worker.ready)
        worker.ready += 1
        common.lost = 0

    def _replace(self, worker: _Worker, lost: Lost) -> None:
        """Start another worker at the place of one that died. Where none can be had, the others go on without it."""
        if worker.shard is None:
            common = self._common[worker.ready]
            common.lost += 1
            if common.lost >= MOST_LOSSES:
                raise ModelError(
                    f"{worker.seat.name} died before it was ready ({lost.why}), {MOST_LOSSES} times, likely for lack of "
                    f"memory: give fewer workers"
                )
        self._tell(f"{worker.seat.name} died ({lost.why}); another one takes its place")
        worker.seat.stop()
        at = self._workers.index(worker)
        del self._workers[at]
        self._workers.insert(at, _Worker(seat=self._transport.start(worker.place), place=worker.place))


def _opened(reply: Returned) -> object:
    """The result in an answer. Raises what the worker raised."""
    try:
        fine, content = pickle.loads(reply.reply)
    except Exception as error:  # it was made by code that this process lacks
        raise ModelError(
            f"the answer of a worker cannot be read here ({type(error).__name__}: {one_line(error, 200)}): every machine needs "
            "the same versions of spa-bench and of its packages"
        ) from error
    if not fine:
        raise content
    return content
