import numpy as np
import pytest

from spa_bench.errors import DataError
from spa_bench.spa.partition import argmax, balanced, partition, select_columns, zscore
from spa_bench.spa_cards import PartitionCard

ARGMAX = PartitionCard("argmax", "zscore")
RAW = PartitionCard("argmax", "none")


def random_scores(n: int, m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, m), dtype=np.float32)


def sizes(parts: list[int], k: int) -> list[int]:
    return np.bincount(parts, minlength=k).tolist()


def test_argmax_gives_each_example_to_its_highest_column():
    scores = random_scores(50, 4)
    assert argmax(scores) == scores.argmax(1).tolist()


def test_the_papers_partition_by_hand():
    # query 1 has no variance; queries 0 and 2 are the columns
    scores = np.array([[5, 1, 0], [0, 1, 9], [4, 1, 3], [1, 1, 8]], np.float32)
    assert partition(scores, 2, RAW) == [0, 1, 0, 1]


def test_scaling_takes_away_that_one_query_scores_everything_higher():
    scores = np.array([[1, 10], [2, 11], [3, 10], [4, 11]], np.float32)
    with pytest.raises(DataError, match="part 0 is empty"):
        partition(scores, 2, RAW)
    assert partition(scores, 2, ARGMAX) == [1, 1, 0, 0]


def test_the_columns_are_those_of_highest_unscaled_variance_in_order():
    scores = random_scores(200, 5) * np.array([1, 9, 0.1, 5, 7], np.float32)
    np.testing.assert_array_equal(select_columns(scores, 3, "none"), scores[:, [1, 3, 4]])
    np.testing.assert_allclose(select_columns(scores, 3, "zscore"), zscore(scores)[:, [1, 3, 4]], atol=1e-5)


def test_a_zscore_has_mean_zero_and_deviation_one_and_a_constant_column_is_zero():
    scores = random_scores(40, 3) * 5 + 2
    scores[:, 1] = 7
    found = zscore(scores)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(0), [1, 0, 1], atol=1e-5)


@pytest.mark.parametrize(("n", "k"), [(768, 4), (12, 3), (8, 8)])
def test_balanced_parts_have_equal_sizes_where_k_divides_n(n: int, k: int):
    assert sizes(balanced(random_scores(n, k)), k) == [n // k] * k


@pytest.mark.parametrize(("n", "k"), [(10, 4), (9, 4), (770, 4)])
def test_balanced_parts_differ_by_one_at_most(n: int, k: int):
    scores = random_scores(n, k) + np.arange(k, 0, -1, dtype=np.float32) * 10  # all prefer the first parts
    found = sizes(balanced(scores), k)
    assert max(found) - min(found) <= 1


def test_with_room_for_all_balanced_is_argmax():
    scores = random_scores(9, 3)
    scores[np.arange(9), np.arange(9) % 3] += 10
    assert balanced(scores) == argmax(scores) == [0, 1, 2] * 3


def test_the_example_that_loses_most_by_its_second_choice_chooses_first():
    scores = np.array([[1.0, 0.9], [5.0, 0.0], [2.0, 1.9], [3.0, 0.0]], np.float32)
    assert balanced(scores) == [1, 0, 1, 0]


def test_one_part_holds_everything():
    assert balanced(random_scores(5, 1)) == [0] * 5


def test_every_example_is_in_one_part_and_the_result_is_plain():
    parts = partition(random_scores(101, 9), 4, ARGMAX)
    assert len(parts) == 101
    assert set(parts) == {0, 1, 2, 3}
    assert all(type(p) is int for p in parts)


@pytest.mark.parametrize(
    ("scores", "k", "message"),
    [
        (random_scores(3, 9), 4, "4 parts from 3 examples"),
        (random_scores(9, 3), 4, "4 parts need at least 4 queries; there are 3"),
        (
            np.where(np.eye(9, 4) * np.arange(9)[:, None] == 2, np.nan, random_scores(9, 4)),
            4,
            "the score of example 2 is not finite",
        ),
        (np.full((9, 4), np.inf, np.float32), 4, "the score of example 0 is not finite"),
    ],
)
def test_what_cannot_be_partitioned_is_refused(scores: np.ndarray, k: int, message: str):
    with pytest.raises(DataError, match=message):
        partition(scores, k, ARGMAX)


def test_an_empty_part_is_an_error_that_shows_the_sizes():
    scores = np.stack([np.arange(6), np.arange(6) * 2 + 100], 1).astype(np.float32)
    with pytest.raises(DataError, match=r"part 0 is empty \(sizes \[0, 6\]\); use partition\.method=balanced"):
        partition(scores, 2, RAW)
