import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from spa_bench.metrics.intervals import PROBLEMS_ONLY, equivalent, estimate, paired_difference, resolved
from spa_bench.metrics.problem_part import wilson
from spa_bench.types import Estimate


def rng(seed=0):
    return np.random.default_rng(seed)


def test_wilson_agrees_with_scipy():
    for n in (1, 7, 60, 1000):
        for successes in {0, 1, n // 2, n}:
            for confidence in (0.8, 0.95):
                theirs = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
                assert wilson(successes, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_has_width_at_none_and_all():
    z2 = 1.959963984540054**2
    assert wilson(0, 20) == pytest.approx((0.0, z2 / (20 + z2)))
    assert wilson(20, 20) == pytest.approx((20 / (20 + z2), 1.0))
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


@pytest.mark.parametrize(("successes", "n", "confidence"), [(0, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0)])
def test_wilson_refuses_what_is_no_rate(successes, n, confidence):
    with pytest.raises(ValueError, match=r"rate|confidence"):
        wilson(successes, n, confidence)


def test_the_value_is_the_mean_over_problems_of_the_mean_over_seeds():
    scores = np.array([[0.0, 2.0, np.nan], [np.nan, 4.0, np.nan]])
    result = estimate(scores)
    assert result.value == pytest.approx((0.0 + 3.0) / 2)  # not the mean of the three numbers
    assert result.n == 2


def test_one_seed_gives_the_bootstrap_interval_of_problems():
    scores = rng().normal(size=200)
    result = estimate(scores, resamples=20_000)
    half = 1.96 * scores.std() / math.sqrt(200)
    assert result.low == pytest.approx(result.value - half, abs=0.05 * half)
    assert result.high == pytest.approx(result.value + half, abs=0.05 * half)
    assert result.reason == PROBLEMS_ONLY
    assert estimate(scores[None, :], resamples=20_000) == result


def test_the_seeds_of_a_problem_are_not_resampled_apart():
    # Three seeds of equal scores are one seed's worth of problems, not three times as many.
    scores = rng().normal(size=50)
    one, three = estimate(scores), estimate(np.repeat(scores[None, :], 3, axis=0))
    assert (three.low, three.high) == pytest.approx((one.low, one.high))
    assert three.reason == ""


def test_training_seeds_widen_the_interval_by_students_t():
    means = np.array([0.1, 0.4, 0.2])
    result = estimate(np.repeat(means[:, None], 5, axis=1))  # problems agree: all width comes from the seeds
    half = stats.t.ppf(0.975, 2) * means.std(ddof=1) / math.sqrt(3)
    assert (result.low, result.high) == pytest.approx((means.mean() - half, means.mean() + half))


def test_problems_and_seeds_add_in_quadrature_on_each_side():
    problems = rng(1).exponential(size=40)
    shifts = np.array([-0.3, 0.1, 0.2])
    alone = estimate(problems)
    both = estimate(problems + shifts[:, None])
    seeds = stats.t.ppf(0.975, 2) * shifts.std(ddof=1) / math.sqrt(3)
    assert both.value - both.low == pytest.approx(math.hypot(alone.value - alone.low, seeds))
    assert both.high - both.value == pytest.approx(math.hypot(alone.high - alone.value, seeds))
    assert both.high - both.value > 1.05 * (both.value - both.low)  # the skew of the scores survives


@pytest.mark.parametrize(("value", "side"), [(0.0, "low"), (1.0, "high")])
def test_a_rate_of_none_or_all_has_wilsons_interval(value, side):
    result = estimate(np.full((3, 30), value), rate=True)
    assert (result.low, result.high) == pytest.approx(wilson(30 * value, 30))
    assert getattr(result, side) == value
    assert result.reason == ""


def test_only_a_rate_is_clipped_and_gets_wilsons_interval():
    scores = np.array([[0.0, 0.1, 0.0], [0.9, 1.0, 0.8]])
    assert estimate(scores).low < 0 and estimate(scores).high > 1  # noqa: PT018
    assert (estimate(scores, rate=True).low, estimate(scores, rate=True).high) == (0.0, 1.0)
    zeros = estimate(np.zeros(30))
    assert (zeros.low, zeros.high) == (0.0, 0.0)
    assert "no width" in zeros.reason


@pytest.mark.parametrize("scores", [[-0.1, 0.5], [0.5, 1.1]])
def test_a_rate_outside_zero_to_one_is_refused(scores):
    with pytest.raises(ValueError, match="a rate lies in"):
        estimate(np.array(scores), rate=True)


BOUNDED = np.array([1.0, 1.2, 1.1, 4.0])


def test_an_interval_is_cut_at_the_bounds_of_its_scores_and_changes_in_nothing_else():
    free = estimate(BOUNDED)
    assert free.low < 1
    assert free.high > 3.5
    assert estimate(BOUNDED, bounds=(1.0, math.inf)) == replace(free, low=1.0)
    assert estimate(BOUNDED, bounds=(-math.inf, 3.5)) == replace(free, high=3.5)
    assert estimate(BOUNDED, bounds=(-9.0, 9.0)) == free


def test_an_interval_holds_its_value_though_that_is_out_of_bounds():
    found = estimate(BOUNDED, bounds=(5.0, 6.0))
    assert found.low == found.value
    assert found.high == estimate(BOUNDED, bounds=(0.0, 6.0)).high


def test_one_problem_has_a_value_but_no_interval():
    result = estimate(np.array([[0.2, np.nan], [0.4, np.nan]]))
    assert result == Estimate(value=pytest.approx(0.3), low=None, high=None, n=1, reason="one problem: no interval")


@pytest.mark.parametrize("scores", [np.full((2, 3), np.nan), np.zeros((2, 0)), np.zeros(0)])
def test_no_scores_are_missing_with_a_reason(scores):
    assert estimate(scores) == Estimate.missing("no problem has a value")


def test_infinite_scores_are_missing_with_a_reason():
    scores = np.array([[1.0, np.inf, 2.0], [1.0, np.inf, np.inf]])
    assert estimate(scores) == Estimate.missing("infinite for 2 of 3 problems")
    assert paired_difference(scores, scores) == Estimate.missing("infinite for 2 of 3 problems")


def test_a_problem_without_a_value_counts_for_nothing():
    scores = rng().normal(size=(3, 20))
    with_holes = np.insert(scores, [0, 7, 20], np.nan, axis=1)
    assert estimate(with_holes) == estimate(scores)


def test_a_seed_without_any_value_is_no_seed():
    scores = rng().random((2, 10))
    scores[1] = np.nan
    assert estimate(scores).reason == PROBLEMS_ONLY


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    scores = rng().normal(size=(3, 40))
    assert estimate(scores, seed=5) == estimate(scores, seed=5)
    assert estimate(scores, seed=5) != estimate(scores, seed=6)
    assert paired_difference(scores, scores**2, seed=5) == paired_difference(scores, scores**2, seed=5)
    assert paired_difference(scores, scores**2, seed=5) != paired_difference(scores, scores**2, seed=6)


def test_the_number_of_resamples_matters_and_must_be_positive():
    scores = rng().normal(size=40)
    assert estimate(scores, resamples=500) != estimate(scores, resamples=2000)
    assert paired_difference(scores, scores**2, resamples=500) != paired_difference(scores, scores**2, resamples=2000)
    with pytest.raises(ValueError, match="at least 1 resample"):
        estimate(scores, resamples=0)


def test_the_global_random_state_is_not_touched():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    estimate(rng().normal(size=(2, 10)))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="seeds, problems"):
        estimate(np.zeros((2, 2, 2)))


def test_pairing_removes_what_the_problems_have_in_common():
    difficulty = rng(1).random(80)
    a, b = difficulty + 0.05 + 0.01 * rng(2).normal(size=80), difficulty
    result = paired_difference(a, b)
    assert result.value == pytest.approx(0.05, abs=0.005)
    assert resolved(result)
    assert result.high - result.low < 0.1 * (estimate(a).high - estimate(a).low)
    shuffled = paired_difference(a, rng(3).permutation(b))
    assert not resolved(shuffled)


def test_pairing_removes_what_the_seeds_have_in_common():
    shift = np.array([[0.0], [0.5], [1.0]])
    b = rng(1).normal(size=(3, 60)) * 0.01 + shift
    paired = paired_difference(b + 0.1, b)
    assert (paired.low, paired.high) == pytest.approx((0.1, 0.1))
    crossed = paired_difference(b[::-1] + 0.1, b)
    assert not resolved(crossed)


def test_a_paired_difference_is_the_estimate_of_the_differences():
    a, b = rng(1).random((3, 30)), rng(2).random((3, 30))
    assert paired_difference(a, b) == estimate(a - b)
    mirrored = paired_difference(b, a)
    assert mirrored.value == pytest.approx(-paired_difference(a, b).value)


def test_different_numbers_of_seeds_are_compared_by_welch():
    a = np.repeat(rng(1).normal(size=(4, 1)), 6, axis=1)
    b = np.repeat(3 * rng(2).normal(size=(3, 1)), 6, axis=1)
    result = paired_difference(a, b)
    theirs = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((theirs.low, theirs.high))


def test_welch_without_any_spread_between_seeds_adds_nothing():
    scores = rng().random(30)
    result = paired_difference(np.tile(scores, (3, 1)), np.tile(scores / 2, (2, 1)))
    one = paired_difference(scores, scores / 2)
    assert (result.low, result.high) == pytest.approx((one.low, one.high))
    assert result.reason == ""


def test_a_single_seed_on_one_side_leaves_the_seeds_out_and_says_so():
    result = paired_difference(rng(1).random((3, 20)), rng(2).random((1, 20)))
    assert result.low < result.value < result.high
    assert result.reason == PROBLEMS_ONLY


def test_only_problems_with_a_value_on_both_sides_are_compared():
    a, b = np.array([1.0, np.nan, 3.0, 9.0]), np.array([0.0, 5.0, 1.0, np.nan])
    result = paired_difference(a, b)
    assert (result.value, result.n) == (1.5, 2)
    seeds_differ = paired_difference(np.tile(a, (2, 1)), np.tile(b, (3, 1)))
    assert (seeds_differ.value, seeds_differ.n) == (1.5, 2)
    assert paired_difference(np.array([1.0, np.nan]), np.array([np.nan, 1.0])).value is None


def test_what_a_problem_without_a_partner_scores_does_not_widen_the_interval():
    a, b = rng(1).random((3, 20)), rng(2).random((2, 20))
    a_more = np.column_stack([a, [0.0, 50.0, 100.0]])
    b_more = np.column_stack([b, [np.nan, np.nan]])
    assert paired_difference(a_more, b_more) == paired_difference(a, b)


def test_different_problems_cannot_be_paired():
    with pytest.raises(ValueError, match="cannot pair 3 problems with 4"):
        paired_difference(np.zeros(3), np.zeros(4))


def test_identical_runs_differ_by_nothing_and_the_missing_width_is_explained():
    scores = rng().random(10)
    result = paired_difference(scores, scores)
    assert (result.value, result.low, result.high) == (0.0, 0.0, 0.0)
    assert "no width" in result.reason


def test_equivalence_needs_the_whole_interval_inside_the_margin():
    result = Estimate(value=0.01, low=-0.02, high=0.04, n=50)
    assert equivalent(result, 0.05)
    assert not equivalent(result, 0.03)
    assert not equivalent(Estimate(value=-0.01, low=-0.04, high=0.02, n=50), 0.03)
    assert not equivalent(Estimate(value=0.0, n=1), 1.0)
    with pytest.raises(ValueError, match="positive"):
        equivalent(result, 0.0)


def test_a_difference_is_resolved_when_its_interval_excludes_zero():
    assert resolved(Estimate(value=0.2, low=0.1, high=0.3, n=50))
    assert resolved(Estimate(value=-0.2, low=-0.3, high=-0.1, n=50))
    assert not resolved(Estimate(value=0.1, low=0.0, high=0.2, n=50))
    assert not resolved(Estimate(value=0.1, low=-0.1, high=0.3, n=50))
    assert not resolved(Estimate(value=0.1, n=1))


@pytest.mark.parametrize("most", [0.5, 1.0, 2.0])
def test_few_problems_that_differ_are_a_rate_whatever_the_bounds(most: float):
    share = np.r_[np.zeros(29), 1.0]
    rate, found = estimate(share, rate=True), estimate(most * (2 * share - 1), bounds=(-most, most))
    assert (found.low, found.high) == pytest.approx((most * (2 * rate.low - 1), most * (2 * rate.high - 1)))
