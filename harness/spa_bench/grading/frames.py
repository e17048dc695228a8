"""Frames among the bytes that a program's process sends: a head as sandbox/inside/calls.py has it, then the bytes it counts."""

from __future__ import annotations

from collections.abc import Iterator

from spa_bench.sandbox.inside import calls


def frames(data: bytes | bytearray) -> Iterator[tuple[bytes, float, int, int]]:
    """(code, CPU seconds, where its bytes start and stop in `data`) of each frame whose head is there.

    The last one may stop behind the end of `data`: the rest has not come.
    """
    at = 0
    while len(data) - at >= calls.FRAME.size:
        code, seconds, size = calls.FRAME.unpack_from(data, at)
        start, at = at + calls.FRAME.size, at + calls.FRAME.size + size
        yield code, seconds, start, at
