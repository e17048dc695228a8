"""Who is resolved below the best: not one of many that are alike, and not one that few problems tell apart."""

from __future__ import annotations

import numpy as np
import pytest

from spa_bench.metrics.best import below_best
from spa_bench.metrics.intervals import paired_test
from spa_bench.metrics.multiple import resolve

SEED = 0  # by Holm one of 36 is below the best there


def tables(k: int, *, seed: int, problems: int = 60) -> dict[str, np.ndarray]:
    """Scores of k samplers that are all alike, on problems of unlike difficulty."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(2.5, 0.5, problems)
    return {f"s{i}": hard + rng.normal(0, 0.5, problems) for i in range(k)}


def best_of(scores: dict[str, np.ndarray]) -> str:
    return max(scores, key=lambda name: float(scores[name].mean()))


def test_of_many_that_are_alike_none_is_below_the_one_that_came_out_best():
    scores = tables(36, seed=SEED)
    top = best_of(scores)
    tests = {name: paired_test(scores[top], other, resamples=4000) for name, other in scores.items() if name != top}
    assert any(decision.resolved for decision in resolve(tests).values())  # by Holm over the differences from the best
    assert below_best(scores, top) == set()


def test_one_that_is_far_below_is_resolved_among_many():
    scores = {**tables(36, seed=SEED), "low": tables(1, seed=SEED)["s0"] - 1.0}
    assert below_best(scores, best_of(scores)) == {"low"}


def test_two_samplers_are_compared_as_by_the_paired_test_alone():
    for shift in (0.1, 0.2, 0.3):
        scores = tables(2, seed=3)
        scores = {"a": scores["s0"], "b": scores["s1"] - shift}
        p = paired_test(scores["a"], scores["b"], resamples=4000)[1]
        assert p is not None
        assert below_best(scores, "a") == ({"b"} if p <= 0.05 else set())


@pytest.mark.parametrize(("solved", "below"), [(8, False), (12, True)])
def test_a_few_problems_that_one_alone_solves_are_too_few_among_many(solved: int, below: bool):
    best = np.zeros(60)
    best[:solved] = 1.0
    scores = {"best": best, **{f"s{i}": np.zeros(60) for i in range(9)}}
    found = below_best(scores, "best", rate=True)
    assert found == ({f"s{i}" for i in range(9)} if below else set())


def test_a_problem_without_a_value_is_left_out():
    scores = tables(2, seed=3)
    low = np.where(np.arange(60) < 50, scores["s0"] - 1.0 + np.linspace(0, 0.1, 60), np.nan)
    assert below_best({"a": scores["s0"], "b": low}, "a") == {"b"}
    assert below_best({"a": scores["s0"], "b": np.full(60, np.nan)}, "a") == set()
