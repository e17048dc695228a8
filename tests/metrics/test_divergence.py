import math

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from spa_bench.metrics import token_sums
from spa_bench.metrics.divergence import average_kl, average_kl_symmetric, jeffreys, jensen_shannon, kl_matrix


def random_logprobs(members=4, tokens=7, vocabulary=11, seed=0, scale=1.0):
    return log_softmax(scale * np.random.default_rng(seed).normal(size=(members, tokens, vocabulary)), axis=-1)


def of(*distributions):
    """Log-probabilities of one token, a distribution a member."""
    with np.errstate(divide="ignore"):
        return np.log(np.array(distributions, dtype=float))[:, None, :]


def test_kl_of_two_coins_has_its_closed_form():
    matrix = kl_matrix(of([0.5, 0.5], [0.9, 0.1]))
    assert matrix[0, 1] == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert matrix[1, 0] == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))


def test_kl_is_averaged_over_tokens():
    logprobs = random_logprobs()
    p = np.exp(logprobs)
    brute = [[np.mean([entropy(p[i, t], p[j, t]) for t in range(7)]) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(kl_matrix(logprobs), brute, atol=1e-12)


def test_identical_members_do_not_diverge():
    logprobs = np.repeat(random_logprobs(members=1, tokens=50, vocabulary=300), 3, axis=0)
    matrix = kl_matrix(logprobs)
    assert (matrix >= 0).all()
    assert matrix.max() < 1e-13
    assert jensen_shannon(logprobs) == pytest.approx(0.0, abs=1e-13)


def test_the_diagonal_is_exactly_zero():
    assert np.diagonal(kl_matrix(random_logprobs(scale=5))).tolist() == [0.0] * 4


def test_chunks_of_tokens_add_up(monkeypatch):
    logprobs = random_logprobs(tokens=10)
    whole = kl_matrix(logprobs), jensen_shannon(logprobs)
    monkeypatch.setattr(token_sums, "_CHUNK", 3 * 4 * 11)  # 3 + 3 + 3 + 1 tokens
    np.testing.assert_allclose(kl_matrix(logprobs), whole[0], atol=1e-14)
    assert jensen_shannon(logprobs) == pytest.approx(whole[1], abs=1e-14)


def test_float32_rounding_of_a_softmax_is_not_divergence():
    logprobs = random_logprobs(members=2, tokens=20, vocabulary=5000, seed=3)
    logprobs[1] = logprobs[0]
    shifted = logprobs.astype(np.float32)
    shifted[1] += np.float32(1e-5)  # every log-probability off by the same rounding: the same distribution
    assert kl_matrix(shifted).max() < 1e-9


def test_a_token_of_probability_zero_adds_nothing():
    matrix = kl_matrix(of([1.0, 0.0, 0.0], [0.5, 0.5, 0.0]))
    assert matrix[0, 1] == pytest.approx(math.log(2))


def test_probability_where_the_other_has_none_is_infinite():
    matrix = kl_matrix(of([1.0, 0.0], [0.5, 0.5]))
    assert matrix[1, 0] == math.inf
    assert average_kl_symmetric(matrix) == math.inf


def test_the_paper_average_takes_i_before_j_only():
    matrix = np.array([[0.0, 1.0, 2.0], [10.0, 0.0, 3.0], [20.0, 30.0, 0.0]])
    assert average_kl(matrix) == pytest.approx(2.0)
    assert average_kl_symmetric(matrix) == pytest.approx(11.0)
    assert jeffreys(matrix) == pytest.approx(22.0)


def test_only_the_paper_average_depends_on_the_order_of_members():
    logprobs = random_logprobs(scale=2)
    forward, backward = kl_matrix(logprobs), kl_matrix(logprobs[::-1])
    assert average_kl(forward) != pytest.approx(average_kl(backward), rel=1e-3)
    assert average_kl_symmetric(forward) == pytest.approx(average_kl_symmetric(backward))
    assert jensen_shannon(logprobs) == pytest.approx(jensen_shannon(logprobs[::-1]))


def test_one_member_has_no_divergence_to_report():
    logprobs = random_logprobs(members=1)
    matrix = kl_matrix(logprobs)
    assert matrix.tolist() == [[0.0]]
    assert [average_kl(matrix), average_kl_symmetric(matrix), jeffreys(matrix), jensen_shannon(logprobs)] == [None] * 4


@pytest.mark.parametrize("members", [2, 5])
def test_jensen_shannon_of_disjoint_members_is_log_k(members):
    assert jensen_shannon(of(*np.eye(members))) == pytest.approx(math.log(members))


def test_jensen_shannon_is_the_mean_kl_to_the_mixture():
    logprobs = random_logprobs(scale=3)
    p = np.exp(logprobs)
    brute = np.mean([[entropy(p[i, t], p[:, t].mean(axis=0)) for t in range(7)] for i in range(4)])
    assert jensen_shannon(logprobs) == pytest.approx(brute, abs=1e-12)


def test_the_input_is_left_alone():
    logprobs = of([1.0, 0.0], [0.5, 0.5])
    before = logprobs.copy()
    kl_matrix(logprobs)
    jensen_shannon(logprobs)
    assert np.array_equal(logprobs, before)


@pytest.mark.parametrize("function", [kl_matrix, jensen_shannon])
@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        (np.zeros((2, 3)), "shape"),
        (np.zeros((2, 0, 3)), "shape"),
        (np.random.default_rng(0).normal(size=(2, 3, 4)), "not log-probabilities"),
        (random_logprobs() / math.log(2), "not log-probabilities"),
        (np.full((2, 1, 3), np.nan), "NaN"),
        (np.full((2, 1, 3), -np.inf), "-inf"),
    ],
)
def test_what_is_not_a_log_softmax_is_refused(function, logprobs, message):
    with pytest.raises(ValueError, match=message):
        function(logprobs)


@pytest.mark.parametrize("function", [average_kl, average_kl_symmetric, jeffreys])
def test_a_matrix_that_is_not_square_is_refused(function):
    with pytest.raises(ValueError, match="members, members"):
        function(np.zeros((2, 3)))
