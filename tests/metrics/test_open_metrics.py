"""distinct_k and utility_k over the classes of a task without right answers, by closed forms and by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spa_bench.metrics.open_ended import open_values
from spa_bench.metrics.suite import Samples, estimates, measure_samples, value_bounds
from spa_bench.metrics.table import METRICS, NO_RIGHT
from spa_bench.types import Behaviour

DISTINCT, UTILITY, QUALITY = "distinct_k[class]", "utility_k[class]", "quality[judged]"


def samples(labels: str, qualities: list[float | None] | tuple[()] = (), **changes: Any) -> Samples:
    """A letter is the class of an answer; a dot is an answer without a text."""
    behaviours = [
        Behaviour(problem="p", member=0, draw=i, digest=c.strip("."), ran=c != ".", right=0, probes=0)
        for i, c in enumerate(labels)
    ]
    made: dict[str, Any] = {
        "problem": "p", "texts": [f"{c} {i}" for i, c in enumerate(labels)], "programs": None,
        "passed": [False] * len(labels), "failed": [False] * len(labels), "members": 1, "k": len(labels),
        "behaviours": behaviours, "judged": False, "qualities": qualities,
    }  # fmt: skip
    return Samples(**{**made, **changes})


def test_utility_is_the_weighted_mean_of_the_benchmarks_released_code():
    """np.average of the scores of answers of new classes, 0 for the others, with the weights patience ** i."""
    scores = [8.0, 8.0, 5.0, 10.0]
    found = open_values(samples("aabc", [*scores]), [4])
    weights = 0.8 ** np.arange(4)
    assert found[UTILITY][4] == pytest.approx(np.average([8, 0, 5, 10], weights=weights))
    # by hand: (1 - 0.8) / (1 - 0.8 ** 4) * (8 + 0.64 * 5 + 0.512 * 10) = 16.32 / 2.952
    assert found[UTILITY][4] == pytest.approx(16.32 / 2.952)
    assert found[DISTINCT][4] == 3


@pytest.mark.parametrize("patience", [0.5, 0.8, 1.0])
def test_ten_different_perfect_answers_have_utility_10_whatever_the_patience(patience: float):
    found = open_values(samples("abcdefghij", [10.0] * 10, patience=patience), [10])
    assert (found[DISTINCT][10], found[UTILITY][10]) == (10, pytest.approx(10))
    one = open_values(samples("a" * 10, [10.0] * 10, patience=patience), [10])
    assert one[DISTINCT][10] == 1
    assert one[UTILITY][10] == pytest.approx(10 / sum(patience**i for i in range(10)))


def test_the_quality_of_a_repetition_and_of_no_text_plays_no_part():
    base = open_values(samples("ab.a", [3.0, 4.0, None, 5.0]), [4])
    assert base[UTILITY][4] == pytest.approx((3 + 0.8 * 4) / 2.952)
    assert open_values(samples("ab.a", [3.0, 4.0, None, 9.0]), [4]) == base
    assert base[DISTINCT][4] == 2


def test_utility_is_missing_without_quality_and_where_that_of_an_answer_is_not_known():
    for one in (samples("ab"), samples("ab", [7.0, None])):
        found = open_values(one, [2])
        assert found == {DISTINCT: {2: 2.0}, UTILITY: {2: None}}


def test_at_a_smaller_size_it_is_the_mean_over_all_pairs():
    """Of a, a, b the pairs have 1, 2 and 2 classes."""
    found = open_values(samples("aab", [6.0] * 3), [2, 3])
    assert found[DISTINCT] == {2: pytest.approx(5 / 3), 3: 2}
    pair = 6 / 1.8
    assert found[UTILITY][2] == pytest.approx((pair + 6 + 6) / 3)


def test_classes_at_a_smaller_size_are_counted_exactly_where_there_are_more_subsets_than_are_drawn():
    one = samples("aaabbcdeea", [6.0] * 10)
    every = [len(set(some)) for some in itertools.combinations("aaabbcdeea", 5)]
    assert open_values(one, [5])[DISTINCT][5] == pytest.approx(np.mean(every), abs=1e-12)
    values = measure_samples([one]).at[8]
    assert values[DISTINCT] == values["distinct_k[behaviour]"]


def test_a_problem_to_which_nothing_was_answered_has_no_classes_and_no_utility():
    nothing = samples("...", [None] * 3, failed=[True] * 3, texts=[""] * 3)
    measured = measure_samples([nothing, samples("aab", [6.0] * 3)])
    assert (measured.values[DISTINCT], measured.values[UTILITY][0]) == ([0, 2], 0)
    assert measured.values["distinct_k[behaviour]"] == [0, 2]
    assert measured.values[QUALITY] == [None, 6]


def test_answers_without_classes_have_no_number_of_classes():
    """A task of a user's that says no behaviours."""
    assert open_values(samples("...", texts=["a", "b", "c"]), [3])[DISTINCT] == {3: None}


def test_what_counts_right_answers_is_null_with_the_reason_and_never_0_or_1():
    measured = measure_samples([samples("aabc", [8.0, 8.0, 5.0, 10.0]), samples("aaaa", [6.0] * 4)])
    found = estimates({name: [row] for name, row in measured.values.items()}, size=measured.size)
    of_verdicts = [m.name for m in METRICS if m.of_verdicts]
    assert {"pass@1", "pass@K", "pass@2", "any_of_n", "majority_vote[behaviour]", "majority_vote[exact]"} <= set(of_verdicts)
    for name in (*of_verdicts, "effective_diversity[ast,correct]", "utility_k[ast]", "distinct_correct[ast]"):
        assert (found[name].value, found[name].reason) == (None, NO_RIGHT), name
    assert found["distinct_k"].value == found[DISTINCT].value == 2
    assert found["utility_k"].value == pytest.approx((16.32 + 6) / 2 / 2.952)
    assert found[QUALITY].value == pytest.approx((31 / 4 + 6) / 2)
    assert found["self_bleu"].value is not None
    assert found["vendi"].value is not None
    assert found["distinct_k[behaviour]"].value == 2


def test_tasks_with_right_answers_have_none_of_these_metrics():
    judged = replace(samples("ab"), judged=True, passed=[True, False])
    measured = measure_samples([judged])
    assert measured.values["pass@1"] == [0.5]
    assert not {DISTINCT, UTILITY, QUALITY} & (measured.values.keys() | set(measured.at))


def test_problems_without_a_right_answer_beside_others_leave_pass_at_1_to_these():
    judged = replace(samples("ab"), judged=True, passed=[True, False], problem="q")
    values = measure_samples([samples("ab"), judged]).values
    assert values["pass@1"] == [None, 0.5]
    assert values[DISTINCT] == [2, None]


def test_bounds_are_those_of_the_scale_of_quality():
    assert value_bounds("utility_k", 8) == (0, 10)
    assert value_bounds(QUALITY, 8) == (1, 10)
    assert value_bounds("distinct_k", 8) == (0, 8)
