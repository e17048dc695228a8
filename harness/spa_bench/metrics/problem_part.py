"""The part of an interval that comes from problems: how far it reaches to each side, at any confidence."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.student import normal_quantile, t_quantile

FloatArray = NDArray[np.float64]

OF_DIFFERENCES = (-1.0, 1.0)
"""The limits of differences between rates."""
ALIKE = 1e-9
"""A smaller difference between two values of a problem is rounding."""
_FEW = 10  # fewer problems that differ from the rest say little when they are resampled
_CHUNK = 1 << 18  # resampled problems drawn at once: more leave the processor's cache


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a binomial rate. It lies within [0, 1] and has a positive width also at 0 and n.

    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = successes / n (Wilson 1927). n need not be whole. Raises
    ValueError unless n >= 1, 0 <= successes <= n and 0 < confidence < 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    z = normal_quantile((1 + confidence) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exactly 0 and 1 there; centre and half differ by rounding alone.
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


def limits_of_few(means: FloatArray, bounds: tuple[float, float]) -> tuple[float, float] | None:
    """Limits between which scores are nearly a rate, because few problems differ from the value that most share; else None.

    `means` has the value of each problem, (P,), without NaN. The limits are the shared value and the mean of the others; where
    there are no others, `bounds` of the scores, if these are finite.
    """
    if not len(means):
        return None
    _, places, counts = np.unique(np.round(means, 9), return_index=True, return_counts=True)
    shared = float(means[places[counts.argmax()]])
    others = means[np.abs(means - shared) > ALIKE]
    if not len(others):
        return bounds if np.isfinite(bounds).all() and bounds[0] <= shared <= bounds[1] else None
    if len(others) >= min(_FEW, len(means) / 2):
        return None
    other = float(others.mean())
    return min(shared, other), max(shared, other)


def unseen_reach(value: float, n: int, bounds: tuple[float, float]) -> Callable[[float], tuple[float, float]]:
    """How far the mean may lie from the value that all n problems share, if problems that were not seen lie at the bounds."""

    def reach(alpha: float) -> tuple[float, float]:
        unseen = wilson(0, n, 1 - alpha)[1]
        return unseen * (value - bounds[0]), unseen * (bounds[1] - value)

    return reach


def bootstrap_reach(
    means: FloatArray, bounds: tuple[float, float] | None, seed: int, resamples: int, *, differences: bool = False
) -> Callable[[float], tuple[float, float]]:
    """Reach of the stretched percentile interval of the mean over problems; of a rate, at least Wilson's.

    Of `differences` between rates that are 0 on all but a few problems, at least that of the rates of gains and of losses.
    """
    n, value = len(means), float(means.mean())
    replicates = np.sort(_resampled_means(means, seed, resamples))
    least, most = (0.0, 0.0) if bounds is None or differences else bounds
    # Scores at their limits are worth n problems. Those that vary less than these would are worth more than n.
    width = most - least
    worth = n * (value - least) * (most - value) / float(means.var()) if width else 0.0
    few = differences and np.count_nonzero(np.abs(means) > ALIKE) < min(_FEW, n / 2)

    def reach(alpha: float) -> tuple[float, float]:
        if alpha > 1 - 1e-9:
            stretch = math.sqrt(n / (n - 1))  # t / z would be 0 / 0 here
        else:
            stretch = t_quantile(n - 1, 1 - alpha / 2) / normal_quantile(1 - alpha / 2) * math.sqrt(n / (n - 1))
        low, high = np.quantile(replicates, (alpha / 2, 1 - alpha / 2))
        below, above = max(value - float(low), 0.0) * stretch, max(float(high) - value, 0.0) * stretch
        if worth >= 1:
            low, high = wilson((value - least) / width * worth, worth, 1 - alpha)
            below, above = max(below, value - least - low * width), max(above, least + high * width - value)
        if few:
            gains, losses = _wilson_reach(np.clip(means, 0, 1), alpha), _wilson_reach(np.clip(-means, 0, 1), alpha)
            below, above = max(below, math.hypot(gains[0], losses[1])), max(above, math.hypot(gains[1], losses[0]))
        return below, above

    return reach


def _wilson_reach(rates: FloatArray, alpha: float) -> tuple[float, float]:
    """How far Wilson's interval reaches below and above the mean of values in [0, 1]."""
    n, value, spread = len(rates), float(rates.mean()), float(rates.var())
    worth = n * value * (1 - value) / spread if spread else n
    low, high = wilson(value * worth, worth, 1 - alpha)
    return value - low, high - value


def _resampled_means(means: FloatArray, seed: int, resamples: int) -> FloatArray:
    """Means over as many problems as there are, drawn with replacement, shape (resamples,)."""
    n = len(means)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    return np.concatenate(
        [means[rng.integers(0, n, (min(step, resamples - start), n))].mean(axis=1) for start in range(0, resamples, step)]
    )
