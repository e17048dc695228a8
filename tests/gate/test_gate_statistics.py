"""What the check promises: rarely red when nothing changed, red when a metric really fell, and what it would see."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from simulated import row, simulated
from spa_bench.compare.gate import rules
from spa_bench.compare.gate.checking import judge
from spa_bench.compare.gate.verdict import GateVerdict, confidence_of
from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.metrics.intervals import paired_difference, resolved
from spa_bench.metrics.student import pooled_error, t_quantile

NO_TOLERANCE = {name: rules.Tolerance(0.0) for name in rules.JUDGED}
BASELINE = range(5)


def judged(
    world: int,
    seeds: Sequence[int],
    *,
    tolerances: dict[str, rules.Tolerance] | None = None,
    alpha: float = 0.05,
    **changed: float,
) -> GateVerdict:
    before = simulated("s", BASELINE, world=world)
    after = simulated("s", seeds, world=world, code="new", **changed)  # type: ignore[arg-type]
    wanted = rules.tolerances_of([]) if tolerances is None else tolerances
    return judge([row(after)], [row(before)], "b", tolerances=wanted, alpha=alpha, metrics=list(rules.RULES))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the power, which is not looked at where hundreds of checks are made, and with fewer resamples."""
    monkeypatch.setattr("spa_bench.compare.gate.checking._visible", lambda *_: None)
    monkeypatch.setattr("spa_bench.compare.gate.checking._LEAST_RESAMPLES", 500)
    monkeypatch.setattr("spa_bench.compare.gate.checking._TAIL", 5)


@pytest.mark.parametrize("seeds", [[10], [10, 11, 12]], ids=["one new seed", "three new seeds"])
@pytest.mark.usefixtures("quick")
def test_re_runs_with_other_seeds_are_rarely_red(seeds: list[int]):
    red = sum(not judged(world, seeds, tolerances=NO_TOLERANCE).ok for world in range(60))
    assert red <= 6  # of 60 at 5 %: more than 6 has a chance of 4 in 100 even if the promise were only just kept


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [[10], [10, 11, 12, 13, 14]], ids=["one new seed", "five new seeds"])
@pytest.mark.usefixtures("quick")
def test_the_rate_of_false_alarms_is_the_stated_one_over_many_checks(seeds: list[int]):
    red = sum(not judged(world, seeds, tolerances=NO_TOLERANCE).ok for world in range(600))
    assert red <= 0.05 * 600


@pytest.mark.parametrize("share", [0.03, 0.1])
def test_values_that_every_seed_lacks_by_chance_are_rarely_a_loss(share: float):
    """By a share of problems alone, 19 % of re-runs are a loss at 3 % without a value, and 86 % at 10 %."""
    lacks = np.random.default_rng(0).random((30, 6, 60)) < share
    lost = 0
    for world in lacks:
        baseline, new = (simulated("s", seeds, code=code) for seeds, code in ((BASELINE, "old"), ([10], "new")))
        for run, without in zip([*baseline["runs"], *new["runs"]], world, strict=True):
            column = run["values"]["effective_diversity[behaviour,ran]"]
            column[:] = [None if gone else value for value, gone in zip(column, without, strict=True)]
        metrics = ["pass@1", "effective_diversity[behaviour,ran]"]
        found = judge([row(new)], [row(baseline)], "b", tolerances=rules.tolerances_of([]), alpha=0.05, metrics=metrics)
        lost += any(line.outcome == "lost" for line in found.subjects[0].lines)
    assert lost <= 2


def test_one_seed_against_five_with_intervals_over_problems_alone_would_often_be_red():
    """Why the spread over training seeds is in the interval: without it, one seed that lies low is a regression."""
    red = 0
    for world in range(40):
        before, after = (simulated("s", seeds, world=world) for seeds in (BASELINE, [10]))
        found = []
        for name in ("pass@1", "diversity_score[exact]", "average_kl[i<j]"):
            new, old = row(after).scores(name), row(before).scores(name)
            found.append(resolved(paired_difference(new, old, confidence=confidence_of(0.05, 7))))
        red += any(found)
    assert red >= 6


@pytest.mark.parametrize(
    ("changed", "metric"),
    [({"quality": -1.5}, "pass@1"), ({"spread": -1.5}, "diversity_score[exact]"), ({"kl": 0.3}, "average_kl[i<j]")],
)
def test_a_real_drop_is_red_and_named(changed: dict[str, float], metric: str):
    verdict = judged(3, [10], **changed)
    assert not verdict.ok
    assert metric in {line.metric for line in verdict.subjects[0].red}
    first, *_ = verdict.report.splitlines()
    assert first.startswith("RED: against b: s: ")
    assert re.search(rf"{re.escape(metric)} fell by \d", first)


