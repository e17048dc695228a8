"""The paired test is its interval, inverted; and what the confidence and the bounds of rates change."""

import math

import numpy as np
import pytest
from scipy import stats

from spa_bench.metrics.intervals import (
    PROBLEMS_ONLY,
    TOO_FEW_TO_EXCLUDE,
    equivalent,
    estimate,
    paired_difference,
    paired_test,
    resolved,
)
from spa_bench.metrics.problem_part import wilson
from spa_bench.types import Estimate


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (4, 3)])
@pytest.mark.parametrize("shift", [0.1, 0.3, -0.4])
def test_p_is_where_the_interval_begins_to_exclude_zero(seeds, shift):
    a, b = rng(1).normal(size=(seeds[0], 40)) + shift, rng(2).normal(size=(seeds[1], 40))
    difference, p = paired_test(a, b)
    assert difference == paired_difference(a, b)
    assert 0.0005 < p < 1
    assert resolved(paired_difference(a, b, confidence=1 - p * 1.0001))
    assert not resolved(paired_difference(a, b, confidence=1 - p * 0.999))


def test_p_of_many_normal_differences_is_that_of_the_t_test():
    d = rng(3).normal(size=200) + 0.13
    _, p = paired_test(d, np.zeros(200), resamples=50_000)
    assert p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=0.1)


def test_p_of_seeds_alone_is_welchs():
    a = np.repeat(rng(1).normal(size=(4, 1)) + 2, 8, axis=1)
    b = np.repeat(rng(2).normal(size=(3, 1)), 8, axis=1)
    _, p = paired_test(a, b)
    assert p == pytest.approx(stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False).pvalue, rel=1e-3)


def test_p_does_not_care_which_side_is_first():
    a, b = rng(1).normal(size=(3, 40)) + 0.3, rng(2).normal(size=(3, 40))
    assert paired_test(a, b)[1] == pytest.approx(paired_test(b, a)[1], rel=1e-6)


def test_p_is_never_below_one_in_the_number_of_resamples():
    a = rng(1).normal(size=200) + 5
    assert paired_test(a, np.zeros(200))[1] == 1 / 2000
    assert paired_test(a, np.zeros(200), resamples=100)[1] == 1 / 100


def test_p_is_one_when_nothing_differs():
    scores = rng().random(30)
    assert paired_test(scores, scores)[1] == 1.0
    assert paired_test(scores, scores, rate=True)[1] == 1.0


def test_p_under_no_difference_is_uniform():
    p = [paired_test(rng(i).normal(size=60), np.zeros(60), seed=10_000 + i, resamples=1000)[1] for i in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_without_an_interval_there_is_no_p():
    assert paired_test(np.array([1.0]), np.array([0.0])) == (
        Estimate(value=1.0, low=None, high=None, n=1, reason="one problem: no interval"),
        None,
    )
    assert paired_test(np.array([np.nan]), np.array([0.0])) == (Estimate.missing("no problem has a value"), None)
    assert paired_test(np.array([np.inf]), np.array([0.0]))[1] is None


@pytest.mark.parametrize(("problems", "p"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125), (30, 1 / 2000)])
def test_a_few_problems_that_all_differ_alike_show_no_more_than_a_sign_test(problems, p):
    difference, found = paired_test(np.ones(problems), np.zeros(problems))
    assert found == p
    assert resolved(difference) == (p <= 0.05)
    assert (TOO_FEW_TO_EXCLUDE in difference.reason) == (p > 0.05)
    assert difference.value == 1.0


def test_more_confidence_is_a_wider_interval():
    scores = rng().random((3, 40))
    for make in (estimate, lambda x, **options: paired_difference(x, x**2, **options)):
        widths = [(e := make(scores, confidence=c)).high - e.low for c in (0.5, 0.9, 0.95, 0.99)]
        assert (np.diff(widths) > 0).all()
        assert make(scores) == make(scores, confidence=0.95)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_none_is_refused(confidence):
    for call in (estimate, lambda x, **o: paired_difference(x, x, **o), lambda x, **o: paired_test(x, x, **o)):
        with pytest.raises(ValueError, match="confidence"):
            call(np.zeros(3), confidence=confidence)


def test_few_problems_have_students_interval():
    d = rng(5).normal(size=6)
    theirs = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    found = estimate(d, resamples=100_000)
    assert (found.high - found.low) == pytest.approx(theirs.high - theirs.low, rel=0.08)  # shape differs, width does not


