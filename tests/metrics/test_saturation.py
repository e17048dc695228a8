"""The saturating law: exact numbers are found again, and what the data do not determine has no number."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from spa_bench.metrics.saturation import Law, fit

SHARES = (0.05, 0.1, 0.15, 0.25, 0.5, 1.0)


def scores(law: Callable[[float], float], *, seeds: int = 5, noise: float = 0.0, shift: float = 0.2) -> np.ndarray:
    """(J, S, P): each problem has its own level, which all shares share; `noise` is of single draws."""
    rng = np.random.default_rng(0)
    level = rng.normal(0, shift, 60)
    level -= level.mean()
    return np.stack([law(x) + level + rng.normal(0, noise, (seeds, 60)) for x in SHARES])


def saturating(x: float) -> float:
    return 0.7 - 0.4 * math.exp(-x / 0.1)


def test_a_law_without_noise_is_found_again():
    law = fit(SHARES, scores(saturating), tolerance=0.05)
    assert law.plateau.value == pytest.approx(0.7, abs=0.002)
    assert law.scale.value == pytest.approx(0.1, rel=0.03)
    assert law.shortfall.value == pytest.approx(0.4 * math.exp(-0.5), abs=0.005)
    assert law.recommended.value == pytest.approx(0.1 * math.log(0.4 / 0.05), rel=0.03)
    assert law.fitted == pytest.approx([saturating(x) for x in SHARES], abs=0.003)
    assert law.at(0.25) == pytest.approx(saturating(0.25), abs=0.003)


def test_levels_of_problems_move_the_plateau_alone():
    wide, narrow = (fit(SHARES, scores(saturating, shift=shift), tolerance=0.05) for shift in (0.3, 0.01))
    assert _width(wide, "plateau") > 10 * _width(narrow, "plateau")
    assert _width(wide, "recommended") == pytest.approx(_width(narrow, "recommended"), abs=0.01)


def _width(law: Law, name: str) -> float:
    estimate = getattr(law, name)
    return float(estimate.high - estimate.low)


def test_noise_widens_the_interval_which_holds_the_truth():
    law = fit(SHARES, scores(saturating, noise=0.3), tolerance=0.05)
    truth = 0.1 * math.log(8)
    assert law.recommended.low is not None
    assert law.recommended.high is not None
    assert law.recommended.low < truth < law.recommended.high
    assert law.recommended.high - law.recommended.low > 0.02


@pytest.mark.parametrize("law", [lambda x: 0.6, lambda x: 0.62 - 0.02 * x], ids=["flat", "falling"])
def test_a_metric_that_does_not_rise_needs_the_smallest_share_and_has_no_scale(law: Callable[[float], float]):
    found = fit(SHARES, scores(law, noise=0.02), tolerance=0.05)
    assert (found.recommended.value, found.recommended.high) == (0.05, 0.05)
    assert found.scale.value is None
    assert "no rise is resolved" in found.scale.reason or "beyond the largest share" in found.scale.reason


def test_a_metric_that_still_rises_has_no_plateau_and_no_recommendation():
    found = fit(SHARES, scores(lambda x: 0.3 + 0.3 * x, noise=0.05), tolerance=0.05)
    for estimate in (found.plateau, found.scale, found.recommended):
        assert estimate.value is None
        assert estimate.reason.startswith("not determined")
    assert found.shortfall.value is not None


def test_a_larger_tolerance_recommends_less():
    strict, easy = (fit(SHARES, scores(saturating), tolerance=t).recommended.value or 0 for t in (0.02, 0.2))
    assert strict == pytest.approx(0.1 * math.log(20), rel=0.05)
    assert easy == pytest.approx(0.1 * math.log(2), rel=0.05)


def test_few_shares_and_shares_without_a_value_are_not_determined():
    table = scores(saturating)
    few = fit(SHARES[:3], table[:3], tolerance=0.05)
    assert few.recommended.reason == "not determined: 3 shares, and the law needs 4"
    table[2] = np.nan
    assert fit(SHARES, table, tolerance=0.05).plateau.reason == "not determined: a share has no value"


def test_one_seed_has_an_interval_over_problems_alone():
    found = fit(SHARES, scores(saturating, seeds=1, noise=0.1), tolerance=0.05)
    assert found.plateau.reason == "interval over problems only"


def test_shapes_that_do_not_fit_are_refused():
    table = scores(saturating)
    with pytest.raises(ValueError, match="ascending shares"):
        fit(SHARES[::-1], table, tolerance=0.05)
    with pytest.raises(ValueError, match="must be positive"):
        fit(SHARES, table, tolerance=0.0)


def test_the_number_behind_a_law_is_that_of_its_problems():
    law = fit(SHARES, scores(saturating, noise=0.1), tolerance=0.05)
    assert [one.n for one in (law.plateau, law.shortfall, law.scale, law.recommended)] == [60] * 4


def test_one_problem_determines_nothing():
    law = fit(SHARES, scores(saturating)[:, :, :1], tolerance=0.05)
    for one in (law.plateau, law.shortfall, law.scale, law.recommended):
        assert (one.value, one.reason) == (None, "not determined: 1 problem with a value at every share")


def test_seeds_and_problems_without_a_score_at_some_share_do_not_count():
    table = scores(saturating, noise=0.1)
    gaps = np.concatenate([table, np.full((len(SHARES), 1, 60), 0.9)], axis=1)
    gaps = np.concatenate([gaps, np.full((len(SHARES), gaps.shape[1], 1), 0.9)], axis=2)
    gaps[1, -1], gaps[2, :, -1] = np.nan, np.nan  # a seed that lacks a share, and a problem that does
    found, wanted = (fit(SHARES, one, tolerance=0.05).plateau for one in (gaps, table))
    assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high))
    assert found.n == 60
