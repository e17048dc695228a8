"""Measures that depend on the number of pairs: at m pairs, the same m for all sets, on random subsets (metrics.jackknife)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spa_bench.datasets.measures import ORDERS
from spa_bench.datasets.pool import FloatArray, IntArray, Pool
from spa_bench.metrics.jackknife import over_subsets
from spa_bench.metrics.lexical import compression_ratio
from spa_bench.metrics.ngrams import Counts
from spa_bench.metrics.vendi import vendi_scores
from spa_bench.types import Estimate

MOST = 128
"""Pairs of a subset, where sets are large enough: more cost more, and resolve little more."""
FEWEST = 32
"""A set of fewer pairs does not decide m, because all others would be measured at less; it then has no such measures."""
_INF = math.inf
Measured = Mapping[str, float]
Rows: TypeAlias = "NDArray[np.floating] | sparse.csr_array"
"""Vectors, a row each, dense or sparse."""


def not_tiny(counts: Sequence[int]) -> list[int]:
    """The numbers of pairs without those of tiny sets: fewer than 32, and less than half as many as the largest has."""
    least = min(FEWEST, max(counts) / 2)
    return [count for count in counts if count >= least]


def shared_size(counts: Sequence[int], wanted: int | None = None) -> int:
    """m: half of the smallest set that is not tiny, at most 128; 0 where no set has 2 pairs.

    A subset has half of a set at most, because the interval is from subsets that differ. `wanted` takes the place of that.
    """
    return min(MOST, min(not_tiny(counts)) // 2) if wanted is None else wanted


def of_sets(subset_values: Sequence[Measured], items: int, size: int, most: Mapping[str, float]) -> dict[str, Estimate]:
    """Name -> the mean over subsets with its interval. `most` has upper bounds that are not infinite; the lower one is 0."""
    names = dict.fromkeys(name for values in subset_values for name in values)
    return {
        name: over_subsets(
            [values.get(name, math.nan) for values in subset_values], items, size, bounds=(0.0, most.get(name, _INF))
        )
        for name in names
    }


class SubsetMeasures:
    """Measures of any subset of a pool's pairs."""

    def __init__(self, pool: Pool, clusters: IntArray, cluster_count: int, vectors: Rows):
        """`clusters` (U,) is the cluster of each pair, `vectors` (U, d) unit vectors of the encoder, dense or sparse."""
        self._pool, self._clusters, self._cluster_count, self._vectors = pool, clusters, cluster_count, vectors
        self._grams = [_unit(counts) for counts in pool.counts]
        self._plain = [_matrix(counts) for counts in pool.counts]

    def of(self, chosen: IntArray) -> dict[str, float]:
        """The measures of the pairs at these places of the pool; a place may be there twice, as an exact duplicate."""
        found = {**_vendi("ngram", self._ngram_kernel(chosen)), **_vendi("embedding", _cosines(self._vectors, chosen))}
        for order, counts in enumerate(self._plain, 1):
            some = counts[chosen]
            found[f"distinct_{order}"] = len(np.unique(some.indices)) / some.sum() if some.nnz else math.nan
        bleu = self._pool.bleu.mean(chosen)
        found["self_bleu"] = math.nan if bleu is None else bleu
        reached = np.bincount(self._clusters[chosen], minlength=self._cluster_count)
        shares = reached[reached > 0] / len(chosen)
        found["coverage"] = float((reached > 0).mean())
        found["clusters"] = float(np.exp(-(shares * np.log(shares)).sum()))
        found["near_duplicates"] = self._near(chosen)
        found["compression_ratio[set]"] = compression_ratio([self._pool.texts[i] for i in chosen]) or math.nan
        return found

    def gradients(self, chosen: IntArray) -> dict[str, float]:
        """The Vendi scores of the gradients of these pairs, all of which must have one."""
        return _vendi("gradient", _cosines(self._pool.rows["gradient"], chosen))

    def _ngram_kernel(self, chosen: IntArray) -> FloatArray:
        """metrics.kernels.ngram_kernel of these texts."""
        kernels = []
        for unit, empty in self._grams:
            kernel = _cosines(unit, chosen)
            none = empty[chosen]
            kernel[np.ix_(none, none)] = 1.0
            kernels.append(kernel)
        return np.asarray(np.mean(kernels, axis=0))

    def _near(self, chosen: IntArray) -> float:
        there = np.bincount(chosen, minlength=len(self._pool.items))
        twins = self._pool.twins
        return float(np.mean([there[i] > 1 or any(there[j] for j in twins[i]) for i in chosen]))


def earlier_twins(pool: Pool, places: IntArray) -> float:
    """The share of a set's pairs that have a twin, exact or near, earlier in the set."""
    seen: set[int] = set()
    count = 0
    for place in places.tolist():
        count += place in seen or any(twin in seen for twin in pool.twins[place])
        seen.add(place)
    return count / len(places)


def _vendi(kernel: str, matrix: NDArray[np.floating]) -> dict[str, float]:
    np.fill_diagonal(matrix, 1.0)
    scores = vendi_scores(np.clip(matrix, -1.0, 1.0), [float(order) for order in ORDERS])
    return {f"vendi[{kernel},q={order}]": score for order, score in zip(ORDERS, scores, strict=True)}


def _cosines(unit: Rows, chosen: IntArray) -> FloatArray:
    some = unit[chosen]
    product = some @ some.T
    dense = product if isinstance(product, np.ndarray) else product.toarray()
    return np.asarray((dense + dense.T) / 2, dtype=np.float64)  # exactly symmetric


def _matrix(counts: Counts) -> sparse.csr_array:
    shape = (counts.items, int(counts.kinds[-1]) + 1 if len(counts.kinds) else 1)
    return sparse.csr_array((counts.counts.astype(np.float64), (counts.rows, counts.kinds)), shape=shape)


def _unit(counts: Counts) -> tuple[sparse.csr_array, NDArray[np.bool_]]:
    """(rows of length 1, whether each row has no n-gram at all)."""
    matrix = _matrix(counts)
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array(1 / np.where(lengths > 0, lengths, 1.0)) @ matrix), lengths == 0
