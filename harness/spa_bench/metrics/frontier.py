"""Quality and diversity together: which samplers are on the Pareto front, and how far out.

A point is a sampler, and its coordinates are (quality, diversity), where more is better. These functions see numbers only:
scale the coordinates to comparable ranges first where a distance or R2 mixes them. `quality_diversity` gives the intervals,
by resampling problems.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def pareto_front(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which points no other point dominates, shape (N,) from (N, d).

    A point dominates another that it equals or exceeds in all coordinates and exceeds in one. Equal points do not dominate
    each other. Raises ValueError for another shape, or coordinates that are not finite.
    """
    table = _points(points)
    no_worse = (table[:, None] >= table[None]).all(axis=2)
    better = (table[:, None] > table[None]).any(axis=2)
    dominated: NDArray[np.bool_] = np.asarray((no_worse & better).any(axis=0))
    return ~dominated


def hypervolume(points: NDArray[np.floating], reference: Sequence[float]) -> float:
    """The volume that the points dominate above `reference`, shape (d,): the union of the boxes from it to each point.

    Points that are not above the reference in all coordinates add nothing. In 2 dimensions the volume is computed by a sweep;
    in d dimensions it is cut into slabs along the last coordinate, which is exact for any d and takes time exponential in d
    (Zitzler & Thiele 1998). It grows whenever a point of the front moves outwards. It depends on the reference, so state it:
    (0, 0) for rates. Raises ValueError as `pareto_front`, and for a reference of another length.
    """
    table, origin = _points(points), np.asarray(reference, dtype=np.float64)
    if origin.shape != (table.shape[1],) or not np.isfinite(origin).all():
        raise ValueError(f"the reference of {table.shape[1]}-dimensional points needs as many finite numbers, not {reference}")
    gains = table - origin
    return _volume(gains[(gains > 0).all(axis=1)])


def r2(points: NDArray[np.floating], ideal: Sequence[float], *, weights: int = 101) -> float:
    """The R2 indicator of a set, at least 0 when no point passes the ideal; less is better.

    It is the mean over weights w of min over points of max_j w_j (ideal_j - x_j): the expected loss, under a weighted
    Tchebycheff utility, of a user who does not say which weights (Hansen & Jaszkiewicz 1998; the unary form of Brockhoff et
    al. 2012). `ideal` is the point of reference that utilities are measured from: (1, 1) for rates. Weights are uniform on the
    simplex: w = (i, m - i) / m for i = 0..m, m = `weights` - 1, so it exists in 2 dimensions only. Raises ValueError as
    `pareto_front`, for other dimensions and for weights < 2.
    """
    table, goal = _points(points), np.asarray(ideal, dtype=np.float64)
    if table.shape[1] != 2 or goal.shape != (2,) or not np.isfinite(goal).all():
        raise ValueError(f"R2 is for points and an ideal of 2 coordinates, not {table.shape[1]} and {list(ideal)}")
    if weights < 2:
        raise ValueError(f"R2 needs at least 2 weights, not {weights}")
    first = np.linspace(0.0, 1.0, weights)
    loss = np.stack([first, 1 - first], axis=1)[:, None, :] * (goal - table)
    return float(loss.max(axis=2).min(axis=1).mean())


def qd_score(niches: Sequence[Hashable | None], fitness: Sequence[float], *, normalised: bool = True) -> float:
    """The QD-score of the answers to one problem: the sum over occupied niches of the best fitness in each.

    `niches[i]` says where answer i belongs (a class of behaviour, a syntax tree; None: nowhere) and `fitness[i]` >= 0 how
    good it is (Pugh, Soros & Stanley 2016). With fitness 0 or 1 it counts the distinct right answers. `normalised` divides
    by n, which keeps it in [0, 1] for fitness in [0, 1]. It still falls with n, as niches fill up: compare at equal n only.

    Raises ValueError when there is no answer, lengths differ, or a fitness is negative or not finite.
    """
    if not niches or len(niches) != len(fitness):
        raise ValueError(f"{len(niches)} niches and {len(fitness)} fitnesses: there must be one of each for an answer")
    best: dict[Hashable, float] = {}
    for niche, value in zip(niches, fitness, strict=True):
        if not 0 <= value < np.inf:
            raise ValueError(f"a fitness is finite and at least 0, not {value}; an empty niche counts as 0")
        if niche is not None:
            best[niche] = max(best.get(niche, 0.0), float(value))
    total = sum(best.values())
    return total / len(niches) if normalised else total


def distance_to_front(point: Sequence[float], sweep: NDArray[np.floating]) -> float:
    """The signed distance of a point to the front that a sweep draws: above 0 outside (better), below 0 inside.

    `sweep`, shape (M, 2), are the points of one sampler at M settings, such as temperatures. Its front is the broken line
    through its non-dominated points in order, extended horizontally from the left end and vertically from the right end: a
    point that is worse than the best in one coordinate is inside, however far it lies in the other. The lines between settings
    are straight, because a user can mix two settings by tossing a coin for each problem, and the means over problems then lie
    on the line. The line may have dents where a mixture of settings that are not neighbours would do better. The distance is
    Euclidean: scale the coordinates first. Raises ValueError as `pareto_front`, and unless both are 2-d.
    """
    table, place = _points(sweep), np.asarray(point, dtype=np.float64)
    if table.shape[1] != 2 or place.shape != (2,) or not np.isfinite(place).all():
        raise ValueError(f"a distance is for a point and a sweep of 2 coordinates, not {list(point)} and {table.shape[1]}")
    return float(signed_distances(place, np.unique(table[pareto_front(table)], axis=0)))


def signed_distances(place: FloatArray, front: FloatArray) -> float:
    """`distance_to_front` for a front that is sorted by its first coordinate and has no equal or dominated points."""
    # The ends are extended horizontally and vertically, further than the nearest point of the front can lie.
    far = 1.0 + np.abs(front - place).max() * 4
    line = np.concatenate([[[front[0, 0] - far, front[0, 1]]], front, [[front[-1, 0], front[-1, 1] - far]]])
    starts, steps = line[:-1], np.diff(line, axis=0)
    along = ((place - starts) * steps).sum(axis=1) / (steps**2).sum(axis=1)
    nearest = starts + np.clip(along, 0.0, 1.0)[:, None] * steps
    distance = float(np.sqrt(((place - nearest) ** 2).sum(axis=1)).min())
    if place[0] > front[-1, 0]:
        return distance
    if distance == 0:
        return 0.0
    height = np.interp(place[0], front[:, 0], front[:, 1])  # horizontal left of the front, as the line is
    return distance if place[1] > height else -distance


def _volume(gains: FloatArray) -> float:
    """The volume of the union of the boxes from 0 to each row, all positive."""
    if len(gains) == 0:
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    ordered = gains[np.argsort(-gains[:, -1], kind="stable")]
    depths = ordered[:, -1] - np.append(ordered[1:, -1], 0.0)
    if gains.shape[1] == 2:
        return float(depths @ np.maximum.accumulate(ordered[:, 0]))
    # Between two neighbouring values of the last coordinate, the cut is the union of the boxes that reach so far.
    return float(sum(depth * _volume(ordered[: i + 1, :-1]) for i, depth in enumerate(depths) if depth > 0))


def _points(points: NDArray[np.floating]) -> FloatArray:
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"points have the shape (points, coordinates), none of them 0, not {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("a coordinate is missing or infinite; leave such points out")
    return table
