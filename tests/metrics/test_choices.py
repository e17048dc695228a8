"""What members think of choices, in closed form."""

import numpy as np
import pytest

from spa_bench.metrics.choices import agreement, best, normalised, spread

HALF = np.log([0.5, 0.5])


def test_members_that_think_alike_are_not_apart_whatever_their_texts_weigh():
    found = spread([[-1.0, -2.0, -5.0], [-4.0, -5.0, -8.0]])  # the same but for a constant, as another length gives
    np.testing.assert_allclose(found.kl, 0, atol=1e-12)
    np.testing.assert_allclose(found.js, 0, atol=1e-12)


def test_kl_of_two_coins_is_the_closed_form_in_both_directions():
    found = spread(np.log([[0.75, 0.25], [0.5, 0.5]]))
    forward = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    backward = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    np.testing.assert_allclose(found.kl, [[0, forward], [backward, 0]], atol=1e-12)


def test_jensen_shannon_of_members_that_share_nothing_is_log_2():
    found = spread([[0.0, -80.0], [-80.0, 0.0]])
    np.testing.assert_allclose(found.js, [[0, np.log(2)], [np.log(2), 0]], atol=1e-12)


def test_entropy_is_log_o_for_equal_choices_and_0_for_certain_ones():
    np.testing.assert_allclose(spread([[-3.0] * 4, [0.0, -90.0, -90.0, -90.0]]).entropy, [np.log(4), 0], atol=1e-12)


def test_probabilities_of_texts_are_normalised_over_the_choices():
    np.testing.assert_allclose(np.exp(normalised(np.log([[0.1, 0.3]]))), [[0.25, 0.75]])
    np.testing.assert_allclose(np.exp(normalised([[-1000.0, -1000.0]])), [[0.5, 0.5]])


def test_of_equal_choices_the_first_is_best():
    assert best([[-2.0, -1.0, -1.0], [-1.0, -1.0, -9.0]]) == [1, 0]


@pytest.mark.parametrize(("chosen", "value"), [([1, 1, 1], 1), ([0, 1, 2], 0), ([0, 0, 1], 1 / 3), ([2, 2, 1, 1], 1 / 3)])
def test_agreement_is_the_share_of_pairs_that_choose_the_same(chosen: list[int], value: float):
    assert agreement(chosen) == pytest.approx(value)


def test_one_member_agrees_with_nobody():
    assert agreement([3]) is None


@pytest.mark.parametrize("wrong", [[[np.nan, 0.0]], [[-np.inf, 0.0]], [], [[]], [0.0]])
def test_what_is_no_table_of_finite_numbers_is_refused(wrong: list[list[float]]):
    with pytest.raises(ValueError, match="finite numbers of shape"):
        normalised(wrong)
