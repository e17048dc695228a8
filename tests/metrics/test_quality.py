from itertools import product

import numpy as np
import pytest

from spa_bench.metrics.pass_at_k import pass_at_k
from spa_bench.metrics.quality import above_chance, accuracy, any_of_n, any_of_n_chance, majority_vote, member_pass_rates


def test_accuracy_is_the_share_of_right_answers():
    assert accuracy([True, False, False, True, False]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("labels", "right", "chance"),
    [
        ("AAB", [1, 1, 0], 1.0),
        ("AAB", [0, 0, 1], 0.0),
        ("AB", [1, 0], 0.5),
        ("ABC", [0, 0, 1], 1 / 3),
        ("AABBC", [1, 1, 0, 0, 1], 0.5),  # C is right too, but has no say in a tie it is not part of
        ("A", [1], 1.0),
    ],
)
def test_a_majority_vote_is_the_expectation_over_ties(labels, right, chance):
    assert majority_vote(list(labels), [bool(r) for r in right]) == pytest.approx(chance)


def test_majority_vote_is_what_random_tie_breaking_gives():
    g = np.random.default_rng(0)
    for labels in product("ABC", repeat=4):
        winners = []
        for _ in range(400):
            order = g.permutation(4)  # the first to come among equals
            votes = [labels[i] for i in order]
            winners.append(max(dict.fromkeys(votes), key=votes.count) == "A")
        found = majority_vote(labels, [label == "A" for label in labels])
        assert found == pytest.approx(np.mean(winners), abs=0.11)


def test_several_labels_may_be_right_and_split_the_vote():
    assert majority_vote(["x", "y", "z", "z"], [True, True, False, False]) == 0.0


def test_labels_of_any_hashable_kind_vote():
    assert majority_vote([(1, b"a"), (1, b"a"), frozenset({2})], [True, True, False]) == 1.0


def test_no_vote_loses_against_any_label_and_is_wrong_alone():
    assert majority_vote([None, None, "A"], [False, False, True]) == 1.0
    assert majority_vote([None, None], [False, False]) == 0.0


def test_a_label_both_right_and_wrong_counts_with_its_share():
    assert majority_vote(["A", "A", "A", "A", "B"], [True, False, False, False, True]) == 0.25
    assert majority_vote(["A", "A", "B", "B"], [True, False, True, True]) == 0.75


def test_labels_and_verdicts_must_match():
    with pytest.raises(ValueError, match="2 labels and 1 verdicts"):
        majority_vote(["A", "B"], [True])


@pytest.mark.parametrize("function", [accuracy, any_of_n, lambda r: majority_vote([], r), lambda r: member_pass_rates(r, 1)])
def test_no_answers_are_refused(function):
    with pytest.raises(ValueError, match="no answers"):
        function([])


def test_any_of_n_is_pass_at_n_of_n_draws():
    for right in product([False, True], repeat=4):
        assert any_of_n(right) == pass_at_k([sum(right)], 4, 4)[0]


def test_eight_guesses_of_four_choices_are_right_nine_times_in_ten():
    assert any_of_n_chance(8, 4) == pytest.approx(0.9, abs=0.001)
    assert any_of_n_chance(1, 4) == 0.25
    assert any_of_n_chance(5, 1) == 1.0


def test_the_chance_level_is_that_of_all_tuples_of_guesses():
    share = np.mean([0 in guesses for guesses in product(range(3), repeat=4)])
    assert any_of_n_chance(4, 3) == pytest.approx(share)


def test_where_guessing_is_hopeless_there_is_no_chance_level():
    assert any_of_n_chance(8, None) is None
    assert above_chance(0.5, None) is None


def test_several_right_choices_make_guessing_better():
    assert any_of_n_chance(1, 3, 2) == pytest.approx(2 / 3)
    assert any_of_n_chance(2, 4, 2) == 0.75
    for wrong in (0, 4):
        with pytest.raises(ValueError, match=f"of 3 choices 1 to 3 are right, not {wrong}"):
            any_of_n_chance(1, 3, wrong)


@pytest.mark.parametrize(("n", "choices"), [(0, 4), (1, 0)])
def test_no_guess_or_no_choice_is_refused(n, choices):
    with pytest.raises(ValueError, match=r"at least 1|>= 1"):
        any_of_n_chance(n, choices)


def test_above_chance_is_zero_for_guessing_and_one_for_knowing():
    assert above_chance(0.25, 0.25) == 0.0
    assert above_chance(1.0, 0.25) == 1.0
    assert above_chance(0.0, 0.25) == pytest.approx(-1 / 3)
    assert above_chance(1.0, 1.0) is None


def test_members_are_judged_apart_in_the_order_member_then_draw():
    assert member_pass_rates([True, True, False, True, False, False], 3).tolist() == [1.0, 0.5, 0.0]
    assert member_pass_rates([True, True, False, True, False, False], 2).tolist() == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("members", [0, 2])
def test_answers_that_do_not_divide_among_members_are_refused(members):
    with pytest.raises(ValueError, match="multiple of K"):
        member_pass_rates([True, False, True], members)
