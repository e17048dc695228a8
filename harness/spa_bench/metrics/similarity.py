"""A similarity learned from triplets: a linear projection of embeddings, as in Quality Diversity through Human Feedback.

A triplet says that an anchor is more like its near text than like its far text. QDHF (Ding et al. 2023, arXiv 2310.12103)
projects frozen features linearly and trains with a triplet loss. We do so with one change: the loss compares *cosines*, because
the kernel of the Vendi score is a cosine, so what is learned and what is used are the same. The loss of a triplet is
softplus((cos(anchor, far) - cos(anchor, near)) / 0.1), a smooth form of their hinge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.intervals import estimate, paired_difference
from spa_bench.types import Estimate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SHARPNESS = 10.0  # 1 / 0.1, the margin of cosines at which a triplet counts as decided
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # tried on triplets that are put aside for it
_STEPS = 200


@dataclass(frozen=True, eq=False)
class Projection:
    """Text features become coordinates: (x - mean) @ weights."""

    mean: FloatArray  # (d,)
    weights: FloatArray  # (d, k): coordinates are in the order of their variance over the texts that it was learned from

    def apply(self, vectors: NDArray[np.floating]) -> FloatArray:
        """Coordinates (N, k) of feature vectors (N, d)."""
        return np.asarray((np.asarray(vectors, dtype=np.float64) - self.mean) @ self.weights)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How often triplets that were not learned from are told right: the share whose near text is the more similar one."""

    triplets: int
    groups: int  # anchors or problems, whole ones of which are held out; the intervals are over them
    learned: Estimate
    plain: Estimate  # of the cosine of the features as they are
    difference: Estimate  # learned - plain, paired by group


def learn(vectors: FloatArray, triplets: IntArray, groups: Sequence[str], *, dims: int, seed: int) -> Projection:
    """The projection to `dims` coordinates that the triplets ask for.

    `vectors` (N, d) are features of N texts; `triplets` (T, 3) are places of anchor, near and far text; `groups` has T names,
    and a fifth of them decides where the weights begin and how strongly they are held to that: at the principal components of
    the features, or at the directions in which anchors differ most from far texts and least from near ones.

    Raises ValueError for shapes that do not fit, or for no triplets.
    """
    if triplets.ndim != 2 or triplets.shape[1] != 3 or len(triplets) != len(groups) or not len(triplets):
        raise ValueError(f"triplets have the shape {triplets.shape} with {len(groups)} groups; it must be (T, 3) with T groups")
    mean = vectors.mean(0)
    centred = vectors - mean
    fitted, tried = split(groups, share=0.2, seed=seed)
    begin: Callable[[FloatArray, IntArray, int], FloatArray] = _principal
    penalty = _PENALTIES[-1]
    if len(fitted) and len(tried):
        ways = [(place, strength) for place in (_principal, _telling) for strength in _PENALTIES]
        some = triplets[fitted]
        tries = [_fit(centred, place(centred, some, dims), some, strength) for place, strength in ways]
        losses = [_loss(centred @ weights, triplets[tried])[0] for weights in tries]
        begin, penalty = ways[int(np.argmin(losses))]
    weights = _fit(centred, begin(centred, triplets, dims), triplets, penalty)
    turn = np.linalg.svd(centred @ weights, full_matrices=False)[2]  # a rotation: no cosine changes
    return Projection(mean, _signed(weights @ turn.T))


def held_out(projection: Projection, vectors: FloatArray, triplets: IntArray, groups: Sequence[str]) -> HeldOut:
    """How the projection, and the features without it, tell these triplets, which `learn` has not seen."""
    learned = _by_group(_right(projection.apply(vectors), triplets), groups)
    plain = _by_group(_right(vectors, triplets), groups)
    return HeldOut(
        triplets=len(triplets),
        groups=len(learned),
        learned=estimate(learned, rate=True),
        plain=estimate(plain, rate=True),
        difference=paired_difference(learned, plain, rate=True),
    )


