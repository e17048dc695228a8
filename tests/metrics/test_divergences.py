"""All divergences in one pass: closed forms, scipy, bounds, and what each parameter changes."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax
from scipy.stats import entropy

from spa_bench.metrics import token_sums
from spa_bench.metrics.divergence import ONE_MEMBER, average_kl, divergences, jensen_shannon, kl_matrix


def random_logprobs(members=4, tokens=7, vocabulary=31, seed=0, scale=1.0):
    return log_softmax(scale * np.random.default_rng(seed).normal(size=(members, tokens, vocabulary)), axis=-1)


def of(*distributions):
    with np.errstate(divide="ignore"):
        return np.log(np.array(distributions, dtype=float))[:, None, :]


def brute(logprobs, pair):
    """The mean over tokens of a function of two distributions, for every pair of members."""
    p = np.exp(logprobs)
    members, tokens = p.shape[:2]
    return [[np.mean([pair(p[i, t], p[j, t]) for t in range(tokens)]) for j in range(members)] for i in range(members)]


def test_one_pass_agrees_with_scipy_and_the_plain_functions():
    logprobs = random_logprobs(scale=2)
    found = divergences(logprobs)
    np.testing.assert_allclose(found.kl, kl_matrix(logprobs), atol=1e-12)
    np.testing.assert_allclose(found.js, brute(logprobs, lambda p, q: jensenshannon(p, q) ** 2), atol=1e-12)
    np.testing.assert_allclose(found.tv, brute(logprobs, lambda p, q: abs(p - q).sum() / 2), atol=1e-12)
    assert found.jensen_shannon_all == pytest.approx(jensen_shannon(logprobs), abs=1e-12)
    np.testing.assert_allclose(found.entropy, entropy(np.exp(logprobs), axis=-1).mean(axis=1), atol=1e-12)
    assert found.tokens == 7


@pytest.mark.parametrize("order", [0.1, 0.5, 0.9, 1.5, 2.0])
def test_the_alpha_families_follow_their_formulas(order):
    logprobs = random_logprobs(scale=2)
    found = divergences(logprobs, orders=(order,))
    affinity = lambda p, q: (p**order * q ** (1 - order)).sum()  # noqa: E731
    np.testing.assert_allclose(
        found.renyi[order], brute(logprobs, lambda p, q: math.log(affinity(p, q)) / (order - 1)), atol=1e-11
    )
    np.testing.assert_allclose(
        found.amari[order], brute(logprobs, lambda p, q: (1 - affinity(p, q)) / (order * (1 - order))), atol=1e-11
    )


@pytest.mark.parametrize("order", [1 - 1e-5, 1 + 1e-5])
def test_both_alpha_families_go_to_kl_at_one(order):
    logprobs = random_logprobs(scale=2)
    found = divergences(logprobs, orders=(order,))
    np.testing.assert_allclose(found.renyi[order], found.kl, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(found.amari[order], found.kl, rtol=1e-3, atol=1e-9)


def test_amari_at_zero_is_kl_the_other_way_round():
    found = divergences(random_logprobs(scale=2), orders=(1e-5,))
    np.testing.assert_allclose(found.amari[1e-5], found.kl.T, rtol=1e-3, atol=1e-9)


def test_order_one_half_is_hellinger_and_bhattacharyya():
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    found = divergences(of(p, q), top=1)
    hellinger = ((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2
    assert found.hellinger_squared[0, 1] == pytest.approx(hellinger)
    assert found.renyi[0.5][0, 1] == pytest.approx(-2 * math.log(1 - hellinger))


def test_a_half_computed_as_any_other_order_is_the_same():
    logprobs = of([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
    logs = logprobs.astype(float)
    roots = np.exp(logs / 2)
    np.testing.assert_allclose(token_sums._affinity(logs, roots, 0.5), token_sums._affinity(logs, None, 0.5), atol=1e-15)


def test_what_should_be_symmetric_is_and_kl_is_not():
    found = divergences(random_logprobs(scale=2), orders=(0.5, 0.9))
    for matrix in (found.js, found.tv, found.renyi[0.5], found.amari[0.5]):
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-13)
    assert not np.allclose(found.kl, found.kl.T, rtol=1e-2)
    assert not np.allclose(found.renyi[0.9], found.renyi[0.9].T, rtol=1e-2)


def test_the_order_of_members_moves_rows_and_nothing_else():
    logprobs, order = random_logprobs(scale=2), [2, 0, 3, 1]
    one, other = divergences(logprobs), divergences(logprobs[order])
    for name in ("kl", "js", "tv"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name)[np.ix_(order, order)], atol=1e-13)
    np.testing.assert_allclose(other.entropy, one.entropy[order])
    changed = {name for name, value in one.means().items() if value != pytest.approx(other.means()[name], rel=1e-9)}
    assert changed == {"kl[i<j]"}


def test_the_vocabulary_has_no_order():
    logprobs = random_logprobs(scale=2)
    one, other = divergences(logprobs), divergences(logprobs[:, :, np.random.default_rng(1).permutation(31)])
    assert other.means() == pytest.approx(one.means())
    np.testing.assert_allclose(other.top_k_mass, one.top_k_mass)


@pytest.mark.parametrize("scale", [0.1, 1, 5, 40])
def test_the_bounds_between_divergences_hold(scale):
    found = divergences(random_logprobs(members=6, scale=scale))
    assert (found.tv <= 1 + 1e-12).all()
    assert (found.tv <= np.sqrt(found.kl / 2) + 1e-12).all()  # Pinsker
    assert (found.js <= math.log(2) + 1e-12).all()
    assert (found.js <= found.tv * math.log(2) + 1e-12).all()  # Lin 1991
    assert (found.hellinger_squared <= found.tv + 1e-12).all()
    assert (found.renyi[0.5] <= found.kl + 1e-12).all()  # Rényi grows with its order
    assert found.jensen_shannon_all <= math.log(6)


def test_disjoint_members_are_as_far_apart_as_can_be():
    found = divergences(of([1, 0, 0], [0, 1, 0]), top=1, orders=(0.5, 1.5))
    assert found.js[0, 1] == pytest.approx(math.log(2))
    assert (found.tv[0, 1], found.hellinger_squared[0, 1]) == (1.0, 1.0)
    assert found.kl[0, 1] == found.renyi[0.5][0, 1] == found.renyi[1.5][0, 1] == found.amari[1.5][0, 1] == math.inf


def test_zeros_shared_or_one_sided_are_told_apart():
    found = divergences(of([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]), top=1, orders=(0.7, 1.5))
    assert found.renyi[1.5][1, 0] == pytest.approx(math.log(0.5**-0.5) / 0.5)  # 1^1.5 * 0.5^-0.5
    assert found.renyi[1.5][0, 1] == math.inf
    assert found.renyi[0.7][0, 1] == pytest.approx(math.log(0.5**0.7) / -0.3)
    assert found.entropy.tolist() == pytest.approx([math.log(2), 0.0])


@pytest.mark.parametrize("order", [0.1, 0.5, 0.9])
def test_members_that_share_next_to_nothing_are_as_far_apart_as_they_are(order):
    shared = 1e-25
    found = divergences(of([1 - shared, 0, shared], [0, 1 - shared, shared]), top=1, orders=(order,))
    assert found.renyi[order][0, 1] == pytest.approx(math.log(shared) / (order - 1))
    assert found.amari[order][0, 1] == pytest.approx(1 / (order * (1 - order)))
    apart = divergences(of([0.3, 0.7, 0, 0], [0, 0, 0.9, 0.1]), top=1, orders=(order,))
    assert apart.renyi[order][0, 1] == math.inf


def test_extreme_ratios_neither_overflow_nor_turn_into_nan():
    logs = np.array([[[0.0, -700.0]], [[-700.0, 0.0]]])
    found = divergences(logs, top=1, orders=(0.5, 2.0))
    for matrix in (found.kl, found.js, found.tv, found.renyi[2.0], found.amari[2.0]):
        assert not np.isnan(matrix).any()
    assert found.kl[0, 1] == pytest.approx(700.0)


def test_identical_members_do_not_diverge_by_rounding():
    logprobs = np.repeat(random_logprobs(members=1, tokens=50, vocabulary=3000, scale=3), 3, axis=0)
    found = divergences(logprobs, base=logprobs[0], orders=(0.5, 0.3, 2.0))
    for matrix in (found.kl, found.js, found.tv, *found.renyi.values(), *found.amari.values()):
        assert (matrix >= 0).all()
        assert matrix.max() < 1e-13
    assert found.kl_to_base.max() < 1e-13


@pytest.mark.parametrize("vocabulary", [40, 5000])
@pytest.mark.parametrize("top", [1, 5, 20])
def test_top_k_takes_the_likeliest_tokens_of_each(vocabulary, top):
    logprobs = random_logprobs(vocabulary=vocabulary, scale=2)
    found = divergences(logprobs, top=top)
    best = np.sort(np.exp(logprobs), axis=-1)[:, :, -top:]
    np.testing.assert_allclose(found.top_k_mass, best.sum(axis=-1).mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.top_k_entropy, entropy(best, axis=-1).mean(axis=1), atol=1e-12)
    assert found.top_k == top


def test_top_k_of_a_long_flat_vocabulary_counts_ties_once():
    found = divergences(np.full((1, 2, 4096), -math.log(4096)), top=16)
    assert found.top_k_mass[0] == pytest.approx(16 / 4096)
    assert found.top_k_entropy[0] == pytest.approx(math.log(16))


def test_the_whole_vocabulary_as_top_k_is_the_entropy():
    found = divergences(random_logprobs(), top=31)
    np.testing.assert_allclose(found.top_k_entropy, found.entropy)
    np.testing.assert_allclose(found.top_k_mass, 1.0)


def test_kl_to_the_base_is_a_row_of_the_matrix_with_the_base_as_a_member():
    logprobs = random_logprobs(members=5, scale=2)
    found = divergences(logprobs[:4], base=logprobs[4])
    np.testing.assert_allclose(found.kl_to_base, kl_matrix(logprobs)[:4, 4], atol=1e-12)
    assert divergences(logprobs).kl_to_base is None


def test_a_base_that_gives_no_probability_is_infinitely_far():
    found = divergences(of([0.5, 0.5], [1.0, 0.0]), base=of([1.0, 0.0])[0], top=1)
    assert found.kl_to_base.tolist() == [math.inf, 0.0]


def test_chunks_of_tokens_add_up(monkeypatch):
    logprobs = random_logprobs(members=5, tokens=10)
    whole = divergences(logprobs[:4], base=logprobs[4], orders=(0.3,))
    monkeypatch.setattr(token_sums, "_CHUNK", 3 * 4 * 31)  # 3 + 3 + 3 + 1 tokens
    parts = divergences(logprobs[:4], base=logprobs[4], orders=(0.3,))
    assert parts.means() == pytest.approx(whole.means())
    np.testing.assert_allclose(parts.kl_to_base, whole.kl_to_base)
    np.testing.assert_allclose(parts.top_k_entropy, whole.top_k_entropy)


def test_means_are_over_pairs_of_members():
    found = divergences(random_logprobs(members=3))
    means = found.means()
    assert means["kl[i<j]"] == average_kl(found.kl)
    assert means["tv"] == pytest.approx((found.tv[0, 1] + found.tv[0, 2] + found.tv[1, 2]) / 3)
    assert means["jeffreys"] == pytest.approx(2 * means["kl[i!=j]"])
    assert found.reason == ""


def test_one_member_has_no_pairs_and_says_so_but_has_an_entropy():
    found = divergences(random_logprobs(members=1), base=random_logprobs(members=1, seed=1)[0])
    assert set(found.means().values()) == {None}
    assert found.reason == ONE_MEMBER
    assert found.entropy[0] > 0
    assert found.kl_to_base[0] > 0


@pytest.mark.parametrize("order", [0, -0.5, 1, 2.5, math.nan])
def test_orders_outside_the_families_are_refused(order):
    with pytest.raises(ValueError, match="orders lie in"):
        divergences(random_logprobs(), orders=(order,))


@pytest.mark.parametrize("top", [0, 32])
def test_a_top_outside_the_vocabulary_is_refused(top):
    with pytest.raises(ValueError, match="vocabulary of 31"):
        divergences(random_logprobs(), top=top)


def test_a_base_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(7, 31\)"):
        divergences(random_logprobs(), base=random_logprobs(members=1, tokens=6)[0])


def test_the_input_is_left_alone():
    logprobs = of([1.0, 0.0], [0.5, 0.5])
    before = logprobs.copy()
    divergences(logprobs, base=logprobs[1], top=1)
    assert np.array_equal(logprobs, before)
