"""k-means, the same in any number of threads, with parts numbered by their first example."""

from __future__ import annotations

from importlib.metadata import version

from spa_bench.cards.training import PartitionCard
from spa_bench.errors import DataError
from spa_bench.spa.encoders import Vectors

STARTS = 10  # random starts (k-means++) of which the best is kept
_ROUNDS = 300


def library(card: PartitionCard) -> dict[str, object]:
    """The version of scikit-learn, which the clusters depend on."""
    return {"scikit-learn": version("scikit-learn")}


def cluster(rows: Vectors, k: int, seed: int, what: str) -> list[int]:
    """The cluster of each row of (N, d), dense or sparse: scikit-learn's KMeans, Lloyd's algorithm, one thread.

    `what` names a row in messages. Raises DataError when fewer than k rows differ.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if (kinds := _different(rows, k)) < k:
        raise DataError(f"{k} parts by k-means need {k} different {what}; there are {kinds}: have fewer members")
    # sums are taken in the order in which threads finish: several would move the last digits
    with threadpool_limits(1):
        found = KMeans(k, init="k-means++", n_init=STARTS, max_iter=_ROUNDS, random_state=seed % (1 << 32)).fit_predict(rows)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(label), len(numbers)) for label in found]


def _different(rows: Vectors, enough: int) -> int:
    """How many different rows there are, counted up to `enough`."""
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
