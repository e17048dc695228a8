"""The suite: every metric of a run from its samples, at n and at smaller sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spa_bench.metrics.suite import (  # fmt: skip
    ALIASES,
    AT_SIZES,
    CHOICE_METRICS,
    METRICS,
    NOISE_METRICS,
    OPEN_AT_SIZES,
    OPEN_METRICS,
    RATES,
    Metric,
    Samples,
    estimates,
    is_rate,
    known,
    measure_samples,
    sizes_up_to,
    value_bounds,
)
from spa_bench.types import Behaviour, Choices, Divergence

RIGHT, OTHER, WRONG = "def f(x):\n    return x + 1", "def f(x):\n    return 1 + x", "def f(x):\n    return x"


def samples(problem: str = "p", programs: tuple[str, ...] = (RIGHT, OTHER, WRONG, WRONG), **changes: Any) -> Samples:
    made = {
        "problem": problem, "texts": programs, "programs": programs, "passed": [p != WRONG for p in programs],
        "failed": [False] * len(programs), "members": 1, "k": len(programs), "tokens": [5] * len(programs),
        "spent": [7] * len(programs),
    }  # fmt: skip
    return Samples(**{**made, **changes})


def test_names_are_there_once_and_aliases_lead_to_them():
    names = [m.name for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS, *AT_SIZES, *OPEN_METRICS, *OPEN_AT_SIZES)]
    assert len(set(names)) == len(names)
    assert set(ALIASES.values()) <= set(names)
    always = {"diversity_score", "effective_diversity", "vendi", "average_kl"}
    assert set(ALIASES) == always | {"kl[choices]", "kl[first]", "distinct_k", "utility_k"}


def test_base_verdicts_count_beside_those_of_all_tests():
    found = measure_samples([samples(passed_base=[True, True, True, False])]).values
    assert (found["pass@1"], found["pass@1[base]"]) == ([0.5], [0.75])
    assert (found["pass@2"], found["pass@2[base]"]) == ([pytest.approx(5 / 6)], [1.0])
    assert found["pass@K[base]"] == found["pass@4[base]"] == [1.0]
    assert found["pass@5[base]"] == [None]
    two = measure_samples([samples(passed_base=[True, False, True, False], members=2, k=2)]).values
    assert two["pass@K[base]"] == two["pass@2[base]"] == [0.75]  # a draw of each member, which are right half the time
    assert is_rate("pass@1[base]")
    assert known("pass@K[base]")


def test_with_one_suite_there_is_no_base_verdict_and_a_reason():
    found = estimates({name: [row] for name, row in measure_samples([samples()]).values.items()})
    for name in ("pass@1[base]", "pass@K[base]", "pass@10[base]"):
        assert found[name].value is None
        assert found[name].reason.startswith("the task has one suite of tests")


def test_values_of_a_problem_are_those_of_their_definitions():
    found = measure_samples([samples()]).values
    assert found["pass@1"] == [0.5]
    assert found["pass@2"] == [pytest.approx(1 - 1 / 6)]
    assert found["pass@K"] == found["pass@4"] == [1.0]
    assert found["pass@5"] == [None]
    assert found["any_of_n"] == [1.0]
    assert found["majority_vote[exact]"] == [0.0]  # the wrong one is there twice
    assert found["diversity_score[exact]"] == [pytest.approx(5 / 6)]
    assert found["effective_diversity[ast,correct]"] == [0.5]
    assert found["distinct_k[exact]"] == [3.0]
    assert found["qd_score[ast]"] == [0.5]
    assert (found["tokens"], found["tokens[spent]"]) == ([5.0], [7.0])
    assert found["average_kl[i<j]"] == found["entropy"] == found["vendi[embedding,q=1]"] == [None]


def test_behaviours_vote_and_give_partial_fitness():
    acts = [
        Behaviour(problem="p", member=0, draw=i, digest=d, ran=True, right=r, probes=4)
        for i, (d, r) in enumerate([("a", 4), ("a", 4), ("b", 2), ("b", 2)])
    ]
    found = measure_samples([samples(behaviours=acts)]).values
    assert found["majority_vote[behaviour]"] == [0.5]  # a tie of a right and a wrong one
    assert found["qd_score[ast]"] == [pytest.approx((1 + 1 + 0.5) / 4)]
    assert found["effective_diversity[behaviour,ran]"] == [0.5]


def test_a_problem_without_any_answer_counts_as_without_votes_and_behaviours():
    def made(problem: str, digest: str, **changes: Any) -> Samples:
        acts = [
            Behaviour(problem=problem, member=0, draw=i, digest=digest, ran=bool(digest), right=0, probes=0) for i in range(4)
        ]
        return samples(problem, (RIGHT,) * 4, behaviours=acts, **changes)

    nothing: dict[str, Any] = {"failed": [True] * 4, "passed": [False] * 4}
    liked = Choices(problem="p", logprobs=[[0.0, -1.0]], greedy=[[True]], tokens=[1], matrices={}, members={})
    found = measure_samples(
        [made("p", "a", choices=2, preferences=liked), made("q", "", choices=2, **nothing), made("r", "", **nothing)]
    )
    assert found.values["majority_vote[mc]"] == found.values["pass@1[mc]"] == [1.0, 0.0, None]
    assert found.values["pass@1"] == found.values["majority_vote[behaviour]"] == [1.0, 0.0, 0.0]
    assert found.values["distinct_k[behaviour]"] == [1.0, 0.0, 0.0]
    assert found.values["effective_diversity[behaviour,ran]"] == [0.25, 0.0, 0.0]
    assert found.at[2]["effective_diversity[behaviour,ran]"] == [0.5, 0.0, 0.0]
    unknown = measure_samples([made("p", ""), made("q", "", **nothing)]).values  # a task that records no behaviour
    assert unknown["majority_vote[behaviour]"] == unknown["distinct_k[behaviour]"] == [None, None]


def test_members_have_a_pass_rate_each_and_pass_at_k_takes_one_draw_of_each():
    found = measure_samples([samples(members=2, k=2)]).values
    assert (found["pass@1[member=0]"], found["pass@1[member=1]"]) == ([1.0], [0.0])
    assert found["pass@K"] == [1.0]
    assert found["pass@4"] == [None]  # there are two members
    assert is_rate("pass@1[member=1]")


def test_divergences_are_means_over_pairs_and_members():
    kl = [[0.0, 1.0, 2.0], [3.0, 0.0, 4.0], [5.0, 6.0, 0.0]]
    row = Divergence(
        problem="p",
        tokens=3,
        matrices={"kl": kl, "tv": kl},
        members={"entropy": [1.0, 2.0, 6.0], "kl_to_base": [0.0, 0.0, 3.0]},
        overall={"js[all]": 0.5},
    )
    found = measure_samples([samples(programs=(RIGHT, OTHER, WRONG), members=3, k=3, divergence=row)]).values
    assert found["average_kl[i<j]"] == [pytest.approx((1 + 2 + 4) / 3)]
    assert found["average_kl[i!=j]"] == [3.5]
    assert found["jeffreys"] == [7.0]
    assert (found["entropy"], found["kl_to_base"], found["js[all]"]) == ([3.0], [1.0], [0.5])


def test_the_noise_of_kl_is_there_where_a_problem_was_read_twice():
    kl = {"kl": [[0.0, 1.0], [1.0, 0.0]]}
    plain = Divergence(problem="p", tokens=3, matrices=kl, members={}, overall={})
    twice = Divergence(problem="q", tokens=3, matrices=kl, members={}, overall={"kl[noise]": 0.25})
    two = [samples(members=2, k=2, divergence=plain), samples("q", members=2, k=2, divergence=twice)]
    found = measure_samples(two).values
    assert found["noise_floor[average_kl]"] == [None, 0.25]
    assert estimates({"noise_floor[average_kl]": [found["noise_floor[average_kl]"]]})["noise_floor[average_kl]"].value == 0.25
    assert known("noise_floor[average_kl]")
    assert "noise_floor[average_kl]" not in measure_samples(two[:1]).values


@pytest.mark.parametrize(
    ("least", "sizes"), [(1, [1]), (2, [2]), (4, [2, 4]), (5, [2, 4, 5]), (100, [2, 4, 8, 16, 32, 64, 100])]
)
def test_sizes_are_powers_of_two_and_the_fewest_samples(least: int, sizes: list[int]):
    assert sizes_up_to(least) == sizes


def test_metrics_that_depend_on_n_are_taken_at_the_fewest_samples_of_a_problem():
    found = measure_samples([samples("a"), samples("b", (RIGHT, WRONG))])
    assert found.size == 2
    assert found.at == {}
    [at_two, whole] = found.values["distinct_k[exact]"]
    assert at_two == pytest.approx(2 - 1 / 6)  # of two out of four, of which two are equal
    assert whole == 2.0


def test_where_problems_have_different_numbers_of_samples_no_metric_is_of_some_problems_alone():
    one, more = samples("a", (RIGHT,), k=1), samples("b", (RIGHT, WRONG, OTHER, WRONG), k=1)
    found = measure_samples([one, more]).values
    assert found["pass@1"] == found["pass@K"] == [1.0, 0.5]
    for name in ("pass@2", "pass@4", "any_of_n", "majority_vote[exact]", "diversity_score[exact]", "diversity_score[ast]"):
        assert found[name] == [None, None], name
        assert estimates({name: [found[name]]})[name].reason
    three = measure_samples([samples("a", (RIGHT, WRONG, WRONG), k=3), more]).values
    assert [len(set(map(type, three[name]))) for name in ("pass@2", "pass@3", "pass@4")] == [1, 1, 1]
    assert three["pass@4"] == [None, None]
    reached = [float(np.mean([v for v in three[f"pass@{k}"] if v is not None])) for k in (1, 2, 3)]
    assert reached == sorted(reached)
    assert three["diversity_score[exact]"] == [pytest.approx(2 / 3), pytest.approx(5 / 6)]


def test_equal_numbers_of_samples_keep_every_metric():
    found = measure_samples([samples("a"), samples("b")]).values
    assert found["pass@4"] == found["any_of_n"] == [1.0, 1.0]


def test_smaller_sizes_are_kept_beside():
    found = measure_samples([samples()])
    assert set(found.at) == {2}
    assert found.at[2]["effective_diversity[ast,correct]"] == [pytest.approx(0.5)]
    assert set(found.at[2]) == {m.name for m in AT_SIZES}


def test_every_rate_lies_between_zero_and_one_on_odd_samples():
    odd = [samples(programs=(RIGHT,) * 4), samples(programs=("(",) * 4, passed=[False] * 4)]
    odd += [samples(programs=("",) * 4, passed=[False] * 4, failed=[True] * 4)]
    for one in odd:
        for name, [value] in measure_samples([one]).values.items():
            assert value is None or np.isfinite(value), name
            assert name not in RATES or value is None or 0 <= value <= 1, name


def test_what_is_missing_everywhere_has_a_reason():
    found = estimates({name: [row] for name, row in measure_samples([samples()]).values.items()})
    assert all(e.reason for e in found.values() if e.value is None)
    assert found["vendi"] == found["vendi[ngram,q=1]"]


def test_without_one_answer_in_the_whole_run_there_is_no_diversity_and_a_reason():
    none = samples("q", programs=("",) * 4, passed=[False] * 4, failed=[True] * 4)
    found = measure_samples([none, none])
    told = estimates({name: [row] for name, row in found.values.items()})
    for name in ("diversity_score", "diversity_score[ast]", "vendi", "vendi[ngram,q=inf]"):
        assert told[name].value is None
        assert "no sample has an answer" in told[name].reason
    assert set(found.at[2]["vendi[ngram,q=1]"]) == {None}
    assert (told["pass@1"].value, told["effective_diversity"].value) == (0.0, 0.0)  # to give no answer is to be wrong
    beside = measure_samples([samples(), none]).values  # where others answer, none at all is as alike as can be
    assert (beside["diversity_score[exact]"][1], beside["vendi[ngram,q=1]"][1]) == (0.0, 0.0)


def test_values_keep_ten_digits():
    [value] = measure_samples([samples()]).values["vendi[ngram,q=0.5]"]
    assert value == float(f"{value:.10g}")


def test_intervals_stay_where_values_can_lie():
    low, high, mixed = [1.0, 1.0, 1.1, 2.0], [3.9, 3.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.3]
    assert estimates({"vendi[ngram,q=1]": [low]}, size=4)["vendi"].low == 1.0
    assert estimates({"vendi[ngram,q=1]": [high]}, size=4)["vendi"].high == 4.0
    assert (estimates({"vendi[ngram,q=1]": [high]})["vendi"].high or 0) > 4.0  # without a size there is no most
    assert estimates({"distinct_k[ast]": [high]}, size=4)["distinct_k[ast]"].high == 4.0
    assert estimates({"average_kl[i<j]": [mixed]})["average_kl"].low == 0.0
    nothing = estimates({"vendi[ngram,q=1]": [[0.0, *low]]}, size=4)["vendi"].low
    assert nothing is not None
    assert 0 <= nothing < 1  # a problem without any answer


def test_a_metric_of_ones_own_names_its_bounds():
    def cut(bounds: tuple[float, float] | None) -> float | None:
        return estimates(
            {"mine": [[5.0, 5.1, 9.0]]}, [Metric(name="mine", description="", compute=lambda s: 0.0, bounds=bounds)]
        )["mine"].low

    assert cut((5.0, 9.0)) == 5.0
    assert (cut(None) or 0) < 5.0


@pytest.mark.parametrize(
    ("name", "bounds"),
    [("pass@1", (0, 1)), ("pass@1[member=2]", (0, 1)), ("vendi", (1, 8)), ("distinct_k[ast]", (0, 8)),
     ("jeffreys", (0, np.inf)), ("average_kl", (0, np.inf)), ("somebody's", None)],
)  # fmt: skip
def test_bounds_of_values_are_those_of_their_definitions(name: str, bounds: tuple[float, float] | None):
    assert value_bounds(name, 8) == bounds
    assert known(name) == (bounds is not None)
