import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from spa_bench.cards.training import AttributionCard, DataCard, LoraCard, PartitionCard, check
from spa_bench.errors import CardError, DataError, UsageError
from spa_bench.spa.partition import identity, needs_scores, partition
from spa_bench.spa.partition.scaling import kept_columns, kept_queries, scaled
from spa_bench.types import Example

ARGMAX = PartitionCard(method="argmax", scale="zscore")
RAW = PartitionCard(method="argmax", scale="none")
KMEANS = PartitionCard(method="kmeans")


def pairs(n: int) -> list[Example]:
    return [Example(f"def f{i}(x):\n", f"    return x + {i}\n") for i in range(n)]


def random_scores(n: int, m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, m), dtype=np.float32)


def parts(scores: np.ndarray, k: int, card: PartitionCard, seed: int = 0) -> list[int]:
    return partition(card, k, examples=pairs(len(scores)), scores=scores, seed=seed)


def unscored(card: PartitionCard, k: int, n: int = 20, seed: int = 0) -> list[int]:
    return partition(card, k, examples=pairs(n), scores=None, seed=seed)


def sizes(labels: list[int], k: int) -> list[int]:
    return np.bincount(labels, minlength=k).tolist()


# scaling -------------------------------------------------------------------------------------------------------------


def test_the_queries_that_are_kept_have_the_highest_unscaled_variance_and_stay_in_order():
    scores = random_scores(200, 5) * np.array([1, 9, 0.1, 5, 7], np.float32)
    assert kept_queries(scores, 3).tolist() == [1, 3, 4]
    np.testing.assert_array_equal(kept_columns(scores, 3, "none"), scores[:, [1, 3, 4]])
    np.testing.assert_allclose(kept_columns(scores, 3, "zscore"), scaled(scores, "zscore")[:, [1, 3, 4]])


def test_of_queries_that_vary_alike_the_first_are_kept():
    assert kept_queries(np.tile([[0.0], [1.0], [5.0]], 4), 2).tolist() == [0, 1]


def test_a_zscore_has_mean_zero_and_deviation_one():
    found = scaled(random_scores(40, 3) * 5 + 2, "zscore")
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(0), 1)


@pytest.mark.parametrize("n", [7, 40, 1001])
def test_a_constant_column_is_zero_as_a_zscore_whatever_its_rounding(n: int):
    scores = random_scores(n, 2)
    scores[:, 1] = 0.1  # the deviation of n times 0.1 need not come out as 0
    assert (scaled(scores, "zscore")[:, 1] == 0).all()
    np.testing.assert_allclose(scaled(scores, "rank")[:, 1], (n + 1) / (2 * n))


def test_ranks_are_averages_over_n_and_see_the_order_alone():
    scores = np.array([[3.0], [1.0], [3.0], [9.0]])
    np.testing.assert_allclose(scaled(scores, "rank")[:, 0], [0.625, 0.25, 0.625, 1.0])
    np.testing.assert_array_equal(scaled(np.exp(scores), "rank"), scaled(scores, "rank"))


# argmax --------------------------------------------------------------------------------------------------------------


def test_the_papers_partition_by_hand():
    # query 1 has no variance; queries 0 and 2 are the columns
    scores = np.array([[5, 1, 0], [0, 1, 9], [4, 1, 3], [1, 1, 8]], np.float32)
    assert parts(scores, 2, RAW) == [0, 1, 0, 1]


def test_scaling_takes_away_that_one_query_scores_everything_higher():
    scores = np.array([[1, 10], [2, 11], [3, 10], [4, 11]], np.float32)
    with pytest.raises(DataError, match="part 0 is empty"):
        parts(scores, 2, RAW)
    assert parts(scores, 2, ARGMAX) == [1, 1, 0, 0]


def test_ranks_and_zscores_part_examples_otherwise_where_one_score_is_far_out():
    scores = random_scores(60, 3)
    far = np.array(scores)
    far[scores[:, 0].argmax(), 0] = 1000
    ranks = replace(ARGMAX, scale="rank")
    assert parts(far, 3, ranks) == parts(scores, 3, ranks)
    assert parts(far, 3, ARGMAX) != parts(scores, 3, ARGMAX)


