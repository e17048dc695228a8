"""Rank correlations, the linear datamodelling score, its ceiling, and intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from attribution_parts.retrain import Outputs

Scores = NDArray[np.float64]


def column_spearman(a: Scores, b: Scores) -> Scores:
    """Spearman's correlation of each column of `a` with that of `b`, over the rows; NaN where a column is constant."""
    x, y = (rankdata(m, axis=0) for m in (a, b))
    x, y = x - x.mean(0), y - y.mean(0)
    with np.errstate(invalid="ignore"):
        return (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))


def rank_correlation(scores: Scores, wanted: Scores) -> float:
    """Mean over queries of Spearman's correlation over the examples; both (examples, queries)."""
    return float(column_spearman(scores, wanted).mean())


def predicted(scores: Scores, outputs: Outputs) -> Scores:
    """(halves, queries): the sum of the scores of a half's members."""
    return outputs.member.astype(np.float64) @ scores


def lds(scores: Scores, outputs: Outputs) -> float:
    """Mean over queries of Spearman's correlation, over halves, of the summed scores and minus the mean loss over seeds."""
    return rank_correlation(predicted(scores, outputs), -outputs.loss.mean(1))


def split_half(outputs: Outputs) -> float:
    """How well the outputs predict themselves: the square root of their reliability, the highest LDS to be hoped for.

    The seeds are split in two groups in all ways (of 5: 2 and 3); the Spearman correlation of the groups' mean losses,
    averaged over queries and splits, is brought to the full number of seeds by the Spearman-Brown formula for groups of
    half of them (a little low for odd numbers). A prediction that is as good as the expected loss itself has the square
    root of that reliability as its correlation with the measured means.
    """
    return float(np.sqrt(reliability(outputs)))


def reliability(outputs: Outputs) -> float:
    """Spearman-Brown corrected correlation between disjoint groups of seeds; see split_half."""
    seeds = outputs.loss.shape[1]
    splits = [s for s in range(1, 2 ** (seeds - 1)) if bin(s).count("1") in (seeds // 2, seeds - seeds // 2)]
    found = []
    for split in splits:
        one = np.array([bool(split >> s & 1) for s in range(seeds)])
        r = rank_correlation(outputs.loss[:, one].mean(1), outputs.loss[:, ~one].mean(1))
        found.append(r)
    r = max(float(np.mean(found)), 0.0)
    return 2 * r / (1 + r)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_lds(
    scores: Mapping[str, Scores], outputs: Outputs, *, draws: int = 1000, seed: int = 0
) -> tuple[dict[str, Interval], dict[tuple[str, str], Interval]]:
    """LDS of each score matrix and the difference of each pair of them, with percentile intervals.

    Queries and halves are drawn again with replacement, the same draw for all matrices, so that differences are paired.
    """
    rng = np.random.default_rng(seed)
    loss = -outputs.loss.mean(1)
    sums = {name: predicted(s, outputs) for name, s in scores.items()}
    halves, queries = loss.shape
    drawn: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(draws):
        rows, columns = rng.integers(halves, size=halves), rng.integers(queries, size=queries)
        wanted = loss[rows][:, columns]
        for name, values in sums.items():
            drawn[name].append(float(np.nanmean(column_spearman(values[rows][:, columns], wanted))))
    samples = {name: np.array(values) for name, values in drawn.items()}
    point = {name: lds(s, outputs) for name, s in scores.items()}
    single = {name: Interval(point[name], *_quantiles(samples[name])) for name in scores}
    pairs = {
        (a, b): Interval(point[a] - point[b], *_quantiles(samples[a] - samples[b])) for a in scores for b in scores if a != b
    }
    return single, pairs


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