def split(groups: Sequence[str], *, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """(places of the triplets that stay, places of those put aside): whole groups, about `share` of all groups, by `seed`."""
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    aside = {names[i] for i in order[: round(share * len(names))]}
    mask = np.array([name in aside for name in groups], dtype=bool)
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _principal(centred: FloatArray, _triplets: IntArray, dims: int) -> FloatArray:
    """(d, dims) weights whose coordinates are the principal components, each with variance 1; zeros where there are fewer."""
    return _padded(_whitening(centred)[:, :dims], dims)


def _telling(centred: FloatArray, triplets: IntArray, dims: int) -> FloatArray:
    """(d, dims) weights of the directions in which far texts are further from anchors than near ones, features whitened."""
    whiten = _whitening(centred)
    white = centred @ whiten
    near, far = (white[triplets[:, 0]] - white[triplets[:, i]] for i in (1, 2))
    values, vectors = np.linalg.eigh(far.T @ far - near.T @ near)
    order = np.argsort(values)[::-1][:dims]
    return _padded(whiten @ vectors[:, order], dims)


def _whitening(centred: FloatArray) -> FloatArray:
    """(d, r) weights that give r uncorrelated coordinates of variance 1, the largest components first."""
    _, scales, rows = np.linalg.svd(centred, full_matrices=False)
    usable = int((scales > max(scales[0] * 1e-3, 1e-12)).sum())
    return np.asarray(rows[:usable].T / (scales[:usable] / np.sqrt(len(centred))), dtype=np.float64)


def _padded(weights: FloatArray, dims: int) -> FloatArray:
    return np.pad(weights, ((0, 0), (0, dims - weights.shape[1])))


def _fit(centred: FloatArray, begun: FloatArray, triplets: IntArray, penalty: float) -> FloatArray:
    from scipy.optimize import minimize

    used, places = np.unique(triplets, return_inverse=True)
    rows, places = centred[used], places.reshape(triplets.shape)
    scale = max(float((begun**2).sum()), 1e-12)

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        weights = flat.reshape(begun.shape)
        away = weights - begun
        value, by_coordinate = _loss(rows @ weights, places)
        slope = rows.T @ by_coordinate + 2 * penalty / scale * away
        return value + penalty / scale * float((away**2).sum()), slope.ravel()

    found = minimize(loss, begun.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(found.x.reshape(begun.shape), dtype=np.float64)


def _loss(coordinates: FloatArray, triplets: IntArray) -> tuple[float, FloatArray]:
    """(the mean loss of the triplets, its gradient by the coordinates (N, k))."""
    lengths = np.maximum(np.linalg.norm(coordinates, axis=1, keepdims=True), 1e-12)
    unit = coordinates / lengths
    anchor, near, far = (unit[triplets[:, i]] for i in range(3))
    apart = _SHARPNESS * ((anchor * far).sum(1) - (anchor * near).sum(1))
    value = float(np.logaddexp(0.0, apart).mean())
    weight = (_SHARPNESS / len(triplets) / (1.0 + np.exp(-np.clip(apart, -500, 500))))[:, None]
    by_unit = np.zeros_like(unit)
    for place, slope in ((0, far - near), (1, -anchor), (2, anchor)):
        np.add.at(by_unit, triplets[:, place], weight * slope)
    along = (by_unit * unit).sum(1, keepdims=True)
    return value, (by_unit - along * unit) / lengths


def _right(coordinates: NDArray[np.floating], triplets: IntArray) -> FloatArray:
    """(T,): 1 where the near text is the more similar one, 0.5 where both are equally similar."""
    rows = np.asarray(coordinates, dtype=np.float64)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    anchor, near, far = (unit[triplets[:, i]] for i in range(3))
    apart = (anchor * near).sum(1) - (anchor * far).sum(1)
    return np.where(np.abs(apart) < 1e-12, 0.5, apart > 0).astype(np.float64)


def _by_group(right: FloatArray, groups: Sequence[str]) -> FloatArray:
    """(G,) means over the triplets of each group, the groups by name."""
    numbers = {name: number for number, name in enumerate(sorted(set(groups)))}
    place = np.array([numbers[name] for name in groups], dtype=np.int64)
    return np.asarray(np.bincount(place, weights=right) / np.bincount(place), dtype=np.float64)


def _signed(weights: FloatArray) -> FloatArray:
    """The sign of each coordinate fixed, so that machines agree: its largest weight is positive."""
    largest = weights[np.abs(weights).argmax(0), np.arange(weights.shape[1])]
    return weights * np.where(largest < 0, -1.0, 1.0)
