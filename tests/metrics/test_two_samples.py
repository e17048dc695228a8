"""How alike two sets of vectors are: closed forms, brute force, and the package mauve-text where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spa_bench.metrics.two_samples import classifier_auc, clustered, frechet_distance, frontier_area, k_means, mmd2


def test_the_area_of_equal_histograms_is_1_and_counts_need_no_scale():
    assert frontier_area(np.array([3, 1]), np.array([6, 2])) == pytest.approx(1.0, abs=1e-9)


def test_the_area_of_histograms_without_a_common_bin_is_that_of_two_powers():
    """The curve is ((1 - w)^5, w^5), whose area is 5 B(6, 5); trapezoids over 25 points are a little above it."""
    exact = 5 * math.factorial(5) * math.factorial(4) / math.factorial(10)
    assert frontier_area(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(exact, rel=0.05)


def test_the_area_falls_with_the_distance_and_both_sides_are_alike():
    base = np.array([0.5, 0.5])
    near, far = (frontier_area(base, np.array([p, 1 - p])) for p in (0.4, 0.1))
    assert 1 > near > far > 0
    assert frontier_area(np.array([0.1, 0.9]), base) == pytest.approx(far, abs=1e-9)
    with pytest.raises(ValueError, match="same bins"):
        frontier_area(base, np.array([1.0, 0.0, 0.0]))


def test_clusters_of_separate_heaps_are_the_heaps():
    heaps = np.eye(3) * 10
    x, y = heaps[[0, 0, 1]], heaps[[1, 2, 2, 2]]
    ours, theirs = clustered(x, y, clusters=5, seed=0)  # there are three different rows
    assert sorted(zip(ours.tolist(), theirs.tolist(), strict=True)) == [(0, 3), (1, 1), (2, 0)]
    assert k_means(np.zeros((4, 2)), 3, seed=0)[1] == 1


def test_frechet_of_a_shift_and_of_a_stretch():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(rows, rows + np.array([1.0, 2.0, 0.0])) == pytest.approx(5.0)
    centred = rows - rows.mean(0)
    spread = np.trace(np.cov(centred, rowvar=False, bias=True))
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * spread)  # (3 - 1)² of the variance


def test_mmd_by_brute_force():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 2)), rng.normal(1, 1, size=(7, 2))
    both = [*x, *y]
    apart = [float(((a - b) ** 2).sum()) for i, a in enumerate(both) for b in both[:i]]
    width = 2 * float(np.median(apart))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(-float(((a - b) ** 2).sum()) / width)

    within_x = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    across = np.mean([k(a, b) for a in x for b in y])
    assert mmd2(x, y) == pytest.approx(within_x + within_y - 2 * across)
    assert mmd2(np.ones((3, 2)), np.ones((4, 2))) == 0.0
    with pytest.raises(ValueError, match="at least 2"):
        mmd2(x[:1], y)


def test_a_classifier_tells_heaps_apart_and_the_same_items_not():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 4))
    names = [*range(40), *range(40, 80)]
    assert classifier_auc(x, x + 20, names, seed=0) == 1.0
    same = classifier_auc(x, x, [*range(40), *range(40)], seed=0)
    assert same == pytest.approx(0.5, abs=1e-9)  # an item has one score on both sides
    assert classifier_auc(x[:2], x[2:4], [0, 1, 2, 3], seed=0) is None


@pytest.mark.parametrize(("items", "dimensions"), [(8, 8), (16, 32)])
def test_small_sets_that_are_alike_have_half_on_average(items, dimensions):
    rng = np.random.default_rng(3)
    names = range(2 * items)
    found = [classifier_auc(*rng.normal(size=(2, items, dimensions)), names, seed=seed) for seed in range(100)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)  # scores of all folds together gave 0.35 and 0.43
    same = np.full((items, dimensions), 0.1)
    assert classifier_auc(same, same, names, seed=0) == 0.5


def test_our_frontier_ranks_sets_as_mauve_text_does():
    mauve = pytest.importorskip("mauve", reason="mauve-text is not installed: pip install 'spa-bench[mauve]'")
    rng = np.random.default_rng(3)
    target = rng.normal(size=(200, 8))
    ours, theirs = [], []
    for shift in (0.0, 0.4, 0.8, 1.6, 3.2):
        other = rng.normal(size=(200, 8)) + shift
        ours.append(frontier_area(*clustered(other, target, clusters=20, seed=0)))
        theirs.append(float(mauve.compute_mauve(p_features=other, q_features=target, seed=1, verbose=False).mauve))
    assert np.argsort(ours).tolist() == np.argsort(theirs).tolist() == [4, 3, 2, 1, 0]
    assert ours == pytest.approx(theirs, abs=0.1)


def test_our_area_is_that_of_mauve_text_for_the_same_histograms():
    compute = pytest.importorskip("mauve.compute_mauve", reason="mauve-text is not installed: pip install 'spa-bench[mauve]'")
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.3, 0.2, 0.4])
    x, y = compute.get_divergence_curve_for_multinomials(p, q, np.linspace(1e-6, 1 - 1e-6, 25), 5).T
    areas = [float((np.diff(a[i]) * (b[i][1:] + b[i][:-1]) / 2).sum()) for a, b in ((x, y), (y, x)) for i in (np.argsort(a),)]
    assert frontier_area(p, q) == pytest.approx(sum(areas) / 2, rel=1e-6)
