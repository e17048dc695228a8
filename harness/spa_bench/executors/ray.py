"""Workers that are actors of Ray, on this machine or on a cluster. Ray places them and moves the bytes.

`pip install 'spa-bench[ray]'`. A driver that loses Ray's head for a minute is ended by Ray itself, without a word of ours. So
while nothing comes from the actors, the head's port is looked at.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from spa_bench.errors import ModelError, UsageError
from spa_bench.executors.base import Answer, Lost, Seat, serve

_UNSEEN = 3  # looks at the head, one after another, after which it counts as gone
_CONNECT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where Ray runs, and what an actor takes of it."""

    address: str | None = None  # "auto", ray://HOST:PORT or HOST:PORT; None: a cluster of this machine alone, for this run
    workers: int = 1
    cpus: float = 1.0  # of each worker; on a cluster of this machine alone all workers' fit
    gpus: float | None = None  # of each worker, a fraction where several share one; None: 1 where the cluster has any


class _Actor:
    """What runs on the cluster."""

    def __init__(self) -> None:
        self._state: list[object] = []

    def do(self, act: bytes) -> bytes:
        """See serve."""
        return serve(self._state, act)


class _ActorSeat:
    """See Seat: an actor, and the reference to the answer that it works on."""

    def __init__(self, ray: Any, actor: Any, name: str):
        self._ray, self._actor, self.name = ray, actor, name
        self.answer: Any = None

    def send(self, parcel: object) -> None:
        """See Seat.send."""
        self.answer = self._actor.do.remote(parcel)

    def stop(self) -> None:
        """See Seat.stop."""
        try:
            self._ray.kill(self._actor)
        except Exception:  # the cluster is gone, or the actor is
            return


class RayTransport:
    """See Transport. Raises UsageError without Ray, or where no cluster answers at the address."""

    def __init__(self, options: RayOptions, tell: Callable[[str], None] = lambda _: None):
        self._ray, self._options, self.count = _ray(), options, options.workers
        self._unseen = 0
        handler = signal.getsignal(signal.SIGTERM)
        self._head = self._begin()
        if threading.current_thread() is threading.main_thread():  # Ray puts a handler of its own there
            signal.signal(signal.SIGTERM, handler)
        there = self._ray.cluster_resources()
        self.gpus = options.gpus if options.gpus is not None else float(there.get("GPU", 0) > 0)
        for what, each in (("CPU", options.cpus), ("GPU", self.gpus)):
            if each * options.workers > there.get(what, 0):
                tell(
                    f"Ray has {there.get(what, 0):g} {what}s and {options.workers} workers take {each * options.workers:g}: "
                    "some of them wait until the cluster grows"
                )

    def _begin(self) -> tuple[str, int] | None:
        """Connect, and return the head's host and port; None where Ray's client watches the connection itself."""
        ray, options = self._ray, self._options
        ray._private.worker._worker_logs_enabled = False  # no public way: Ray prints pages where an actor dies, and we a line
        if ray.is_initialized():
            raise UsageError("Ray already runs in this process; end it with ray.shutdown() first")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
        try:
            if options.address is None:
                cpus = max(1, round(options.workers * options.cpus))
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            else:
                ray.init(address=options.address, **quiet)
        except Exception as error:  # of many kinds, by what is wrong
            where = options.address or "this machine"
            raise UsageError(
                f"no cluster of Ray answers at {where} ({_line(error)}); start one with `ray start --head`, and give its "
                "address with --ray-address"
            ) from error
        if options.address is not None and options.address.startswith("ray://"):
            return None
        host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
        return host, int(port)

    def start(self, place: int) -> Seat:
        """See Transport.start."""
        options = self._options
        remote = self._ray.remote(_Actor).options(num_cpus=options.cpus, num_gpus=self.gpus, max_restarts=0)
        try:
            return _ActorSeat(self._ray, remote.remote(), f"worker {place} (Ray)")
        except Exception as error:
            raise self._gone(error) from error

    def pack(self, act: bytes) -> object:
        """See Transport.pack."""
        try:
            return self._ray.put(act)
        except Exception as error:
            raise self._gone(error) from error

    def wait(self, seats: Sequence[Seat], seconds: float) -> list[tuple[Seat, Answer | Lost]]:
        """See Transport.wait."""
        working = {seat.answer: seat for seat in seats if isinstance(seat, _ActorSeat)}
        try:
            ready, _ = self._ray.wait(list(working), num_returns=1, timeout=seconds)
        except Exception as error:
            raise self._gone(error) from error
        if not ready:
            self._look()
        found: list[tuple[Seat, Answer | Lost]] = []
        for answer in ready:
            try:
                found.append((working[answer], Answer(self._ray.get(answer))))
            except self._ray.exceptions.RayActorError as error:
                self._look(times=_UNSEEN)  # an actor also ends where its cluster does
                found.append((working[answer], Lost(_line(error))))
            except Exception as error:
                raise self._gone(error) from error
        return found

    def close(self) -> None:
        """See Transport.close."""
        if self._unseen < _UNSEEN:
            self._ray.shutdown()

    def _look(self, times: int = 1) -> None:
        """Look at the head `times` times. Raises ModelError where it has been away for too long."""
        for _ in range(times):
            if self._head is None:
                return
            try:
                socket.create_connection(self._head, _CONNECT_SECONDS).close()
                self._unseen = 0
                return
            except OSError as error:
                self._unseen += 1
                if self._unseen >= _UNSEEN:
                    raise self._gone(error) from error

    def _gone(self, error: Exception) -> ModelError:
        self._unseen = _UNSEEN
        where = self._options.address or "of this machine"
        return ModelError(
            f"the Ray cluster {where} has gone away ({_line(error)}); everything done so far is kept: start it and run the "
            "same command again"
        )


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run tells nobody of itself
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # actors without a GPU leave CUDA_VISIBLE_DEVICES alone
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError(
            f"--executor ray needs Ray, which this Python ({sys.executable}) lacks: pip install 'spa-bench[ray]'"
        ) from error
    return ray


def _line(error: Exception) -> str:
    """The kind of `error` and the beginning of its message, on one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:160]}" if words else type(error).__name__
