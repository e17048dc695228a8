"""Each interval covers the truth about as often as it says, in the design it is made for.

Simulated: problems (and trainings) are drawn again each time from a population whose mean is known. The quick tests have 300
replications, so the share is within ±0.04 of the coverage, three standard errors; the slow ones have 4000.
"""

import numpy as np
import pytest

from spa_bench.metrics.intervals import estimate, paired_difference

QUICK, LONG = 300, 4000
LEAST = 0.905  # three standard errors below 0.945, at 300 replications
BOOTSTRAP = 1_000_000  # seeds of resampling; those of the data would make the two agree by chance


def rng(seed):
    return np.random.default_rng(seed)


def coverage(make, truth, replications=QUICK):
    """The share of replications whose interval holds the truth; `make` gives an Estimate from a generator and a seed."""
    hits = 0
    for i in range(replications):
        result = make(rng(i), BOOTSTRAP + i)
        hits += result.low <= truth <= result.high
    return hits / replications


def of_one(draw, **options):
    return lambda g, i: estimate(draw(g), seed=i, resamples=500, **options)


def eight_draws(g, problems=60):
    """Hard and easy problems, 8 draws each; mean 0.4."""
    return g.binomial(8, g.beta(0.8, 1.2, size=problems)) / 8


def trainings(g, seeds, problems=60):
    """The same with rates that move with the training; mean 0.4."""
    rates = np.clip(g.beta(4, 6, size=problems) + g.normal(0, 0.05, size=(seeds, 1)), 0, 1)
    return g.binomial(8, rates) / 8


def single(rate, problems=60):
    """One greedy answer a problem."""
    return lambda g: g.binomial(1, rate, size=problems).astype(float)


def pair(g, i, seeds=(1, 1), shift=0.2, problems=60, training=0.1):
    """Two samplers on the same problems; they share the problems, not the trainings."""
    common = g.normal(size=problems)
    a, b = (common + 0.3 * g.normal(size=problems) + training * g.normal(size=(s, 1)) for s in seeds)
    return paired_difference(a + shift, b, seed=i, resamples=500)


def rates_pair(g, i, problems=60):
    """Greedy answers of two samplers that seldom differ: better by 0.03."""
    d = g.choice([1.0, -1.0, 0.0], size=problems, p=[0.05, 0.02, 0.93])
    return paired_difference((d > 0).astype(float), (d < 0).astype(float), rate=True, seed=i, resamples=500)


@pytest.mark.parametrize("problems", [12, 60, 164])
def test_with_one_seed_the_interval_covers_the_rate_over_problems(problems):
    assert LEAST <= coverage(of_one(lambda g: eight_draws(g, problems), rate=True), 0.4) <= 0.985


@pytest.mark.parametrize("problems", [5, 10, 30])
def test_a_few_problems_are_enough_for_an_interval_that_covers(problems):
    assert LEAST <= coverage(of_one(lambda g: g.normal(size=problems)), 0.0) <= 0.98


@pytest.mark.parametrize("confidence", [0.8, 0.9])
def test_the_interval_covers_as_often_as_asked(confidence):
    share = coverage(of_one(eight_draws, rate=True, confidence=confidence), 0.4)
    assert share == pytest.approx(confidence, abs=0.05)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_with_a_few_seeds_the_interval_covers_the_rate_over_trainings(seeds):
    assert coverage(of_one(lambda g: trainings(g, seeds), rate=True), 0.4) >= LEAST


def test_without_the_part_of_the_seeds_the_interval_is_too_narrow():
    assert coverage(of_one(lambda g: trainings(g, 3).mean(axis=0), rate=True), 0.4) < 0.85


def test_over_three_seeds_a_percentile_bootstrap_would_not_cover():
    """Why seeds are not resampled: of normal means over 3 seeds, the percentile interval holds the truth 3 times in 4."""
    means = rng(0).normal(size=(2000, 3))
    draws = means[:, rng(1).integers(0, 3, (500, 3))].mean(axis=2)
    low, high = np.quantile(draws, (0.025, 0.975), axis=1)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.75, abs=0.04)
    alike = coverage(lambda g, i: estimate(np.repeat(g.normal(size=(3, 1)), 10, axis=1), seed=i, resamples=50), 0.0)
    assert alike == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1, 0.9, 0.98])
def test_rates_near_none_and_all_are_covered(rate):
    assert coverage(of_one(single(rate), rate=True), rate) >= LEAST


@pytest.mark.parametrize(("share", "problems"), [(0.02, 30), (0.05, 30), (0.02, 164), (0.98, 164)])
def test_scores_that_few_problems_vary_are_covered(share, problems):
    """A Vendi score of four answers that are all the same but on few problems, or on all but few."""
    make = of_one(lambda g: 1 + 0.755 * g.binomial(1, share, size=problems), bounds=(1, 4))
    assert coverage(make, 1 + 0.755 * share, 150) >= LEAST  # a bootstrap has no width in half of them, and covers 40 to 84 %


def test_without_wilson_rates_near_none_are_not_covered():
    assert coverage(of_one(single(0.02)), 0.02) < 0.80  # in 30 of 100 no problem is solved, and a bootstrap has no width


@pytest.mark.parametrize("problems", [20, 60])
def test_paired_differences_with_one_seed_are_covered(problems):
    assert LEAST <= coverage(lambda g, i: pair(g, i, problems=problems, training=0), 0.2) <= 0.98


@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 5), (4, 3), (5, 2)])
def test_paired_differences_over_seeds_are_covered(seeds):
    assert coverage(lambda g, i: pair(g, i, seeds), 0.2) >= LEAST


def test_differences_of_rates_that_are_seldom_there_are_covered():
    assert coverage(rates_pair, 0.03) >= LEAST  # 0.985 in the long run, and 0.935 by resampled problems alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "truth", "low", "high"),
    [
        pytest.param(of_one(eight_draws, rate=True), 0.4, 0.935, 0.965, id="one seed"),
        pytest.param(of_one(lambda g: g.normal(size=10)), 0.0, 0.935, 0.965, id="10 problems"),
        pytest.param(of_one(lambda g: trainings(g, 2), rate=True), 0.4, 0.94, 1.0, id="2 seeds"),
        pytest.param(of_one(lambda g: trainings(g, 3), rate=True), 0.4, 0.94, 1.0, id="3 seeds"),
        pytest.param(of_one(lambda g: trainings(g, 5), rate=True), 0.4, 0.94, 0.99, id="5 seeds"),
        pytest.param(of_one(single(0.02), rate=True), 0.02, 0.94, 1.0, id="rate 0.02"),
        pytest.param(of_one(single(0.98, 164), rate=True), 0.98, 0.94, 1.0, id="rate 0.98"),
        pytest.param(lambda g, i: pair(g, i, training=0), 0.2, 0.935, 0.965, id="paired, one seed"),
        pytest.param(lambda g, i: pair(g, i, (3, 3)), 0.2, 0.94, 1.0, id="paired, 3 seeds"),
        pytest.param(lambda g, i: pair(g, i, (4, 3)), 0.2, 0.94, 1.0, id="Welch"),
        pytest.param(rates_pair, 0.03, 0.94, 1.0, id="paired rates that seldom differ"),
    ],
)
def test_four_thousand_replications_are_covered_closely(make, truth, low, high):
    assert low <= coverage(make, truth, LONG) <= high