def test_of_equal_scores_the_first_query_has_the_example():
    scores = np.array([[1, 1], [0, 5], [5, 0], [1, 1]], np.float32)
    assert parts(scores, 2, RAW) == [0, 1, 0, 0]


# k-means -------------------------------------------------------------------------------------------------------------


def blobs(seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Rows around three centres in six dimensions, and which is whose."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(3), [9, 20, 31]))
    centres = np.array([[9, 0, 0, 0, 0, 5], [0, 9, 0, 0, 5, 0], [0, 0, 9, 5, 0, 0]])
    rows = centres[truth] + rng.standard_normal((60, 6))
    return rows.astype(np.float32), truth.tolist()


def test_kmeans_finds_the_groups_of_rows_and_numbers_them_by_their_first_example():
    scores, truth = blobs()
    found = parts(scores, 3, KMEANS)
    assert len(set(zip(found, truth, strict=True))) == 3
    assert list(dict.fromkeys(found)) == [0, 1, 2]


def test_kmeans_looks_at_all_queries_not_at_k_of_them():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((40, 6)).astype(np.float32)
    scores[:20, 2:] += 3  # the queries of highest variance say nothing about the two groups
    scores[:, :2] *= 4
    found = parts(scores, 2, KMEANS)
    assert found == [0] * 20 + [1] * 20
    assert parts(scores, 2, ARGMAX) != found


def test_kmeans_depends_on_scale_and_seed():
    scores = random_scores(60, 5) * np.array([20, 1, 1, 1, 1], np.float32)
    found = [parts(scores, 4, replace(KMEANS, scale=s), seed) for s, seed in (("zscore", 0), ("none", 0), ("zscore", 1))]
    assert found[0] != found[1]
    assert found[0] != found[2]
    assert found[0] == parts(scores, 4, KMEANS, 0)


def test_kmeans_takes_fewer_queries_than_parts():
    assert len(set(parts(np.array([[0.0], [0.1], [5.0], [5.1], [9.0]], np.float32), 3, KMEANS))) == 3


def test_kmeans_needs_as_many_different_rows_as_parts():
    with pytest.raises(DataError, match="3 parts by k-means need 3 different rows of scores; there are 2"):
        parts(np.array([[0, 1], [1, 0], [0, 1], [1, 0]], np.float32), 3, KMEANS)


@pytest.mark.parametrize("method", ["argmax", "balanced", "kmeans"])
def test_parts_are_the_same_in_another_number_of_threads(method: str):
    scores = random_scores(3000, 12)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(parts(scores, 4, PartitionCard(method=method)))
    assert found[0] == found[1]


def test_kmeans_on_embeddings_puts_texts_of_the_same_words_together():
    words = ["sum numbers loop", "string reverse letters", "sort list order"]
    examples = [Example(words[i % 3], f"{words[i % 3]} {i}") for i in range(12)]
    found = partition(PartitionCard(method="kmeans-embedding"), 3, examples=examples, scores=None, seed=0)
    assert found == [0, 1, 2] * 4


def test_kmeans_on_embeddings_needs_as_many_different_texts_as_parts():
    with pytest.raises(DataError, match="2 parts by k-means need 2 different embeddings; there are 1"):
        partition(PartitionCard(method="kmeans-embedding"), 2, examples=[Example("a", "b")] * 5, scores=None, seed=0)


# by chance, from a file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "expected"), [(20, 4, [5, 5, 5, 5]), (11, 4, [3, 3, 3, 2]), (5, 5, [1] * 5)])
def test_random_parts_are_equal_but_for_one(n: int, k: int, expected: list[int]):
    assert sizes(unscored(PartitionCard(method="random"), k, n), k) == expected


def test_random_parts_depend_on_the_seed_alone():
    card = PartitionCard(method="random")
    assert unscored(card, 4, seed=1) == unscored(card, 4, seed=1) != unscored(card, 4, seed=2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[0, 1, 1, 0]"),
        ("a.json", '{"labels": [0, 1, 1, 0], "sizes": [2, 2]}'),
        ("a.txt", "0\n1\n\n1\n0\n"),
        ("a.txt", "\ufeff0\r\n1\r\n1\r\n0"),
    ],
)
def test_a_file_has_a_part_for_each_example(name: str, content: str, tmp_path: Path):
    (tmp_path / name).write_text(content, newline="")
    assert unscored(PartitionCard(method="file", file=str(tmp_path / name)), 2, 4) == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "0\n1\n1\n", r"a\.txt has 3 labels, but 4 examples are used"),
        ("a.txt", "0\n1\n\n2\n0\n", r"a\.txt, line 4: the part is '2'; with 2 members it is a whole number 0 to 1"),
        ("a.txt", "0\n1\n-1\n0\n", r"a\.txt, line 3: the part is '-1'"),
        ("a.txt", "0\n1\n1.0\n0\n", r"a\.txt, line 3: the part is '1\.0'"),
        ("a.json", '[0, 1, "x", 0]', r"a\.json, label 3: the part is 'x'"),
        ("a.json", "[0, 1, true, 0]", r"a\.json, label 3: a label is a whole number or text; got True"),
        ("a.json", "[0, 1, 0.5, 0]", r"a\.json, label 3: a label is a whole number or text; got 0\.5"),
        ("a.json", "7", r"a\.json must hold a list of labels; got int"),
        ("a.json", "[0,", r"a\.json is not valid JSON"),
        ("a.txt", b"\xff\xfe\x00", r"cannot read the labels in .*a\.txt"),
        ("a.txt", None, r"cannot read the labels in .*a\.txt: No such file"),
        ("a.txt", "0\n0\n0\n0\n", r"part 1 is empty, and partition\.least is 1 \(sizes 4, 0\)"),
    ],
)
def test_a_file_of_other_labels_is_refused_with_its_line(name: str, content: str | bytes | None, message: str, tmp_path: Path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        unscored(PartitionCard(method="file", file=str(path)), 2, 4)


# what all have in common ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["argmax", "balanced", "kmeans"])
def test_every_example_is_in_one_part_and_the_result_is_plain(method: str):
    found = parts(random_scores(101, 9), 4, PartitionCard(method=method))
    assert len(found) == 101
    assert set(found) == {0, 1, 2, 3}
    assert all(type(p) is int for p in found)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("scores", "k", "message"),
    [
        (random_scores(3, 9), 4, "4 parts from 3 examples: give more examples or have fewer members"),
        (random_scores(9, 3), 4, "4 parts need at least 4 queries; there are 3"),
        (
            np.where((np.arange(36) == 11).reshape(9, 4), np.nan, random_scores(9, 4)),
            4,
            "the score of example 2 on query 3 is nan; take that example or query out",
        ),
        (np.full((9, 4), -np.inf, np.float32), 4, r"example 0 on query 0 is -inf \(36 scores are not finite\)"),
    ],
)
def test_what_cannot_be_partitioned_is_refused(scores: np.ndarray, k: int, message: str):
    with pytest.raises(DataError, match=message):
        parts(scores, k, ARGMAX)


