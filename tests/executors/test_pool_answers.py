"""What the pool makes of what comes from its workers, in whatever order it comes. The workers are played in this process."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import subprocess
from collections.abc import Sequence
from functools import partial

import acts
import pytest

from spa_bench.errors import DataError, ModelError
from spa_bench.executors import local
from spa_bench.executors.base import Lost, Returned, Seat, serve
from spa_bench.executors.local import LocalTransport, WorkerPlace
from spa_bench.executors.pool import Pool

DEADLY = pickle.dumps(acts.die)


class Player:
    """See Seat: a worker that answers when it is asked, unless it is `held`; it dies of the deadly act."""

    def __init__(self, place: int):
        self.name, self.held, self.stopped = f"worker {place} (played)", False, False
        self._state, self._parcel = list[object](), b""

    def send(self, parcel: object) -> None:
        assert isinstance(parcel, bytes)
        self._parcel = parcel

    def stop(self) -> None:
        self.stopped = True

    def answers(self) -> list[Returned | Lost]:
        if self.stopped:
            raise OSError("handle is closed")
        parcel, self._parcel = self._parcel, self._parcel if self.held else b""
        if self.held or not parcel:
            return []
        return [Lost("it fell") if parcel == DEADLY else Returned(serve(self._state, parcel))]


class Stage:
    """See Transport. All busy workers that are not held answer together, and at least one must."""

    def __init__(self, count: int):
        self.count, self.left = count, 9
        self.players: list[Player] = []

    def start(self, place: int) -> Seat:
        if len(self.players) >= self.left:
            raise ModelError("there is no room for another one")
        self.players.append(Player(place))
        return self.players[-1]

    def pack(self, act: bytes) -> object:
        return act

    def drop(self, parcel: object) -> None:
        pass

    def wait(self, seats: Sequence[Seat], seconds: float) -> list[tuple[Seat, Returned | Lost]]:
        came = [(seat, reply) for seat in seats if isinstance(seat, Player) for reply in seat.answers()]
        assert came, "whoever waits here waits for ever"
        return came

    def close(self) -> None:
        pass


def test_an_answer_beside_a_failure_of_another_worker_is_kept():
    stage = Stage(2)
    pool = Pool(stage, acts.load)
    stage.players[1].held = True
    earlier = pool.each(partial(acts.add, number=n) for n in range(2))
    assert next(earlier) == (0, 10)
    stage.players[1].held = False
    with (
        pytest.raises(DataError, match="pair 3 is empty"),
        pool.lasting(acts.refuse, partial(acts.note, text="never")),
    ):
        list(pool.each([partial(acts.add, number=2)]))
    assert list(earlier) == [(1, 11)]


def test_an_act_of_all_workers_that_takes_down_three_ends_the_run():
    stage = Stage(2)
    pool = Pool(stage, acts.load)
    with pytest.raises(ModelError, match=r"died before it was ready \(it fell\), 3 times"):
        pool.everywhere(acts.die)
    assert len(stage.players) < 7


def test_without_room_for_another_worker_the_others_go_on():
    stage = Stage(2)
    pool = Pool(stage, acts.load)
    stage.left = 2
    with pytest.raises(ModelError, match="no room"):
        list(pool.each([acts.die]))
    assert sorted(pool.each(partial(acts.add, number=n) for n in range(3))) == [(0, 10), (1, 11), (2, 12)]
    with pytest.raises(ModelError, match="no room"):
        list(pool.each([acts.die]))
    for ask in (lambda: list(pool.each([acts.notes])), lambda: pool.everywhere(acts.notes)):
        with pytest.raises(ModelError, match=r"^there are no workers any more"):
            ask()


def test_after_the_end_no_results_are_taken_for_those_of_all_workers():
    pool = Pool(Stage(1), acts.load)
    pool.close()
    with pytest.raises(ModelError, match=r"^the workers were closed while work was in hand"):
        pool.everywhere(acts.notes)


def test_a_worker_that_the_system_is_slow_to_end_leaves_no_other_running(monkeypatch: pytest.MonkeyPatch):
    killed: list[int] = []

    class Slow:
        """A process that gives back much memory: it is there for a while after it was killed."""

        def __init__(self, number: int):
            self.number = number

        def kill(self) -> None:
            killed.append(self.number)

        def wait(self, seconds: float) -> int:
            raise subprocess.TimeoutExpired("a worker", seconds)

    begun = iter(range(2))
    monkeypatch.setattr(local, "begin", lambda *_: (Slow(next(begun)), multiprocessing.Pipe()[0]))
    monkeypatch.setattr(Pool, "_await", lambda *_: [])
    Pool(LocalTransport([WorkerPlace("cpu", {})] * 2), acts.load).close()
    assert killed == [0, 1]


def test_a_machine_without_room_for_another_process_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> object:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(local, "begin", full)
    with pytest.raises(ModelError, match=r"^cannot start worker 0 of 2: Too many open files; give fewer workers$"):
        Pool(LocalTransport([WorkerPlace("cpu", {})] * 2), acts.load)


def test_an_answer_made_by_code_that_is_not_here_is_one_line(monkeypatch: pytest.MonkeyPatch):
    pool = Pool(Stage(1), acts.load)
    foreign = pickle.dumps((True, acts.Held(1))).replace(b"acts", b"gone")  # as of a module that another version has
    monkeypatch.setattr(Player, "answers", lambda self: [Returned(foreign)])
    with pytest.raises(ModelError, match=r"cannot be read here \(ModuleNotFoundError: No module named 'gone'\): every machine"):
        list(pool.each([acts.notes]))
