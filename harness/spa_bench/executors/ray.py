"""Workers that are actors of Ray, on this machine or on a cluster. Ray places them and moves the bytes.

`pip install 'spa-bench[ray]'`. Ray ends a process that is connected to a cluster when its part of the cluster on that machine
dies, without a word of ours. So a process of its own is connected (ray_side.py), and the driver sees that one end.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from spa_bench.errors import ModelError, UsageError
from spa_bench.executors.base import Lost, Returned, Seat
from spa_bench.executors.child import begin

_START_SECONDS = 180.0  # that Ray gets to start, or to connect
_STOP_SECONDS = 20.0  # that it gets to stop


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where Ray runs, and what an actor takes of it."""

    address: str | None = None  # "auto", ray://HOST:PORT or HOST:PORT; None: a cluster of this machine alone, for this run
    workers: int = 1
    cpus: float = 1.0  # of each worker; on a cluster of this machine alone all workers' fit
    gpus: float | None = None  # of each worker, a fraction where several share one; None: 1 where the cluster has any


@dataclass(frozen=True)
class Connected:
    """What the connected process says first."""

    gpus: float  # of each worker
    notes: list[str]  # for the user
    failure: str = ""  # why there is no cluster, on one line; "" where there is one


@dataclass(frozen=True)
class Command:
    """What the connected process is told: start, send, stop, pack or drop."""

    what: str
    worker: int = -1
    parcel: int = -1
    act: bytes = b""


class _ActorSeat:
    """See Seat: an actor, by its number."""

    def __init__(self, tell: Callable[[Command], None], came: dict[int, Returned | Lost | None], number: int, name: str):
        self._tell, self._came, self.number, self.name = tell, came, number, name
        came[number] = None

    def send(self, parcel: object) -> None:
        """See Seat.send."""
        assert isinstance(parcel, int)
        self._tell(Command("send", self.number, parcel))

    def stop(self) -> None:
        """See Seat.stop."""
        self._came.pop(self.number, None)
        self._tell(Command("stop", self.number))


class RayTransport:
    """See Transport. Raises UsageError without Ray, or where no cluster answers at the address."""

    def __init__(self, options: RayOptions, tell: Callable[[str], None] = lambda _: None):
        if importlib.util.find_spec("ray") is None:
            raise UsageError(
                f"--executor ray needs Ray, which this Python ({sys.executable}) lacks: pip install 'spa-bench[ray]'"
            )
        self._options, self.count = options, options.workers
        self._numbers = count()
        self._came: dict[int, Returned | Lost | None] = {}  # from each actor, and not yet asked for
        self._process, self._connection = begin("spa_bench.executors.ray_side", {}, silent=True)
        try:
            said = self._connected()
        except BaseException:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            raise
        self.gpus = said.gpus
        for line in said.notes:
            tell(line)

    def _connected(self) -> Connected:
        """What the process says first. Raises UsageError where there is no cluster."""
        try:
            self._connection.send(self._options)
            said = self._connection.recv() if self._connection.poll(_START_SECONDS) else None
            why = said.failure if isinstance(said, Connected) else f"nothing came for {_START_SECONDS:g} s"
        except (EOFError, OSError):
            said, why = None, "its process ended without a word"
        if isinstance(said, Connected) and not why:
            return said
        where = self._options.address or "this machine"
        raise UsageError(
            f"no cluster of Ray answers at {where} ({why}); start one with `ray start --head`, and give its address with "
            "--ray-address"
        )

    def start(self, place: int) -> Seat:
        """See Transport.start."""
        seat = _ActorSeat(self._tell, self._came, next(self._numbers), f"worker {place} (Ray)")
        self._tell(Command("start", seat.number))
        return seat

    def pack(self, act: bytes) -> object:
        """See Transport.pack."""
        parcel = next(self._numbers)
        self._tell(Command("pack", parcel=parcel, act=act))
        return parcel

    def drop(self, parcel: object) -> None:
        """See Transport.drop."""
        assert isinstance(parcel, int)
        self._tell(Command("drop", parcel=parcel))

    def wait(self, seats: Sequence[Seat], seconds: float) -> list[tuple[Seat, Returned | Lost]]:
        """See Transport.wait. What comes from an actor that another thread sent to meanwhile is kept until it is asked for."""
        try:
            while self._connection.poll(0 if any(self._came.values()) else seconds):
                said = self._connection.recv()
                if isinstance(said, str):
                    raise self._gone(said)
                number, reply = said
                if number in self._came:  # else it was stopped meanwhile
                    self._came[number] = reply
        except (EOFError, OSError) as error:
            raise self._gone("the connection broke off") from error
        found: list[tuple[Seat, Returned | Lost]] = []
        for seat in seats:
            if isinstance(seat, _ActorSeat) and (reply := self._came.get(seat.number)) is not None:
                self._came[seat.number] = None
                found.append((seat, reply))
        return found

    def close(self) -> None:
        """See Transport.close."""
        self._connection.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except Exception:  # it waits for a cluster that is gone
            self._process.kill()
            self._process.wait()

    def _tell(self, command: Command) -> None:
        try:
            self._connection.send(command)
        except OSError:  # the process has ended: `wait` says so
            return

    def _gone(self, why: str) -> ModelError:
        where = self._options.address or "of this machine"
        return ModelError(
            f"the Ray cluster {where} has gone away ({why}); everything done so far is kept: start it and run the same command "
            "again"
        )
