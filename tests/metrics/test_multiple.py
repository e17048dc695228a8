import numpy as np
import pytest
from scipy import stats

from spa_bench.metrics.intervals import paired_test, resolved
from spa_bench.metrics.multiple import Decision, holm, resolve
from spa_bench.types import Estimate


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_adjusted_values_keep_the_order_and_stop_at_one():
    assert holm([0.9, 0.5, 0.8]) == [1.0, 1.0, 1.0]
    p = np.random.default_rng(0).random(20)
    adjusted = np.array(holm(list(p)))
    assert (adjusted >= p).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_a_missing_p_value_stays_missing_and_does_not_count():
    assert holm([0.01, None, 0.02]) == pytest.approx([0.02, None, 0.02])
    assert holm([None]) == [None]
    assert holm([]) == []


def test_one_test_alone_is_not_adjusted():
    assert holm([0.03]) == [0.03]


def test_holm_is_the_closed_test_with_bonferroni():
    """Enumeration: H_i is rejected at alpha when every subset of hypotheses that has it fails Bonferroni's test."""
    p = [0.012, 0.04, 0.011, 0.3]
    adjusted = []
    for i in range(4):
        subsets = [[p[j] for j in range(4) if mask >> j & 1] for mask in range(16) if mask >> i & 1]
        adjusted.append(max(min(1.0, len(subset) * min(subset)) for subset in subsets))
    assert holm(p) == pytest.approx(adjusted)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(ValueError, match="p-value"):
        holm([0.5, p])


def test_a_difference_may_be_resolved_alone_but_not_among_many():
    one = (Estimate(value=0.1, low=0.01, high=0.2, n=50), 0.03)
    nothing = (Estimate(value=0.0, low=-0.1, high=0.1, n=50), 0.9)
    assert resolve({"a": one})["a"].resolved
    found = resolve({"a": one, "b": nothing, "c": (Estimate.missing("x"), None)})
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == Decision(one[0], 0.03, pytest.approx(0.06), False)
    assert found["c"] == Decision(Estimate.missing("x"), None, None, False)


def test_the_confidence_decides():
    tests = {"a": (Estimate(value=0.1, low=0.01, high=0.2, n=50), 0.03)}
    assert resolve(tests, confidence=0.95)["a"].resolved
    assert not resolve(tests, confidence=0.99)["a"].resolved
    with pytest.raises(ValueError, match="confidence"):
        resolve(tests, confidence=1.0)


@pytest.mark.slow
def test_false_claims_in_a_table_stay_below_five_percent():
    plain = corrected = 0
    tables, problems = 150, 40
    for i in range(tables):
        g = np.random.default_rng(i)
        reference = g.normal(size=problems)
        tests = {str(s): paired_test(reference, g.normal(size=problems), seed=10_000 + i, resamples=200) for s in range(6)}
        plain += any(resolved(difference) for difference, _ in tests.values())
        corrected += any(decision.resolved for decision in resolve(tests).values())
    assert stats.binomtest(corrected, tables, 0.05, alternative="greater").pvalue > 0.01
    assert plain / tables > 0.10  # without Holm the claim fails: the correction earns its place
