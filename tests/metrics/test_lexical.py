import gzip
import random
import zlib

import numpy as np
import pytest

from spa_bench.metrics.lexical import compression_ratio, distinct_n, distinct_share
from spa_bench.metrics.ngrams import count_ngrams


def test_distinct_n_pools_the_ngrams_of_all_texts():
    texts = ["a b a", "b a"]
    assert distinct_n(texts, 1) == 2 / 5
    assert distinct_n(texts, 2) == 2 / 3  # ab, ba, ba
    assert distinct_n(texts, 3) == 1.0


def test_copies_halve_it_and_fresh_words_do_not():
    assert distinct_n(["a b c", "a b c"], 1) == 0.5
    assert distinct_n(["a b c", "d e f"], 1) == 1.0


def test_without_an_ngram_there_is_no_share():
    assert distinct_n(["a", ""], 2) is None
    assert distinct_n([], 1) is None


def test_a_subset_counts_only_its_own_rows():
    texts = [["a", "b"], ["a", "a"], ["c"]]
    [counts] = count_ngrams(texts, (1,))
    assert distinct_share(counts, np.array([1])) == 1 / 2
    assert distinct_share(counts, np.array([2, 0])) == 1.0
    assert distinct_share(counts, np.array([0, 1])) == 2 / 4


def test_an_order_below_one_is_refused():
    with pytest.raises(ValueError, match="orders"):
        distinct_n(["a"], 0)


def test_the_ratio_is_the_size_over_that_of_gzip_level_nine():
    texts = ["def f(x):\n    return x + 1"] * 7 + ["größer"]
    data = " ".join(texts).encode()
    assert compression_ratio(texts) == len(data) / len(gzip.compress(data, 9, mtime=0))


@pytest.mark.parametrize("bits", range(5, 18))
@pytest.mark.slow
def test_tables_that_fit_a_text_give_the_bytes_of_the_largest_ones(bits):
    generator = random.Random(bits)
    for length in (2**bits - 263, 2**bits - 262, 2**bits - 3, 2**bits - 1, 2**bits, 2**bits + 1):
        for letters in ("ab", "abcdefgh \n", [chr(i) for i in range(33, 126)]):
            text = "".join(generator.choices(letters, k=max(1, length)))
            assert compression_ratio([text]) == len(text) / len(zlib.compress(text.encode(), 9, 31))


def test_repetition_raises_the_ratio():
    rows = [f"{i * 7919 % 1000:03d}" for i in range(60)]
    assert compression_ratio([" ".join(rows)] * 5) > 3 * compression_ratio(rows)


def test_the_separator_is_one_space():
    assert compression_ratio(["a", "b"]) == compression_ratio(["a b"])
    assert compression_ratio(["", ""]) == 1 / len(gzip.compress(b" ", 9, mtime=0))


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_bytes_have_no_ratio(texts):
    assert compression_ratio(texts) is None


def test_a_lone_surrogate_is_no_error():
    assert compression_ratio(["\ud800"]) > 0
