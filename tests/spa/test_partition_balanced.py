"""The assignment is the best there is: against scipy's, against all there are, and against what argmax gives."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from spa_bench.cards.training import PartitionCard
from spa_bench.errors import DataError
from spa_bench.spa.partition import partition
from spa_bench.spa.partition.balanced import assign
from spa_bench.types import Example


def random_scores(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, k))


def total(scores: np.ndarray, labels: list[int]) -> float:
    return float(scores[np.arange(len(labels)), labels].sum())


def sizes(labels: list[int], k: int) -> list[int]:
    return np.bincount(labels, minlength=k).tolist()


def best_of_all(scores: np.ndarray, most: int, least: int) -> float:
    n, k = scores.shape
    every = (list(labels) for labels in itertools.product(range(k), repeat=n))
    return max(total(scores, x) for x in every if max(sizes(x, k)) <= most and min(sizes(x, k)) >= least)


@pytest.mark.parametrize("seed", range(12))
def test_the_sum_is_the_best_of_all_assignments_within_the_limits(seed: int):
    rng = np.random.default_rng(seed)
    n, k = 7, 3
    scores = rng.standard_normal((n, k)) if seed % 2 else rng.integers(-2, 3, (n, k)).astype(float)
    for most, least in ((3, 0), (3, 1), (3, 2), (4, 1), (7, 0), (7, 2), (5, 0)):
        found = assign(scores, most=most, least=least)
        assert max(sizes(found, k)) <= most
        assert min(sizes(found, k)) >= least
        assert total(scores, found) == pytest.approx(best_of_all(scores, most, least))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pull", [0, 3])
def test_the_sum_is_that_of_scipys_assignment_to_copies_of_the_parts(seed: int, pull: float):
    scores = random_scores(96, 4, seed) + pull * np.arange(4)  # pulled, most prefer the last part
    found = assign(scores, most=24)
    rows, places = linear_sum_assignment(np.repeat(scores, 24, axis=1), maximize=True)
    assert total(scores, found) == pytest.approx(scores[rows, places // 24].sum(), abs=1e-9)
    assert sizes(found, 4) == [24] * 4


def by_regret(scores: np.ndarray, most: int) -> list[int]:
    """Examples that lose most by their second choice choose first: quick, and not the best."""
    ordered = np.sort(scores, axis=1)
    labels, room = [0] * len(scores), [most] * scores.shape[1]
    for i in np.argsort(ordered[:, -2] - ordered[:, -1]):
        labels[i] = next(int(p) for p in np.argsort(-scores[i]) if room[p])
        room[labels[i]] -= 1
    return labels


def test_choosing_in_turn_by_regret_is_never_better_and_often_worse():
    gains = []
    for seed in range(10):
        scores = random_scores(60, 4, seed) + np.array([2, 1, 0, 0])
        gains.append(total(scores, assign(scores, most=15)) - total(scores, by_regret(scores, 15)))
    assert min(gains) > -1e-9
    assert max(gains) > 0.1


def test_with_room_for_all_it_is_argmax():
    scores = random_scores(50, 4)
    assert assign(scores, most=50) == scores.argmax(1).tolist()


def test_a_floor_takes_the_examples_that_lose_least():
    scores = np.array([[9.0, 0.0], [9.0, 8.0], [9.0, 5.0], [9.0, 1.0]])
    assert assign(scores, most=4) == [0, 0, 0, 0]
    assert assign(scores, most=4, least=1) == [0, 1, 0, 0]
    assert assign(scores, most=4, least=2) == [0, 1, 1, 0]


def test_scores_of_any_magnitude_are_told_apart():
    scores = random_scores(40, 4)
    expected = assign(scores, most=10)
    assert assign(scores * 1e-30, most=10) == expected
    assert assign(scores * 1e30, most=10) == expected


def test_equal_scores_are_parted_all_the_same():
    assert sizes(assign(np.zeros((12, 3)), most=4), 3) == [4, 4, 4]
    assert sizes(assign(np.ones((12, 3)), most=12, least=2), 3) == [8, 2, 2]


def test_one_part_holds_everything():
    assert assign(random_scores(5, 1), most=5) == [0] * 5


# the method ----------------------------------------------------------------------------------------------------------


def parts(scores: np.ndarray, k: int, card: PartitionCard) -> list[int]:
    return partition(card, k, examples=[Example("a", "b")] * len(scores), scores=scores, seed=0)


@pytest.mark.parametrize(("n", "k"), [(768, 4), (12, 3), (8, 8)])
def test_parts_have_equal_sizes_where_k_divides_n(n: int, k: int):
    assert sizes(parts(random_scores(n, k), k, PartitionCard(method="balanced")), k) == [n // k] * k


@pytest.mark.parametrize(("capacity", "most"), [(1.0, 25), (1.2, 30), (1.5, 38), (3.0, 75), (1e308, 97)])
def test_no_part_is_above_the_capacity_times_n_over_k(capacity: float, most: int):
    scores = random_scores(100, 4) + np.array([9, 0, 0, 0])
    found = sizes(parts(scores, 4, PartitionCard(method="balanced", scale="none", capacity=capacity)), 4)
    assert max(found) == most


def test_the_capacity_is_rounded_up_but_not_by_the_last_digit_of_a_float():
    scores = random_scores(100, 10) + np.array([9.0] + 9 * [0.0])
    found = parts(scores, 10, PartitionCard(method="balanced", scale="none", capacity=1.1))  # 1.1 * 100 / 10 > 11 in floats
    assert max(sizes(found, 10)) == 11


def test_the_more_room_the_higher_the_sum_up_to_argmax():
    scores = random_scores(60, 4) + np.array([2, 0, 0, 0])
    found = [parts(scores, 4, PartitionCard(method="balanced", scale="none", capacity=c)) for c in (1.0, 1.5, 2.0, 4.0)]
    totals = [total(scores, labels) for labels in found]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]
    assert found[-1] == parts(scores, 4, PartitionCard(method="argmax", scale="none"))


def test_no_part_is_below_the_least():
    scores = random_scores(40, 4) + np.array([9, 0, 0, 0])
    assert sizes(parts(scores, 4, PartitionCard(method="balanced", scale="none", capacity=4.0)), 4) == [37, 1, 1, 1]
    assert sizes(parts(scores, 4, PartitionCard(method="balanced", scale="none", capacity=4.0, least=6)), 4) == [22, 6, 6, 6]


def test_a_least_that_the_examples_cannot_fill_is_refused():
    with pytest.raises(DataError, match=r"4 parts of at least 6 \(partition\.least\) need 24 examples; there are 23"):
        parts(random_scores(23, 4), 4, PartitionCard(method="balanced", least=6))


def test_scaling_changes_who_goes_where():
    scores = random_scores(40, 3) * np.array([1, 5, 20])
    found = [parts(scores, 3, PartitionCard(method="balanced", scale=scale)) for scale in ("zscore", "rank", "none")]
    assert len({tuple(labels) for labels in found}) == 3