def test_a_rate_of_single_answers_is_no_narrower_than_wilson():
    for right in (1, 3, 30, 59):
        scores = np.r_[np.ones(right), np.zeros(60 - right)]
        found, (low, high) = estimate(scores, rate=True), wilson(right, 60)
        assert found.low <= low + 1e-12
        assert found.high >= high - 1e-12
        assert found.high - found.low < 1.35 * (high - low)
    assert estimate(np.r_[1, np.zeros(59)]).high < wilson(1, 60)[1]  # only as a rate


def test_scores_that_vary_less_than_single_answers_are_worth_more_problems():
    steady = np.tile([0.4, 0.6], 30)
    assert estimate(steady, rate=True).high - 0.5 < 0.3 * (wilson(30, 60)[1] - 0.5)


def test_identical_rates_may_still_differ_on_problems_not_seen():
    scores = rng().random(60)
    found = paired_difference(scores, scores, rate=True)
    unseen = wilson(0, 60)[1]
    assert (found.low, found.high) == pytest.approx((-unseen, unseen))
    assert found.reason == PROBLEMS_ONLY
    wide = paired_difference(scores, scores, rate=True, confidence=0.99)
    assert wide.high == pytest.approx(wilson(0, 60, 0.99)[1])
    always = paired_difference(np.ones(60), np.zeros(60), rate=True)
    assert (always.low, always.high) == pytest.approx((1 - 2 * unseen, 1.0))


def test_a_difference_of_rates_stays_between_its_bounds():
    a, b = np.r_[np.ones(9), 0.0], np.zeros(10)
    assert paired_difference(a, b, rate=True).high == 1.0
    assert paired_difference(a, b).high > 1.0
    with pytest.raises(ValueError, match="a rate lies in"):
        paired_difference(a + 1, b, rate=True)


def test_few_problems_that_differ_are_resolved_no_more_often_than_their_level_among_many_samplers():
    """Greedy answers of two equal samplers that differ on one problem in ten: p at 0.05 / 13, where Holm over 13 begins."""
    problems, differ, level = 60, 0.1, 0.05 / 13
    false = 0.0
    for wins, losses in ((w, other) for w in range(13) for other in range(w) if w + other <= 18):
        rest = problems - wins - losses
        scores = np.repeat([1.0, -1.0, 0.0], [wins, losses, rest])
        p = paired_test(np.maximum(scores, 0), np.maximum(-scores, 0), rate=True, resamples=1000)[1]
        ways = math.comb(problems, wins) * math.comb(problems - wins, losses)
        false += 2 * ways * (differ / 2) ** (wins + losses) * (1 - differ) ** rest * (p <= level)
    assert false <= 1.2 * level


@pytest.mark.parametrize(("wins", "told"), [(4, False), (5, True)])
def test_a_difference_on_few_problems_has_at_least_the_mid_p_value_of_a_test_by_signs(wins: int, told: bool):
    a = np.repeat([1.0, 0.0], [wins, 60 - wins])
    found, p = paired_test(a, np.zeros(60), rate=True)
    assert 0.5**wins <= p <= 1.25 * 0.5**wins
    assert (found.low > 0) == told


@pytest.mark.parametrize("problems", [80, 100, 164])
def test_two_rates_that_differ_by_the_margin_on_few_problems_are_rarely_shown_to_be_equal(problems: int):
    said = 0.0
    for wins in range(9):
        found = paired_difference(np.repeat([1.0, 0.0], [wins, problems - wins]), np.zeros(problems), rate=True)
        said += equivalent(found, 0.05) * math.comb(problems, wins) * 0.05**wins * 0.95 ** (problems - wins)
    assert said <= 0.03  # by resampled problems alone 0.04 to 0.09


@pytest.mark.parametrize("lower", [1 / 3, 2 / 3])
def test_differences_that_are_alike_but_for_rounding_are_alike(lower: float):
    alike = paired_test(np.full(5, 2 / 3), np.full(5, 1 / 3), rate=True)
    better = np.array([2 / 3, lower + 1 / 3, 2 / 3, lower + 1 / 3, 2 / 3])
    difference, p = paired_test(better, np.array([1 / 3, lower, 1 / 3, lower, 1 / 3]), rate=True)
    assert p == pytest.approx(alike[1])
    assert not resolved(difference)
    assert difference.low == pytest.approx(alike[0].low)


@pytest.mark.parametrize("rate", [False, True])
def test_what_rounding_adds_up_to_is_no_difference(rate: bool):
    values = np.full(30, 0.1)
    several = np.array([values] * 3)  # the mean of three times 0.1 is a little more than 0.1
    difference, p = paired_test(several, values, rate=rate)
    assert 0 < difference.value < 1e-15
    assert not resolved(difference)
    assert p == 1.0
