"""The report on scores and parts: plain values, kept as report.json beside them. Parts and examples count from 0.

Everything is computed from scores, labels and texts in one thread and rounded to 6 digits: the same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from spa_bench.cards.training import PartitionCard
from spa_bench.spa import encoders
from spa_bench.spa.data import hash_examples
from spa_bench.spa.partition.scaling import Scaled, Scores, kept_queries, scaled
from spa_bench.spa.words import MEASURE, top_words
from spa_bench.types import Example

FILE = "report.json"
VERSION = 1  # raise when a key changes its meaning
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_BY_QUERY = {"argmax", "balanced"}  # methods whose part p belongs to the p-th kept query
_SHOWN = 3  # examples of each query and part
_WORDS = 8
_TEXT = 200  # characters of a prompt and of a completion that are kept
_SAMPLE = 2048  # rows of the silhouette: it needs all distances between them


def of_scores(scores: Scores, examples: Sequence[Example], queries: Sequence[Example]) -> dict[str, Any]:
    """The report on a score matrix (N, M): each query's text, variance, quantiles and nearest examples."""
    return {"version": VERSION, "examples": len(examples), "queries": _of_queries(scores, examples, queries)}


def of_parts(
    labels: Sequence[int],
    k: int,
    card: PartitionCard,
    *,
    examples: Sequence[Example],
    queries: Sequence[Example],
    scores: Scores | None,
) -> dict[str, Any]:
    """The report on k parts; `scores` (N, M) is None where the method uses none."""
    of_label = np.asarray(labels)
    texts = [encoders.text_of(e) for e in examples]
    kept = kept_queries(scores, k).tolist() if scores is not None and card.method in _BY_QUERY else None
    rows = None if scores is None else scaled(scores, card.scale)
    affinity, meaning = _affinity(of_label, k, texts, rows, kept)
    words = top_words(texts, labels, k, _WORDS)
    parts = [
        {
            "part": part,
            "size": int((of_label == part).sum()),
            "query": None if kept is None else kept[part],
            "words": [{"word": word, "z": _number(z)} for word, z in words[part]],
            "defining": _defining(part, of_label, affinity, examples),
        }
        for part in range(k)
    ]
    content: dict[str, Any] = {
        "version": VERSION,
        "method": card.method,
        "scale": None if scores is None else card.scale,
        "examples": len(examples),
        "sizes": [p["size"] for p in parts],
        "silhouette": silhouette(rows, of_label),
        "words": MEASURE,
        "margin": meaning,
        "parts": parts,
        "queries": [],
    }
    if scores is not None and rows is not None:
        content["queries"] = _of_queries(scores, examples, queries)
        means = np.stack([rows[of_label == part].mean(0) for part in range(k)])
        for j, query in enumerate(content["queries"]):
            query["part"] = kept.index(j) if kept is not None and j in kept else None
            query["mean_by_part"] = _rounded(means[:, j])
    return content


def silhouette(rows: Scaled | None, labels: NDArray[np.intp]) -> dict[str, Any]:
    """Mean silhouette (Rousseeuw 1987) of rows (N, M), Euclidean, with the number of rows behind it; or the reason for none.

    It lies in [-1, 1]: near 1 where parts are apart, about 0 where they touch, below 0 where examples lie nearer to another
    part. Of more than 2,048 rows a fixed random sample is taken.
    """
    if rows is None:
        return _no_silhouette("the method looks at no scores")
    if len(rows) > _SAMPLE:
        chosen = np.sort(np.random.default_rng(0).choice(len(rows), _SAMPLE, replace=False))
        rows, labels = rows[chosen], labels[chosen]
    kinds = len(np.unique(labels))
    if kinds < 2:
        return _no_silhouette("there is one part alone")
    if kinds == len(rows):
        return _no_silhouette("every example is a part of its own")
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return {"value": _number(silhouette_score(rows, labels)), "rows": len(rows), "reason": ""}


def agreement(labels: Sequence[object], others: Sequence[object]) -> dict[str, float]:
    """The agreement of two partitions of the same examples, whatever the names of their parts.

    nmi: mutual information over the mean of the two entropies, in [0, 1]. Chance alone gives more than 0, and the more so with
    more parts and fewer examples. ami: the same, corrected for chance (Vinh et al. 2010).
    """
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    ours, theirs = ([str(label) for label in column] for column in (labels, others))
    return {
        "nmi": _number(normalized_mutual_info_score(ours, theirs)),
        "ami": _number(adjusted_mutual_info_score(ours, theirs)),
    }


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write report.json of a stage."""
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _of_queries(scores: Scores, examples: Sequence[Example], queries: Sequence[Example]) -> list[dict[str, Any]]:
    wide = scores.astype(np.float64)
    variance, quantiles = wide.var(0), np.quantile(wide, QUANTILES, axis=0)
    return [
        {
            "query": j,
            **_short(query),
            "variance": _number(variance[j]),
            "quantiles": _rounded(quantiles[:, j]),
            "nearest": [_shown(examples, int(i), score=wide[i, j]) for i in np.argsort(-wide[:, j], kind="stable")[:_SHOWN]],
        }
        for j, query in enumerate(queries)
    ]


def _affinity(
    labels: NDArray[np.intp], k: int, texts: Sequence[str], rows: Scaled | None, kept: Sequence[int] | None
) -> tuple[NDArray[np.float64], str]:
    """(affinity (N, k) of each example to each part, the meaning of a margin of it in words)."""
    if rows is not None and kept is not None:
        return rows[:, list(kept)], "scaled score of the part's query, less the highest of another part's"
    if rows is not None:
        centres = [rows[labels == part].mean(0) for part in range(k)]
        distances = np.stack([np.linalg.norm(rows - centre, axis=1) for centre in centres], axis=1)
        return -distances, "distance of the scaled scores to the nearest other part's mean, less that to the part's own"
    vectors, _ = encoders.encode(encoders.TF_IDF, texts)
    means = np.stack([np.asarray(vectors[np.flatnonzero(labels == part)].mean(axis=0)).ravel() for part in range(k)])
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(vectors @ (means / lengths).T), "TF-IDF cosine with the part's mean, less the highest with another's"


def _defining(part: int, labels: NDArray[np.intp], affinity: NDArray[np.float64], examples: Sequence[Example]) -> list[Any]:
    """The examples of a part with the highest margin; where there is one part, those with the highest affinity."""
    members = np.flatnonzero(labels == part)
    others = np.delete(affinity[members], part, axis=1)
    margin = affinity[members, part] - (others.max(1) if others.size else 0.0)
    best = np.argsort(-margin, kind="stable")[:_SHOWN]
    return [_shown(examples, int(members[i]), margin=margin[i]) for i in best]


def _shown(examples: Sequence[Example], index: int, **number: float) -> dict[str, Any]:
    example = examples[index]
    values = {name: _number(value) for name, value in number.items()}
    return {"example": index, **values, "hash": hash_examples([example]), **_short(example)}


def _short(example: Example) -> dict[str, str]:
    return {"prompt": example.prompt[:_TEXT], "completion": example.completion[:_TEXT]}


def _no_silhouette(reason: str) -> dict[str, Any]:
    return {"value": None, "rows": 0, "reason": reason}


def _number(value: SupportsFloat) -> float:
    return float(f"{float(value):.6g}") + 0.0  # no -0.0


def _rounded(values: Iterable[SupportsFloat]) -> list[float]:
    return [_number(v) for v in values]