def test_a_part_below_the_least_is_an_error_that_shows_all_sizes():
    scores = np.array([[5, 0], [5, 1], [6, 2], [0, 9]], np.float32)
    assert parts(scores, 2, RAW) == [0, 0, 0, 1]
    with pytest.raises(DataError, match=r"part 1 has 1 example, and partition\.least is 2 \(sizes 3, 1\): use partition"):
        parts(scores, 2, replace(RAW, least=2))


def test_scores_are_needed_by_the_methods_that_look_at_them_and_by_no_other():
    assert {m for m in ("argmax", "balanced", "kmeans") if needs_scores(m)} == {"argmax", "balanced", "kmeans"}
    assert not any(needs_scores(m) for m in ("random", "file", "kmeans-embedding"))


@pytest.mark.parametrize(
    ("method", "change", "counts"),
    [
        ("argmax", {"scale": "rank"}, True),
        ("argmax", {"capacity": 2.0}, False),
        ("argmax", {"encoder": "x"}, False),
        ("argmax", {"least": 2}, True),
        ("balanced", {"capacity": 2.0}, True),
        ("kmeans", {"scale": "rank"}, True),
        ("random", {"scale": "rank"}, False),
        ("kmeans-embedding", {"encoder": "embedded"}, True),
        ("kmeans-embedding", {"scale": "rank"}, False),
    ],
)
def test_parts_are_made_anew_for_the_keys_that_their_method_reads(method: str, change: dict[str, Any], counts: bool):
    card = PartitionCard(method=method)
    assert (identity(card, 0) != identity(replace(card, **change), 0)) == counts


