"""What workers of the tests hold and do: without torch, so that they start at once."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from spa_bench.errors import DataError


@dataclass
class Held:
    """What a worker holds."""

    start: int
    notes: list[str] = field(default_factory=list)


def load(start: int = 10) -> Held:
    return Held(start)


def load_never() -> Held:
    raise DataError("no such model")


def load_dying(folder: Path) -> Held:
    """Each process writes a file and dies."""
    (folder / str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return Held(0)


def add(held: Held, *, number: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return held.start + number


def process(held: Held) -> int:
    return os.getpid()


def note(held: Held, *, text: str) -> None:
    held.notes.append(text)


def forget(held: Held, *, text: str) -> None:
    held.notes.remove(text)


def notes(held: Held) -> list[str]:
    return list(held.notes)


def noted(held: Held, *, text: str) -> str:
    held.notes.append(text)
    return text


def meet(held: Held, *, name: str, other: str, folder: Path) -> str:
    """Say that this one is here, and wait until the other one is."""
    (folder / name).touch()
    return wait(held, file=folder / other) and name


def wait(held: Held, *, file: Path) -> str:
    """Wait for a file, a minute at most; its name."""
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return file.name


def die_once(held: Held, *, number: int, folder: Path) -> int:
    """The first process that does this dies of it."""
    try:
        (folder / f"died-{number}").touch(exist_ok=False)
    except FileExistsError:
        return held.start + number
    os.kill(os.getpid(), signal.SIGKILL)
    return -1


def die(held: Held) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(held: Held) -> None:
    raise DataError("pair 3 is empty: remove it")


def stumble(held: Held) -> None:
    [][0]


def write(held: Held, *, folder: Path, number: int, seconds: float) -> int:
    """Leave a file, then another one when the work is done."""
    (folder / f"begun-{number}").touch()
    time.sleep(seconds)
    (folder / f"done-{number}").touch()
    return number
