"""Workers that are processes of this machine, one for each place."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for

from spa_bench.errors import ModelError
from spa_bench.executors.base import Lost, Returned, Seat
from spa_bench.executors.child import begin

_STOP_SECONDS = 5.0  # that a worker which was killed may take to end


@dataclass(frozen=True)
class WorkerPlace:
    """Where a local worker runs."""

    name: str  # of its device, for messages
    environment: Mapping[str, str]  # that it gets beside the driver's: which GPU it sees


class _Process:
    """See Seat: a process, and the socket to it."""

    def __init__(self, name: str, environment: Mapping[str, str]):
        self.name = name
        self._process, self.connection = begin("spa_bench.executors.worker", environment)

    def send(self, parcel: object) -> None:
        """See Seat.send. A worker that has died meanwhile shows in `received`."""
        assert isinstance(parcel, bytes)
        try:
            self.connection.send_bytes(parcel)
        except OSError:
            return

    def received(self) -> Returned | Lost:
        """What came over the socket, where something is ready."""
        try:
            return Returned(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._process.kill()
            return Lost(_ended(self._process.wait()))

    def stop(self) -> None:
        """See Seat.stop. The system may take longer to end a process that holds much memory, and is not waited for."""
        self.connection.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)


class LocalTransport:
    """See Transport: a process for each of `places`."""

    def __init__(self, places: Sequence[WorkerPlace]):
        self._places, self.count = places, len(places)

    def start(self, place: int) -> Seat:
        """See Transport.start."""
        try:
            return _Process(f"worker {place} ({self._places[place].name})", self._places[place].environment)
        except OSError as error:  # no more processes or open files, or no memory for one
            raise ModelError(f"cannot start worker {place} of {self.count}: {error.strerror}; give fewer workers") from error

    def pack(self, act: bytes) -> object:
        """See Transport.pack."""
        return act

    def drop(self, parcel: object) -> None:
        """See Transport.drop."""

    def wait(self, seats: Sequence[Seat], seconds: float) -> list[tuple[Seat, Returned | Lost]]:
        """See Transport.wait."""
        processes = {seat.connection: seat for seat in seats if isinstance(seat, _Process)}
        ready = wait_for(list(processes), seconds)
        return [(seat, seat.received()) for connection, seat in processes.items() if connection in ready]

    def close(self) -> None:
        """See Transport.close."""


def _ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