@pytest.mark.parametrize(
    ("method", "counts"),
    [("argmax", False), ("balanced", False), ("kmeans", True), ("random", True), ("kmeans-embedding", True)],
)
def test_the_seed_counts_where_chance_plays_a_part(method: str, counts: bool):
    assert (identity(PartitionCard(method=method), 0) != identity(PartitionCard(method=method), 1)) == counts


def test_a_file_counts_by_what_it_holds(tmp_path: Path):
    for name, content in (("a.txt", "0\n1\n"), ("b.txt", "0\n1\n"), ("c.txt", "1\n0\n")):
        (tmp_path / name).write_text(content)
    a, b, c = (identity(PartitionCard(method="file", file=str(tmp_path / f"{n}.txt")), 0) for n in "abc")
    assert a == b != c


# a method of one's own -----------------------------------------------------------------------------------------------

OWN = """
NEEDS_SCORES = False

def halves(scores, examples, k, card, seed):
    assert scores is None
    return [i * k // len(examples) for i in range(len(examples))]

def wrong(scores, examples, k, card, seed):
    return [k] * len(examples)

def short(scores, examples, k, card, seed):
    return [0]

def fractions(scores, examples, k, card, seed):
    return [0.7] * len(examples)

def nothing(scores, examples, k, card, seed):
    return None

from spa_bench.spa.partition.base import PartitionKind

HALVES = PartitionKind(build=halves, needs_scores=False, seeded=False)
SCORED = PartitionKind(build=wrong)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my_parts.py"
    path.write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return path


def test_a_method_of_ones_own_is_found_on_the_import_path(own: Path):
    assert not needs_scores("my_parts:halves")
    assert unscored(PartitionCard(method="my_parts:halves"), 2, 6) == [0, 0, 0, 1, 1, 1]
    assert "source" in identity(PartitionCard(method="my_parts:halves"), 0)


def test_a_method_of_ones_own_may_be_declared_as_an_object(own: Path):
    assert (needs_scores("my_parts:HALVES"), needs_scores("my_parts:SCORED")) == (False, True)
    assert unscored(PartitionCard(method="my_parts:HALVES"), 2, 6) == [0, 0, 0, 1, 1, 1]
    found = identity(PartitionCard(method="my_parts:HALVES"), 0)
    assert found == identity(PartitionCard(method="my_parts:HALVES"), 1)  # it says that the seed plays no part
    assert "source" in found


def test_labels_of_ones_own_method_are_checked(own: Path):
    with pytest.raises(DataError, match="'my_parts:wrong' gave example 0 the part 2; with 2 members it is 0 to 1"):
        unscored(PartitionCard(method="my_parts:wrong"), 2)
    with pytest.raises(DataError, match="'my_parts:short' gave 1 labels for 20 examples"):
        unscored(PartitionCard(method="my_parts:short"), 2)


@pytest.mark.parametrize(
    ("name", "message"), [("fractions", "'float' object cannot be"), ("nothing", "'NoneType' object is not")]
)
def test_what_ones_own_method_does_wrong_is_one_line(own: Path, name: str, message: str):
    with pytest.raises(UsageError, match=f"partition.method 'my_parts:{name}' failed: TypeError: {message}"):
        unscored(PartitionCard(method=f"my_parts:{name}"), 2)


def test_a_method_that_is_nowhere_is_refused(own: Path):
    with pytest.raises(UsageError, match="has no 'thirds'"):
        unscored(PartitionCard(method="my_parts:thirds"), 2)


def test_a_card_takes_a_method_of_ones_own_and_no_other_unknown_name():
    def checked(method: str) -> None:
        check("card", data=DataCard(), attribution=AttributionCard(), partition=PartitionCard(method=method), lora=LoraCard())

    checked("my_parts:halves")
    with pytest.raises(CardError, match=r"partition\.method is 'balance'; did you mean 'balanced'\?"):
        checked("balance")
