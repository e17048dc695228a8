"""Many subsets of the samples of one problem as flat arrays, so that a metric is computed of all of them in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.ngrams import Counts, IntArray

_AT_ONCE = 1 << 20  # subsets x entries that are looked at together: more leave the processor's cache


@dataclass(frozen=True)
class Chosen:
    """S subsets of places, of any sizes; those of a subset lie beside each other, in its order."""

    owner: IntArray  # (P,) the subset of each place, 0..S - 1, ascending
    places: IntArray  # (P,) no place twice in a subset
    count: int  # S

    @staticmethod
    def of(subsets: Iterable[IntArray]) -> Chosen:
        """The given subsets, each an array of places."""
        given = list(subsets)
        owner = np.repeat(np.arange(len(given)), [len(one) for one in given])
        return Chosen(owner, np.concatenate([np.zeros(0, dtype=np.int64), *given]), len(given))

    def sizes(self) -> IntArray:
        """The number of places of each subset, (S,)."""
        return np.bincount(self.owner, minlength=self.count)

    def each(self) -> list[list[int]]:
        """The places of each subset."""
        places, ends = self.places.tolist(), np.cumsum(self.sizes()).tolist()
        return [places[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def keep(self, wanted: NDArray[np.bool_]) -> Chosen:
        """The places for which `wanted`, a mask (n,) over the samples, is true; a subset may become empty."""
        there = wanted[self.places]
        return Chosen(self.owner[there], self.places[there], self.count)

    def parts(self, entries: int) -> Iterator[tuple[slice, Chosen]]:
        """(the slice of the places, those subsets numbered from 0) of consecutive subsets; a place has `entries` in a table."""
        step = max(1, _AT_ONCE // max(1, entries))
        for first in range(0, self.count, step):
            last = min(first + step, self.count)
            start, end = np.searchsorted(self.owner, [first, last])
            yield slice(start, end), Chosen(self.owner[start:end] - first, self.places[start:end], last - first)


def shared(counts: Counts) -> Counts:
    """The entries of the kinds that several rows have, with their kinds numbered again from 0."""
    several = np.zeros(len(counts.kinds), dtype=bool)
    again = counts.kinds[1:] == counts.kinds[:-1]
    several[1:] |= again
    several[:-1] |= again
    kinds = counts.kinds[several]
    return Counts(counts.rows[several], np.cumsum(firsts(kinds)) - 1, counts.counts[several], counts.items)


def firsts(ascending: IntArray) -> NDArray[np.bool_]:
    """Whether each number differs from the one before it."""
    differs = np.ones(len(ascending), dtype=bool)
    differs[1:] = ascending[1:] != ascending[:-1]
    return differs


def entries_of(rows: IntArray, there: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """(subset, entry) of each entry whose row is in the subset, subset after subset; `there` is a mask (S, rows)."""
    subset, entry = np.divmod(np.flatnonzero(there[:, rows]), max(1, len(rows)))
    return subset, entry
