"""Many subsets at once are what each is alone."""

import numpy as np
import pytest

from spa_bench.metrics import chosen as module
from spa_bench.metrics.chosen import Chosen, entries_of, firsts, shared
from spa_bench.metrics.lexical import distinct_n, distinct_shares
from spa_bench.metrics.ngrams import count_ngrams, words
from spa_bench.metrics.self_bleu import SelfBleu, self_bleu

TEXTS = ["a b a c", "a b", "a b", "", "c d e f g", "a b a c d", "e f g"]
SUBSETS = [[0, 1, 2], [], [3], [6, 4], [5, 0, 3, 2], [*range(7)]]


def subsets() -> Chosen:
    return Chosen.of([np.array(subset, dtype=np.int64) for subset in SUBSETS])


def test_subsets_come_back_in_their_order():
    assert subsets().each() == SUBSETS
    assert subsets().sizes().tolist() == [3, 0, 1, 2, 4, 7]
    assert Chosen.of([]).each() == []


def test_samples_are_left_out_of_every_subset():
    wanted = np.array([True, True, False, False, True, True, True])
    assert subsets().keep(wanted).each() == [[0, 1], [], [], [6, 4], [5, 0], [0, 1, 4, 5, 6]]


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_parts_have_all_subsets_once_however_few_fit(at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    every = subsets()
    parts = list(every.parts(10))
    assert [subset for _, part in parts for subset in part.each()] == SUBSETS
    assert [place for span, _ in parts for place in every.places[span]] == every.places.tolist()
    assert len(parts) == {1: 6, 40: 2, 10**6: 1}[at_once]


@pytest.mark.parametrize("at_once", [1, 200, 10**6])
def test_metrics_of_all_subsets_are_those_of_each(at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    counts = count_ngrams([words(text) for text in TEXTS], (1, 2))
    alone = [[TEXTS[i] for i in subset] for subset in SUBSETS]
    bleus = [self_bleu(texts) for texts in alone]
    assert SelfBleu.of(TEXTS).means(subsets()) == pytest.approx([np.nan if b is None else b for b in bleus], nan_ok=True)
    for n in (1, 2):
        shares = [distinct_n(texts, n) for texts in alone]
        wanted = [np.nan if share is None else share for share in shares]
        assert distinct_shares(counts[n - 1], subsets()) == pytest.approx(wanted, nan_ok=True)


def test_shared_kinds_are_those_of_several_rows():
    [counts] = count_ngrams([["a", "b", "a"], ["b", "c"], ["d", "b", "c"]], (1,))
    several = shared(counts)
    assert sorted(zip(several.rows.tolist(), several.kinds.tolist(), several.counts.tolist(), strict=True)) == [
        (0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 0, 1), (2, 1, 1),
    ]  # fmt: skip
    [none] = count_ngrams([["a"], ["b"]], (1,))
    assert len(shared(none).rows) == 0


def test_entries_are_found_subset_by_subset():
    subset, entry = entries_of(np.array([0, 1, 0]), np.array([[True, False], [False, True], [True, True]]))
    assert list(zip(subset.tolist(), entry.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert firsts(np.array([1, 1, 2])).tolist() == [True, False, True]
    assert firsts(np.array([], dtype=np.int64)).tolist() == []
