"""How much data is worth having: a saturating law fitted to a metric at several shares of the data, with its intervals.

    y(x) = a - b exp(-x / s),  b >= 0, s > 0

a is the plateau, s the scale: with each further s of data the shortfall from the plateau falls to 37 % of what it was. Scaling
laws are usually written with a power, a - b x^-c (Hestness et al. 2017, arXiv 1712.00409). We take the exponential, because
what is asked is where more data stops to matter: it reaches its plateau within a few s, while a power's plateau may lie far
outside all data that were seen, and few shares with noise do not determine it. It is also the form in which data that are
repeated, or resemble what has been learned, lose their value (Muennighoff et al. 2023, arXiv 2305.16264; Goyal et al. 2024,
arXiv 2404.07177).

For each s of a grid, a and b are least squares, so the fit has no local minimum. The grid ends at the largest share: data whose
scale lies beyond them still rise, and show no plateau. Intervals come from fitting the law again to
resampled values: problems are drawn with replacement, the same for all shares, and the seeds' part is added as Student's t with
the covariance of the seed means. The draws' noise is in both parts, so intervals err on the wide side, as those of `intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.types import Estimate

FloatArray = NDArray[np.float64]

RESAMPLES = 1000
FEWEST = 4
"""Different shares below which three numbers cannot be fitted."""
_GRID = 121  # scales that are tried, from a fifth of the smallest share to the largest one
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Law:
    """A fitted law. An estimate without a value is not determined by the data, and its reason says why."""

    shares: tuple[float, ...]  # that were measured, ascending
    tolerance: float  # how far below the plateau is near enough
    plateau: Estimate  # a
    shortfall: Estimate  # b exp(-x / s) at the smallest share: what that lacks to the plateau
    scale: Estimate  # s, a share of the data
    recommended: Estimate  # the smallest share, not below the smallest measured, within `tolerance` of the plateau
    fitted: tuple[float, ...]  # y at each share by the fit

    def at(self, x: float) -> float:
        """y at a share between the measured ones, by the line between the fitted points on a logarithmic axis."""
        return float(np.interp(math.log(x), np.log(self.shares), self.fitted))


def fit(shares: Sequence[float], scores: NDArray[np.floating], *, tolerance: float, seed: int = 0) -> Law:
    """The law of scores (J, S, P) at J different shares, for S seeds and P problems; NaN marks a missing score.

    Shares are in (0, 1]. Only seeds and problems with a score at every share count, so that all shares are compared on the
    same. Not determined is the plateau where the metric still rises at the largest share (more than 2.5 % of the resamples
    end at the largest scale, and lack more than the tolerance there); the scale there too, and where the shortfall is not
    resolved from 0; and the recommended share where its interval reaches beyond all of the data. Of fewer than two problems
    nothing is determined. Raises ValueError for another shape, for shares that do not ascend, and unless the tolerance is
    positive.
    """
    x, table = np.asarray(shares, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if table.ndim != 3 or len(table) != len(x) or (np.diff(x) <= 0).any() or (x <= 0).any():
        raise ValueError(
            f"scores have the shape (shares, seeds, problems) with ascending shares, not {table.shape} at {shares}"
        )
    if not tolerance > 0:
        raise ValueError(f"the tolerance is {tolerance}; it must be positive")
    if len(x) < FEWEST:
        return _nothing(shares, tolerance, f"{len(x)} shares, and the law needs {FEWEST}")
    if np.isnan(table).all(axis=(1, 2)).any():
        return _nothing(shares, tolerance, "a share has no value")
    table = _complete(table)
    if (problems := table.shape[2]) < 2:
        return _nothing(shares, tolerance, f"{problems} problem{'s' * (problems != 1)} with a value at every share")
    scales = np.geomspace(x[0] / 5, x[-1], _GRID)
    whole = _Fits.of(x, scales, np.nanmean(table, axis=(1, 2))[None])
    again = _Fits.of(x, scales, _resampled(table, seed))
    return _law(shares, tolerance, whole, again, table)


@dataclass(frozen=True, kw_only=True)
class _Fits:
    """The law fitted to each of R rows of values."""

    plateau: FloatArray  # (R,)
    rise: FloatArray  # (R,) b
    scale: FloatArray  # (R,)
    edge: NDArray[np.bool_]  # (R,) whether the best scale is the largest that was tried
    values: FloatArray  # (R, J) at the shares
    x: FloatArray

    @staticmethod
    def of(x: FloatArray, scales: FloatArray, y: FloatArray) -> _Fits:
        """Least squares of rows y (R, J). Where the best rise would be negative, the metric does not rise, and b is 0."""
        shapes = np.exp(-x / scales[:, None])  # (G, J)
        centred = shapes - shapes.mean(1, keepdims=True)
        rise = -(y @ centred.T) / (centred**2).sum(1)  # (R, G)
        rise = np.clip(rise, 0.0, None)
        plateau = y.mean(1, keepdims=True) + rise * shapes.mean(1)
        values = plateau[..., None] - rise[..., None] * shapes  # (R, G, J)
        best = ((values - y[:, None]) ** 2).sum(2).argmin(1)
        rows = np.arange(len(y))
        flat = rise[rows, best] == 0
        edge = (best == len(scales) - 1) & ~flat
        return _Fits(
            plateau=plateau[rows, best],
            rise=rise[rows, best],
            scale=scales[best],
            edge=edge,
            values=values[rows, best],
            x=x,
        )

    def shortfall(self) -> FloatArray:
        """What the smallest share lacks to the plateau, (R,)."""
        return np.asarray(self.rise * np.exp(-self.x[0] / self.scale), dtype=np.float64)

    def rising(self, tolerance: float) -> NDArray[np.bool_]:
        """Whether the largest share lacks more than the tolerance, and nobody can say how much, (R,)."""
        return np.asarray(self.edge & (self.rise * np.exp(-self.x[-1] / self.scale) > tolerance))

    def recommended(self, tolerance: float) -> FloatArray:
        """The smallest share within the tolerance of the plateau, (R,); infinite beyond all of the data."""
        with np.errstate(divide="ignore"):
            wanted = self.scale * np.log(np.maximum(self.rise, 1e-300) / tolerance)
        found = np.maximum(wanted, self.x[0])
        beyond = self.edge & (self.shortfall() > tolerance)
        return np.where(beyond | (found > 1.0), np.inf, found)


def _law(shares: Sequence[float], tolerance: float, whole: _Fits, again: _Fits, table: FloatArray) -> Law:
    n, problems = len(again.plateau), table.shape[2]
    note = "interval over problems only" if table.shape[1] < 2 else ""
    short = _percentiles(whole.shortfall()[0], again.shortfall(), problems, note)
    plateau, scale = (_percentiles(one[0], many, problems, note) for one, many in _pairs(whole, again))
    rising, edge = again.rising(tolerance).mean(), again.edge.mean()
    limit = (1 - _CONFIDENCE) / 2
    if whole.rising(tolerance)[0] or rising > limit:
        plateau = Estimate.missing(f"not determined: it still rises at the largest share, in {rising:.0%} of {n} resamples")
    if whole.edge[0] or edge > limit:
        scale = Estimate.missing(f"not determined: it lies beyond the largest share in {edge:.0%} of {n} resamples")
    if short.low is None or short.low <= 1e-9:
        scale = Estimate.missing("not determined: no rise is resolved")
    return Law(
        shares=tuple(map(float, shares)),
        tolerance=tolerance,
        plateau=plateau,
        shortfall=short,
        scale=scale,
        recommended=_recommended(whole.recommended(tolerance)[0], again.recommended(tolerance), problems, note),
        fitted=tuple(whole.values[0].tolist()),
    )


def _complete(table: FloatArray) -> FloatArray:
    """The scores of the seeds and problems that have one at every share."""
    while True:
        there = ~np.isnan(table)
        seeds, problems = there.any(axis=2).all(axis=0), there.any(axis=1).all(axis=0)
        if seeds.all() and problems.all():
            return table
        table = table[:, seeds][:, :, problems]


def _pairs(whole: _Fits, again: _Fits) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    return (whole.plateau, again.plateau), (whole.scale, again.scale)


def _recommended(value: float, again: FloatArray, problems: int, note: str) -> Estimate:
    alpha = (1 - _CONFIDENCE) / 2
    low, high = (float(np.quantile(again, q, method="inverted_cdf")) for q in (alpha, 1 - alpha))
    if math.isinf(value) or math.isinf(high):
        least = "" if math.isinf(low) else f"; at least {low:.3g} of the data"
        return Estimate.missing(f"not determined: the interval reaches beyond all of the data{least}")
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=problems, reason=note)


def _percentiles(value: float, again: FloatArray, problems: int, note: str) -> Estimate:
    alpha = (1 - _CONFIDENCE) / 2
    low, high = (float(v) for v in np.quantile(again, (alpha, 1 - alpha)))
    return Estimate(value=float(value), low=min(low, float(value)), high=max(high, float(value)), n=problems, reason=note)


def _resampled(table: FloatArray, seed: int) -> FloatArray:
    """Means (RESAMPLES, J) over resampled problems, with the seeds' part added."""
    rng = np.random.default_rng(seed)
    by_problem = np.nanmean(table, axis=1)  # (J, P)
    count = by_problem.shape[1]
    stretch = math.sqrt(count / (count - 1))
    middle = by_problem.mean(1)
    drawn = np.stack([by_problem[:, rng.integers(0, count, count)].mean(1) for _ in range(RESAMPLES)])
    values = np.nanmean(table, axis=(1, 2)) + stretch * (drawn - middle)
    seeds = table.shape[1]
    if seeds < 2:
        return np.asarray(values, dtype=np.float64)
    of_seeds = np.nanmean(table, axis=2)  # (J, S)
    apart = (of_seeds - of_seeds.mean(1, keepdims=True)) / math.sqrt(seeds * (seeds - 1))
    normal = rng.standard_normal((RESAMPLES, seeds)) @ apart.T  # covariance of the seed means / S
    wide = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, RESAMPLES))[:, None]
    return np.asarray(values + wide * normal, dtype=np.float64)


def _nothing(shares: Sequence[float], tolerance: float, why: str) -> Law:
    none = Estimate.missing(f"not determined: {why}")
    return Law(
        shares=tuple(map(float, shares)),
        tolerance=tolerance,
        plateau=none,
        shortfall=none,
        scale=none,
        recommended=none,
        fitted=(),
    )
