"""Metrics of answers without right or wrong, over the classes in which a task puts them: distinct_k and utility_k.

The values are those of NoveltyBench (Zhang et al. 2025, arXiv 2504.05228): utility is on the scale of the quality, 1 to 10,
with 0 for an answer whose class has been seen, so that it lies between 0 and 10.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spa_bench.metrics.metric import Samples, Value, digests
from spa_bench.metrics.novelty import utility_k
from spa_bench.metrics.rarefaction import expected_classes, subsets
from spa_bench.metrics.texts import class_counts

MOST_QUALITY = 10.0


def open_values(samples: Samples, sizes: Sequence[int]) -> dict[str, dict[int, Value]]:
    """Metric name -> size -> value: of utility at all n samples in their own order, at fewer the mean over random subsets.

    See `rarefaction`. A value is None where the design has no such size, where a problem has right answers, where none of its
    answers has a class, and for utility where the quality of an answer with a class is not known. Failed samples have no class
    and add nothing, so that a problem to which nothing was answered has 0 of both.
    """
    n = len(samples.texts)
    found: dict[str, dict[int, Value]] = {name: dict.fromkeys(sizes) for name in ("distinct_k[class]", "utility_k[class]")}
    if samples.judged:
        return found
    labels = digests(samples) or [None] * n
    if not any(labels) and not all(samples.failed):
        return found
    table = class_counts(labels, samples.members)
    known = [q for q, label in zip(samples.qualities, labels, strict=True) if label] if samples.qualities else [None]
    worth = [q or 0.0 for q in samples.qualities]
    for size in sizes:
        chosen = subsets(n, samples.members, size, problem=samples.problem)
        if chosen is None:
            continue
        each = chosen.tolist()
        found["distinct_k[class]"][size] = expected_classes(table, n, size)
        if None not in known:
            found["utility_k[class]"][size] = float(
                np.mean(
                    [utility_k([labels[i] for i in some], [worth[i] for i in some], patience=samples.patience) for some in each]
                )
            )
    return found
