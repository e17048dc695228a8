"""Measures at one size for all sets: subsets, and the delete-d jackknife, of which the mean has a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spa_bench.metrics.jackknife import over_subsets, subsets


def test_subsets_have_no_place_twice_and_depend_on_the_seed_alone():
    drawn = subsets(10, 5, seed=3, count=20)
    assert drawn.shape == (20, 5)
    assert all(len(set(one)) == 5 and set(one) <= set(range(10)) for one in drawn.tolist())
    assert np.array_equal(drawn, subsets(10, 5, seed=3, count=20))
    assert not np.array_equal(drawn, subsets(10, 5, seed=4, count=20))


@pytest.mark.parametrize(("items", "size"), [(10, 6), (10, 0), (1, 1), (3, 2)])
def test_a_subset_has_one_to_half_of_the_items(items: int, size: int):
    with pytest.raises(ValueError, match="1 to half"):
        subsets(items, size, seed=0)


def test_the_error_of_a_mean_is_that_of_all_items_whatever_the_size_of_subsets():
    values = np.random.default_rng(0).normal(size=400)
    known = values.std(ddof=1) / math.sqrt(400)
    for size in (50, 100, 200):
        drawn = subsets(400, size, seed=1, count=4000)
        found = over_subsets([values[one].mean() for one in drawn], 400, size)
        assert found.low is not None
        assert found.value == pytest.approx(values.mean(), abs=3 * values.std() / math.sqrt(size * 4000))
        assert (found.value or 0) - found.low == pytest.approx(1.96 * known, rel=0.08)


def test_an_interval_covers_the_expectation_at_that_size():
    """The maximum of m uniform numbers has the expectation m / (m + 1)."""
    rng, covered = np.random.default_rng(5), 0
    for trial in range(200):
        values = rng.random(120)
        drawn = subsets(120, 20, seed=trial, count=64)
        found = over_subsets([float(values[one].max()) for one in drawn], 120, 20, bounds=(0.0, 1.0))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 20 / 21 <= found.high
    assert 178 <= covered <= 200  # 95 % of 200 is 190


def test_equal_values_have_no_width_and_bounds_cut():
    assert over_subsets([2.0] * 5, 10, 5).low == 2.0
    found = over_subsets([0.9, 1.0, 1.0, 0.8], 10, 5, bounds=(0.0, 1.0))
    assert found.high == 1.0
    assert over_subsets([0.5, math.nan], 10, 5).value is None
