"""A similarity learned from triplets: it finds what the triplets mean, and what it claims is of triplets it has not seen."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import check_grad

from spa_bench.metrics import similarity
from spa_bench.metrics.similarity import held_out, learn, split

RNG = np.random.default_rng(0)
# 60 groups of 6 texts: what matters is in 2 of 20 numbers, which are small beside the others
MEANING = np.repeat(np.eye(2)[np.arange(360) % 2] * 2 - 0.5, 1, axis=0) + RNG.normal(0, 0.2, (360, 2))
VECTORS = np.hstack([MEANING, RNG.normal(0, 3.0, (360, 18))])
GROUPS = [f"g{i:02}" for i in range(60) for _ in range(4)]
TRIPLETS = np.array([[6 * g + a, 6 * g + a + 2, 6 * g + a + 1] for g in range(60) for a in (0, 1, 2, 3)])


def test_it_finds_the_numbers_that_the_triplets_are_about():
    stay, aside = split(GROUPS, share=0.2, seed=0)
    projection = learn(VECTORS, TRIPLETS[stay], [GROUPS[i] for i in stay], dims=2, seed=0)
    shown = held_out(projection, VECTORS, TRIPLETS[aside], [GROUPS[i] for i in aside])
    assert (shown.triplets, shown.groups) == (48, 12)
    assert shown.learned.value is not None
    assert shown.plain.value is not None
    assert shown.learned.value > 0.9
    assert shown.plain.value < 0.7
    assert shown.difference.low is not None
    assert shown.difference.low > 0
    heavy = np.abs(projection.weights).max(1)
    assert set(np.argsort(-heavy)[:2]) == {0, 1}


def test_labels_by_chance_show_nothing_on_what_is_held_out():
    rng = np.random.default_rng(1)
    random = np.array([rng.permutation(t) for t in TRIPLETS])
    stay, aside = split(GROUPS, share=0.5, seed=0)
    projection = learn(VECTORS, random[stay], [GROUPS[i] for i in stay], dims=4, seed=0)
    shown = held_out(projection, VECTORS, random[aside], [GROUPS[i] for i in aside])
    assert shown.learned.low is not None
    assert shown.learned.high is not None
    assert shown.learned.low < 0.5 < shown.learned.high


def test_whole_groups_are_put_aside_and_the_seed_decides_which():
    stay, aside = split(GROUPS, share=0.2, seed=3)
    assert len(stay) + len(aside) == len(GROUPS)
    assert {GROUPS[i] for i in stay}.isdisjoint(GROUPS[i] for i in aside)
    assert len({GROUPS[i] for i in aside}) == 12
    assert np.array_equal(aside, split(GROUPS, share=0.2, seed=3)[1])
    assert not np.array_equal(aside, split(GROUPS, share=0.2, seed=4)[1])


def test_the_slope_of_the_loss_is_that_of_finite_differences():
    points = np.random.default_rng(2).normal(size=(7, 3))
    triplets = np.array([[0, 1, 2], [3, 4, 5], [6, 0, 3], [0, 2, 1]])

    def value(flat: np.ndarray) -> float:
        return similarity._loss(flat.reshape(7, 3), triplets)[0]

    def slope(flat: np.ndarray) -> np.ndarray:
        return similarity._loss(flat.reshape(7, 3), triplets)[1].ravel()

    assert check_grad(value, slope, points.ravel()) < 1e-5


def test_coordinates_are_in_the_order_of_their_variance_and_have_fixed_signs():
    projection = learn(VECTORS, TRIPLETS, GROUPS, dims=3, seed=0)
    spread = (projection.apply(VECTORS) ** 2).sum(0)
    assert list(spread) == sorted(spread, reverse=True)
    assert all(column[np.abs(column).argmax()] > 0 for column in projection.weights.T)
    again = learn(VECTORS, TRIPLETS, GROUPS, dims=3, seed=0)
    assert np.array_equal(projection.weights, again.weights)


def test_a_tie_counts_half_and_each_group_once():
    from spa_bench.metrics.similarity import Projection

    same = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    plain = Projection(np.zeros(2), np.eye(2))
    # group a: a tie, 0.5; group b: right, right, wrong, 2/3
    triplets = np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3], [0, 3, 1]])
    shown = held_out(plain, same, triplets, ["a", "b", "b", "b"])
    assert shown.learned.value == pytest.approx((0.5 + 2 / 3) / 2)


def test_as_many_groups_as_triplets_take_no_time():
    """100,000 judgements with an anchor each hold 20,000 groups out."""
    from spa_bench.metrics.similarity import _by_group

    names = [f"g{i}" for i in range(20_000)]
    began = time.process_time()
    assert _by_group(np.arange(20_000.0), names).sum() == 20_000 * 19_999 / 2
    assert time.process_time() - began < 5


def test_texts_that_are_all_alike_give_no_direction_and_no_failure():
    flat = np.ones((6, 4))
    projection = learn(flat, np.array([[0, 1, 2], [3, 4, 5]]), ["a", "b"], dims=2, seed=0)
    assert np.isfinite(projection.weights).all()


@pytest.mark.parametrize("triplets", [np.zeros((0, 3), int), np.zeros((2, 2), int)])
def test_shapes_that_do_not_fit_are_refused(triplets: np.ndarray):
    with pytest.raises(ValueError, match="triplets have the shape"):
        learn(VECTORS, triplets, ["g"] * len(triplets), dims=2, seed=0)
