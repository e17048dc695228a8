"""Rows in passes of a bounded number of tokens: of similar length, the longest first, fewer at a time where memory ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from spa_bench.models.hf.failures import within_memory

TOKENS = {"cpu": 1024, "cuda": 8192}  # padded tokens of one pass: a CPU's cache holds no more, a GPU is busy with these


def row_groups(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices of `lengths` in groups that take at most `tokens` when padded to their longest, the longest group first.

    A length above `tokens` has a group of its own. Equal lengths keep their order.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def halves(rows: Sequence[int], pieces: int) -> list[list[int]]:
    """`rows` in order as at most `pieces` parts of nearly equal size, none of them empty."""
    pieces = min(pieces, len(rows))
    ends = [len(rows) * i // pieces for i in range(pieces + 1)]
    return [list(rows[a:b]) for a, b in pairwise(ends)]


def run_within_memory(groups: Sequence[Sequence[int]], act: Callable[[list[int]], None]) -> int:
    """Call `act` with the rows of each group, or with parts of them where memory ends; the number of parts of the last group.

    A group that does not fit is halved, and later groups are cut into as many parts from the start. So `act` must leave nothing
    behind when it fails. Raises MemoryError when a single row does not fit.
    """
    pieces = 1
    for group in groups:
        waiting = halves(group, pieces)
        while waiting:
            rows = waiting.pop(0)
            if within_memory(partial(_done, act, rows)):
                continue
            if len(rows) == 1:
                raise MemoryError("out of memory with a single row")
            pieces *= 2
            waiting = [part for rest in (rows, *waiting) for part in halves(rest, 2)]
    return pieces


def _done(act: Callable[[list[int]], None], rows: list[int]) -> bool:
    act(rows)
    return True
