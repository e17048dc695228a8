"""A share of the data is nested, seeded, and does not split a group of seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spa_bench.cards.sampler import load_sampler_card
from spa_bench.errors import CardError
from spa_bench.spa.share import share_of
from spa_bench.spa.training_data import load_data
from spa_bench.types import Example

PAIRS = [Example(str(i), "x") for i in range(100)]


def test_a_share_holds_the_smaller_ones_of_the_same_seed():
    parts = [set(share_of(PAIRS, share, 3)) for share in (0.05, 0.1, 0.5, 1.0)]
    assert [len(p) for p in parts] == [5, 10, 50, 100]
    assert parts[0] < parts[1] < parts[2] < parts[3]


def test_the_examples_keep_their_order_and_all_of_them_are_the_set_itself():
    part = share_of(PAIRS, 0.3, 0)
    assert [PAIRS.index(e) for e in part] == sorted(PAIRS.index(e) for e in part)
    assert share_of(PAIRS, 1.0, 7) == PAIRS


def test_another_seed_draws_another_share_and_the_same_seed_the_same():
    assert share_of(PAIRS, 0.2, 0) == share_of(PAIRS, 0.2, 0) != share_of(PAIRS, 0.2, 1)


@pytest.mark.parametrize(("share", "count"), [(1e-12, 1), (0.001, 1), (0.011, 2), (0.07, 7), (0.29, 29)])
def test_a_share_is_rounded_up_but_not_by_the_last_digit_of_a_float(share: float, count: int):
    assert len(share_of(PAIRS, share, 0)) == count


def test_the_card_decides_the_share_and_refuses_what_is_none(tiny_model: Any):
    card = load_sampler_card("single", {"data.share": 0.25})
    assert len(load_data(card, tiny_model, 0).examples) == 192
    for share in (0, 1.5):
        with pytest.raises(CardError, match=r"data.share is "):
            load_sampler_card("single", {"data.share": share})


def test_runs_on_shares_that_differ_in_the_seed_alone_say_the_same_of_their_data(tiny_model: Any):
    card = load_sampler_card("single", {"data.share": 0.25})
    first, second = (load_data(card, tiny_model, seed) for seed in (0, 1))
    assert first.examples != second.examples
    assert first.describe(card) == second.describe(card)
    whole = replace(card, data=replace(card.data, share=1.0))
    other = load_data(whole, tiny_model, 0).describe(whole)
    assert other["examples_hash"] == first.describe(card)["examples_hash"]
    assert other["examples_n"] != first.describe(card)["examples_n"]
