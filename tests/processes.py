"""Processes below another one, as /proc has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def children(pid: int | str = "self") -> list[int]:
    """Processes whose parent is `pid`, zombies included."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def descendants(pid: int | str = "self") -> list[int]:
    """Its children and those below them."""
    direct = children(pid)
    return direct + [below for child in direct for below in descendants(child)]


def called(word: bytes, among: Iterable[int]) -> list[int]:
    """Those of some processes whose command line has the word; one that ends meanwhile has none."""
    return [pid for pid in among if word in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
