"""What the driver makes of answers of Ray's actors. The process that is connected to Ray is played by the test."""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import pytest

from spa_bench.executors import ray as ray_of_ours
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
