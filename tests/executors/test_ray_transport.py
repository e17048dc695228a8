"""What the driver makes of answers of Ray's actors. The process that is connected to Ray is played by the test."""

from __future__ import annotations

import importlib.util
import multiprocessing
import pickle
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import pytest

from spa_bench.errors import UsageError
from spa_bench.executors import ray as ray_of_ours
from spa_bench.executors import ray_side
from spa_bench.executors.base import Lost, Returned
from spa_bench.executors.ray import Connected, RayOptions, RayTransport


@dataclass
class Process:
    """A process that ends when it is asked to."""

    asked: list[str] = field(default_factory=list)

    def wait(self, seconds: float = 0) -> int:
        self.asked.append("wait")
        return 0

    def kill(self) -> None:
        self.asked.append("kill")


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> tuple[RayTransport, Connection[Any, Any]]:
    """A transport of two workers, and the other end of its connection."""
    ours, theirs = multiprocessing.Pipe()
    theirs.send(Connected(0.0, []))
    monkeypatch.setattr(ray_of_ours, "begin", lambda *_, **__: (Process(), ours))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    return RayTransport(RayOptions(workers=2)), theirs


def test_an_answer_of_an_actor_that_nobody_listened_to_is_kept(ends: tuple[RayTransport, Connection[Any, Any]]):
    transport, side = ends
    first, second = transport.start(0), transport.start(1)
    side.send((0, Returned(b"of the first")))
    side.send((1, Returned(b"of the second")))
    assert transport.wait([second], 5) == [(second, Returned(b"of the second"))]
    assert transport.wait([first, second], 5) == [(first, Returned(b"of the first"))]
    assert transport.wait([first, second], 0) == []
    side.send((0, Returned(b"again")))
    assert transport.wait([second], 5) == []
    side.send((1, Lost("it died")))
    assert transport.wait([first, second], 5) == [(first, Returned(b"again")), (second, Lost("it died"))]


def test_what_comes_from_an_actor_that_was_stopped_is_dropped(ends: tuple[RayTransport, Connection[Any, Any]]):
    transport, side = ends
    first, second = transport.start(0), transport.start(1)
    side.send((0, Returned(b"early")))
    assert transport.wait([second], 5) == []
    first.stop()
    side.send((0, Returned(b"late")))
    side.send((1, Returned(b"of the second")))
    assert transport.wait([first, second], 5) == [(second, Returned(b"of the second"))]
    begun = time.monotonic()
    assert transport.wait([second], 0.3) == []
    assert time.monotonic() - begun > 0.2  # it waits: nothing is left of the stopped one


MUCH = bytes(1 << 23)  # more than a socket holds


class Ray:
    """As much of the package as the connected process calls. An actor answers with MUCH, and `asked` is set meanwhile."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.exceptions, self.do = self, self
        self.RayError = RuntimeError

    def remote(self, *_: object) -> Ray:
        return self

    def options(self, **_: object) -> Ray:
        return self

    def put(self, act: bytes) -> bytes:
        return act

    def wait(self, working: list[Ray], **_: object) -> tuple[list[Ray], list[Ray]]:
        return working, []

    def get(self, answer: Ray) -> bytes:
        self.asked.set()
        return MUCH

    def shutdown(self) -> None:
        pass


def test_acts_and_answers_that_a_socket_does_not_hold_pass_each_other(
    ends: tuple[RayTransport, Connection[Any, Any]], monkeypatch: pytest.MonkeyPatch
):
    transport, connection = ends
    monkeypatch.setattr(ray_side, "_ray", lambda: ray)
    ray, sent = Ray(), threading.Event()
    assert isinstance(connection.recv(), RayOptions)
    side = ray_side._Side(connection, RayOptions())

    def run() -> None:
        with pytest.raises(EOFError):
            side.run()

    def send_much() -> None:
        transport.pack(MUCH)
        sent.set()

    begun = threading.Thread(target=run, daemon=True)
    begun.start()
    seat = transport.start(0)
    seat.send(transport.pack(b""))
    assert ray.asked.wait(10)
    threading.Thread(target=send_much, daemon=True).start()
    assert sent.wait(10), "the driver sends and the other process answers, and neither reads"
    assert transport.wait([seat], 10) == [(seat, Returned(MUCH))]
    transport.close()
    begun.join(10)
    assert not begun.is_alive()


def test_a_process_that_ends_before_it_says_a_word_is_no_cluster(monkeypatch: pytest.MonkeyPatch):
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    process = Process()
    monkeypatch.setattr(ray_of_ours, "begin", lambda *_, **__: (process, ours))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    with pytest.raises(UsageError, match=r"^no cluster of Ray answers at this machine \(its process ended without a word\)"):
        RayTransport(RayOptions())
    assert process.asked == ["kill", "wait"]
    assert ours.closed


def test_ctrl_c_while_ray_starts_ends_its_process(monkeypatch: pytest.MonkeyPatch):
    class Silent:
        def send(self, _: object) -> None: ...

        def poll(self, seconds: float) -> bool:
            raise KeyboardInterrupt

        def close(self) -> None: ...

    process = Process()
    monkeypatch.setattr(ray_of_ours, "begin", lambda *_, **__: (process, Silent()))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    with pytest.raises(KeyboardInterrupt):
        RayTransport(RayOptions())
    assert process.asked == ["kill", "wait"]


def test_an_actor_that_its_machine_cannot_make_says_why_and_is_not_called_short_of_memory(monkeypatch: pytest.MonkeyPatch):
    class Dead(RuntimeError):
        """As ray.exceptions.ActorDiedError, where the machine lacks a package."""

        actor_init_failed = True

    class Lacking(Ray):
        def get(self, answer: Ray) -> bytes:
            raise Dead(
                "The actor died because of an error raised in its creation task, RuntimeError: The actor with name Actor "
                "failed to import on the worker.\n\nTraceback (most recent call last):\n"
                "ModuleNotFoundError: No module named 'spa_bench'\n"
            )

    ours, theirs = multiprocessing.Pipe()
    monkeypatch.setattr(ray_side, "_ray", lambda: lacking)
    lacking = Lacking()
    side = ray_side._Side(theirs, RayOptions())
    side._working = {lacking: 0}
    side._send(lacking)
    number, reply = ours.recv()
    fine, error = pickle.loads(reply.reply)
    assert (number, fine) == (0, False)
    assert str(error).startswith(
        "a worker of Ray cannot begin (ModuleNotFoundError: No module named 'spa_bench'): every machine"
    )
    monkeypatch.setattr(Dead, "actor_init_failed", False)
    side._working = {lacking: 0}
    side._send(lacking)
    assert ours.recv() == (0, Lost("Dead"))
