"""k-means with the same result for any number of threads, and with parts numbered by their first example."""

from __future__ import annotations

from spa_bench.cards.training import PartitionCard
from spa_bench.errors import DataError
from spa_bench.spa.encoders import Vectors
from spa_bench.support.provenance import installed

STARTS = 10  # number of random starts (k-means++), of which the best is kept
_ROUNDS = 300


def library(card: PartitionCard) -> dict[str, object]:
    """The version of scikit-learn, which the clusters depend on."""
    return {**installed("scikit-learn")}


def cluster(rows: Vectors, k: int, seed: int, what: str) -> list[int]:
    """The cluster of each row of (N, d), dense or sparse: scikit-learn's KMeans, Lloyd's algorithm, one thread.

    `what` names a row in messages. Raises DataError when fewer than k rows differ.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if (kinds := _different(rows, k)) < k:
        raise DataError(f"{k} parts by k-means need {k} different {what}; there are {kinds}: have fewer members")
    # several threads would add in the order in which they finish, which changes the last digits
    with threadpool_limits(1):
        labels = KMeans(k, init="k-means++", n_init=STARTS, max_iter=_ROUNDS, random_state=seed % (1 << 32)).fit_predict(rows)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(label), len(numbers)) for label in labels]


def _different(rows: Vectors, enough: int) -> int:
    """The number of different rows, counted up to `enough`."""
    seen: set[bytes] = set()
    for i in range(rows.shape[0]):
        row = rows[[i]]
        if hasattr(row, "tocsr"):
            seen.add(row.tocsr().indices.tobytes() + row.data.tobytes())
        else:
            seen.add((row + 0.0).tobytes())  # -0.0 is 0.0
        if len(seen) == enough:
            break
    return len(seen)