PLANTED = {
    "the adapters swapped for the base": {"quality": -0.8, "spread": -2.0, "kl": 0.0},
    "a higher temperature": {"quality": -1.5, "spread": 0.8},
    "a shuffled partition": {"spread": -1.0, "kl": 0.15},
    "a grader that fails right answers": {"quality": -1.5},
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.usefixtures("quick")
def test_a_planted_regression_is_red_with_three_new_seeds_and_mostly_with_one(name: str):
    assert not any(judged(world, [10, 11, 12], **PLANTED[name]).ok for world in range(6))
    assert sum(not judged(world, [10], **PLANTED[name]).ok for world in range(6)) >= 4


def test_a_rise_is_never_red():
    verdict = judged(3, [10], tolerances=NO_TOLERANCE, quality=1.5, spread=1.5, kl=3)
    assert verdict.ok
    assert any(line.note == "resolved, higher" for line in verdict.subjects[0].lines)


def test_a_drop_within_its_tolerance_is_green_however_sure_it_is():
    wide = {name: rules.Tolerance(0.9, relative=True) for name in rules.JUDGED}
    assert judged(3, [10], tolerances=wide, kl=0.3).ok
    assert not judged(3, [10], tolerances=NO_TOLERANCE, kl=0.3).ok


def constant(metric: str, value: float, seeds: Sequence[int], code: str) -> LeaderboardRow:
    """A row whose value of `metric` is the same for all of 180 problems."""
    result = simulated("s", seeds, problems=180, code=code)
    for run in result["runs"]:
        run["values"][metric] = [value] * 180
    return row(result)


@pytest.mark.parametrize(
    ("metric", "before", "now", "tolerance"),
    [("pass@1", 0.9, 0.7, ["pass@1=0.2"]), ("vendi[ngram,q=1]", 4.0, 3.8, [])],  # 5 % of 4 is 0.2
)
def test_a_drop_that_is_the_tolerance_is_green_though_it_rounds_to_more(
    metric: str, before: float, now: float, tolerance: list[str]
):
    assert now - before < -0.2  # as floats
    baseline = constant(metric, before, BASELINE, "s")
    for value, ok in ((now, True), (now - 1e-4, False)):
        after, tolerances = constant(metric, value, [7], "new"), rules.tolerances_of(tolerance)
        verdict = judge([after], [baseline], "b", tolerances=tolerances, alpha=0.05, metrics=[metric])
        assert verdict.ok is ok
    assert "fell by 0.2001 (more than 0.2)" in verdict.report


def test_a_metric_without_a_known_direction_is_reported_and_never_red():
    verdict = judged(3, [10], quality=-3, spread=-3)
    [line] = [line for line in verdict.subjects[0].lines if line.metric == "effective_diversity[behaviour,ran]"]
    assert line.outcome == "reported"
    assert line.difference is not None
    assert resolved(line.difference)


def test_more_samplers_make_every_interval_wider():
    rows = [
        [row(simulated(name, seeds, world=i, code=code)) for i, name in enumerate("abc")]
        for seeds, code in (([9], "x"), (BASELINE, "s"))
    ]
    one, three = (
        judge(rows[0][:count], rows[1], "b", tolerances=NO_TOLERANCE, alpha=0.05, metrics=list(rules.RULES)) for count in (1, 3)
    )
    assert (one.tests, three.tests) == (7, 21)
    assert three.confidence == pytest.approx(1 - 2 * 0.05 / 21)
    ours, theirs = (verdict.subjects[0].lines[0].difference for verdict in (one, three))
    assert ours is not None
    assert theirs is not None
    assert (ours.high or 0.0) < (theirs.high or 0.0)
    assert one.notes == ["in the baseline and not checked: b, c"]


def test_a_drop_as_large_as_said_is_seen_about_four_times_in_five():
    kl = "average_kl[i<j]"
    only = {kl: rules.Tolerance(0.0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spa_bench.compare.gate.rules.RULES", {kl: rules.RULES[kl]})
        lines = [judged(world, [10], tolerances=only).subjects[0].lines[0] for world in range(10)]
        shares = [line.visible / line.before for line in lines if line.visible and line.before]
        patch.setattr("spa_bench.compare.gate.checking._visible", lambda *_: None)
        drop = 1 - float(np.mean(shares))
        seen = sum(not judged(world, [10], tolerances=only, kl=drop).ok for world in range(20, 80))
    assert 0.65 <= seen / 60 <= 0.98


def test_the_spread_over_seeds_is_that_of_both_sides_together():
    a, b = np.array([0.5]), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    error, df = pooled_error(a, b)
    assert df == 4
    assert error == pytest.approx(b.std(ddof=1) * (1 + 1 / 5) ** 0.5)
    assert pooled_error(a, a) == (0.0, 0)
    both, twice = pooled_error(b, b + 1)
    assert twice == 8
    assert both == pytest.approx(b.std(ddof=1) * (2 / 5) ** 0.5)


def test_the_interval_of_one_seed_against_five_is_where_the_next_seed_lies():
    """Scores that are the same for all problems: nothing is left but the seeds, and the interval has a closed form."""
    means = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    before, after = np.repeat(means[:, None], 7, 1), np.full((1, 7), 0.35)
    found = paired_difference(after, before, seeds="alike", confidence=0.9)
    half = t_quantile(4, 0.95) * means.std(ddof=1) * (6 / 5) ** 0.5
    assert found.value == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((0.05 - half, 0.05 + half))
    assert paired_difference(after, before, confidence=0.9).low == pytest.approx(0.05)  # problems alone: no width


def test_seeds_that_do_not_belong_together_are_independent_also_when_they_are_as_many():
    rng = np.random.default_rng(0)
    table = rng.normal(0, 1, (5, 1)) + rng.normal(0, 0.1, (5, 40))
    paired = paired_difference(table + 0.1, table)
    apart = paired_difference(table + 0.1, table, seeds="apart")
    assert resolved(paired)
    assert not resolved(apart)


def test_the_same_rows_give_the_same_verdict_to_the_byte():
    assert judged(1, [10]).markdown == judged(1, [10]).markdown
