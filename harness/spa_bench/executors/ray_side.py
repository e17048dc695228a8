"""The process that is connected to Ray for a driver: it does the commands of RayTransport and sends back answers of actors.

A thread reads commands all the time: a driver that sends one does not read, and would wait for a process that sends an answer.
"""

from __future__ import annotations

import os
import pickle
import queue
import socket
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from spa_bench.errors import ModelError
from spa_bench.executors.base import Lost, Returned, serve
from spa_bench.executors.child import begun
from spa_bench.executors.ray import Command, Connected, RayOptions
from spa_bench.support.text import one_line

_WAIT = 0.05  # seconds for answers, between two looks at commands
_LOOK = 2.0  # seconds between two looks at the head, while nothing comes from the actors
_UNSEEN = 3  # looks, one after another, at which the head does not answer: then it is gone


class Actor:
    """What runs on the cluster."""

    def __init__(self) -> None:
        self._state: list[object] = []

    def do(self, act: bytes) -> bytes:
        """See serve."""
        return serve(self._state, act)


class _Side:
    """The actors and parcels of one driver."""

    def __init__(self, connection: Connection[Any, Any], options: RayOptions):
        self._connection, self._options = connection, options
        self._commands: queue.Queue[Command | None] = queue.Queue()  # None: there will be no more
        self._ray, self._gpus = _ray(), 0.0
        self._actors: dict[int, Any] = {}
        self._parcels: dict[int, Any] = {}
        self._working: dict[Any, int] = {}  # reference to an answer -> actor
        self._head: tuple[str, int] | None = None  # None: Ray's client watches the connection itself
        self._looked, self._unseen = time.monotonic(), 0

    def connect(self) -> Connected:
        """Connect, and say what there is."""
        ray, options = self._ray, self._options
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if options.address is None:
                cpus = max(1, round(options.workers * options.cpus))
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            else:
                ray.init(address=options.address, **quiet)
            there = ray.cluster_resources()
            if options.address is None or not options.address.startswith("ray://"):
                host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
                self._head = host, int(port)
        except Exception as error:  # of many kinds, by what is wrong
            return Connected(0.0, [], _line(error))
        self._gpus = options.gpus if options.gpus is not None else float(there.get("GPU", 0) > 0)
        notes = [
            f"Ray has {there.get(what, 0):g} {what}s and {options.workers} workers take {each * options.workers:g}: some of "
            "them wait until the cluster grows"
            for what, each in (("CPU", options.cpus), ("GPU", self._gpus))
            if each * options.workers > there.get(what, 0)
        ]
        return Connected(self._gpus, notes)

    def run(self) -> None:
        """Do commands and send answers. Raises EOFError when the driver wants no more, others where the cluster is gone."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            with suppress(queue.Empty):
                while True:
                    self._do(self._commands.get(timeout=0 if self._working else 1.0))
            if self._working:
                ready, _ = self._ray.wait(list(self._working), num_returns=1, timeout=_WAIT)
                for answer in ready:
                    self._send(answer)
            if time.monotonic() - self._looked > _LOOK:
                self._look()

    def _read(self) -> None:
        with suppress(EOFError, OSError):  # the driver wants no more, or has ended
            while True:
                self._commands.put(self._connection.recv())
        self._commands.put(None)

    def _do(self, command: Command | None) -> None:
        if command is None:
            raise EOFError
        if command.what == "start":
            remote = self._ray.remote(Actor).options(num_cpus=self._options.cpus, num_gpus=self._gpus, max_restarts=0)
            self._actors[command.worker] = remote.remote()
        elif command.what == "send":
            self._working[self._actors[command.worker].do.remote(self._parcels[command.parcel])] = command.worker
        elif command.what == "pack":
            self._parcels[command.parcel] = self._ray.put(command.act)
        elif command.what == "drop":
            self._parcels.pop(command.parcel, None)
        elif command.worker in self._actors:
            self._working = {answer: worker for answer, worker in self._working.items() if worker != command.worker}
            self._ray.kill(self._actors.pop(command.worker))

    def _send(self, answer: Any) -> None:
        worker = self._working.pop(answer)
        reply: Returned | Lost
        try:
            reply = Returned(self._ray.get(answer))
        except self._ray.exceptions.RayError as error:  # the actor has died: killed, out of memory, or with its machine
            self._look()  # an actor also ends where its cluster does
            began = not getattr(error, "actor_init_failed", False)
            reply = Lost(_line(error).partition(":")[0]) if began else _never_began(error)
        self._connection.send((worker, reply))

    def _look(self) -> None:
        """Look at whether the head still answers. Raises OSError where it has not for too long."""
        self._looked = time.monotonic()
        if self._head is None:
            return
        while True:
            try:
                socket.create_connection(self._head, _LOOK).close()
                self._unseen = 0
                return
            except OSError:
                self._unseen += 1
                if self._unseen >= _UNSEEN:
                    raise
                time.sleep(0.2)


def _never_began(error: Exception) -> Returned:
    """The answer of an actor that its machine could not make: another one would fare no better."""
    why = one_line(str(error).strip().rpartition("\n")[2], 300)
    said = ModelError(
        f"a worker of Ray cannot begin ({why}): every machine of the cluster needs the same versions of Python, spa-bench "
        "and its packages"
    )
    return Returned(pickle.dumps((False, said)))


def main() -> None:
    """Connect for one driver and serve it."""
    connection = begun()
    side = _Side(connection, connection.recv())
    said = side.connect()
    connection.send(said)
    if said.failure:
        return
    try:
        side.run()
    except EOFError:  # the driver wants no more
        side._ray.shutdown()
    except Exception as error:  # of Ray, of many kinds: there is no cluster any more
        connection.send(_line(error))
    os._exit(0)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run tells nobody of itself
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # actors without a GPU leave CUDA_VISIBLE_DEVICES alone
    import ray
    import ray.exceptions

    return ray


def _line(error: Exception) -> str:
    """The kind of `error` and the beginning of its message, on one line."""
    words = one_line(error, 160)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


if __name__ == "__main__":
    main()
