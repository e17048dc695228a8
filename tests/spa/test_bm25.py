import math
import re

import numpy as np

from doubles import ignore, never
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.spa.attribution import random as random_attribution
from spa_bench.spa.attribution.base import AttributionSetting, attribution_kind
from spa_bench.types import Example

EXAMPLES = [
    Example("def f(nums):", "return sum(nums)"),
    Example("def g(nums):", "return fibonacci_matrix(nums)"),
    Example("def h(nums):", "return max(nums)"),
    Example("def k(nums):", "return [n for n in nums]"),
]


def scores(*queries: Example, variant: str = "plus") -> np.ndarray:
    attributor = attribution_kind("bm25").build(
        AttributionSetting(
            card=AttributionCard(method="bm25", variant=variant), lora=LoraCard(), model=None, seed=0, warm_up=never
        )
    )
    found: np.ndarray = attributor.scores(EXAMPLES, queries, progress=ignore)
    return found


def test_the_pair_that_shares_a_rare_word_with_the_query_scores_highest():
    found = scores(Example("Write the Fibonacci_Matrix", "of nums"), Example("largest", "max"))
    assert found.shape == (4, 2)
    assert found.dtype == np.float32
    assert found.argmax(0).tolist() == [1, 2]


def test_a_word_of_all_pairs_counts_less_than_a_rare_one():
    common, rare = scores(Example("", "nums"), Example("", "sum")).T
    assert rare[0] > common.max()


def test_a_query_of_unknown_words_scores_all_pairs_alike():
    assert scores(Example("zzz", "yyy"))[:, 0].tolist() == [0.0] * 4


def test_scores_are_bm25_plus_by_hand():
    documents = [re.findall(r"\w+|[^\w\s]", f"{e.prompt} {e.completion}".lower()) for e in EXAMPLES]
    mean = sum(map(len, documents)) / 4
    k1, b, delta = 1.5, 0.75, 1.0  # rank-bm25's defaults
    expected = []
    for words in documents:
        total = 0.0
        for word in ("return", "max"):
            idf = math.log(5 / sum(word in d for d in documents))
            count = words.count(word)
            total += idf * (delta + count * (k1 + 1) / (k1 * (1 - b + b * len(words) / mean) + count))
        expected.append(total)
    np.testing.assert_allclose(scores(Example("return", "max"))[:, 0], expected, rtol=1e-5)


def test_okapi_weighs_words_otherwise_and_gives_nothing_for_words_that_are_not_there():
    documents = [re.findall(r"\w+|[^\w\s]", f"{e.prompt} {e.completion}".lower()) for e in EXAMPLES]
    mean = sum(map(len, documents)) / 4
    k1, b = 1.5, 0.75
    weight = math.log(4 - 1 + 0.5) - math.log(1 + 0.5)  # max is in one pair of four
    expected = []
    for words in documents:
        count = words.count("max")
        expected.append(weight * count * (k1 + 1) / (k1 * (1 - b + b * len(words) / mean) + count))
    found = scores(Example("max", ""), variant="okapi")[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.tolist() == [0, 0, found[2], 0]
    assert scores(Example("max", ""))[:, 0].min() > 0


def test_random_scores_depend_on_the_seed_alone():
    queries = [Example("a", "b")] * 3
    first, again, other = (
        random_attribution.RandomAttributor(seed).scores(EXAMPLES, queries, progress=ignore) for seed in (1, 1, 2)
    )
    assert first.shape == (4, 3)
    assert (first == again).all()
    assert (first != other).all()
