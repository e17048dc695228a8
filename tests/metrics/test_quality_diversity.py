import numpy as np
import pytest

from spa_bench.metrics.frontier import distance_to_front, hypervolume, r2
from spa_bench.metrics.intervals import PROBLEMS_ONLY, estimate, paired_difference, resolved
from spa_bench.metrics.quality_diversity import IN_SWEEP, NO_SWEEP, front_shares, frontier

CENTRES = {"cold": (0.6, 0.2), "warm": (0.5, 0.5), "hot": (0.2, 0.6), "spa": (0.6, 0.6), "poor": (0.3, 0.3)}
SWEEP = ("cold", "warm", "hot")


def scores(problems=60, seeds=None, seed=0, noise=0.02, training=0.0):
    """Problems shift all samplers together by a lot, and each one by a little."""
    g = np.random.default_rng(seed)
    common = g.normal(0, 0.2, size=(2, problems))
    shape = (problems,) if seeds is None else (seeds, problems)
    found = {}
    for name, centre in CENTRES.items():
        shift = 0.0 if seeds is None else g.normal(0, training, size=(seeds, 1))
        found[name] = tuple(c + row + shift + g.normal(0, noise, size=shape) for c, row in zip(centre, common, strict=True))
    return found


def test_who_is_on_the_front_is_the_same_without_the_other_numbers_and_on_any_scale():
    table = scores(seeds=3, noise=0.3)
    whole, found = frontier(table, resamples=100), front_shares(table, resamples=100)
    assert {name: on for name, (on, _) in found.items()} == whole.on_front
    assert {name: share for name, (_, share) in found.items()} == whole.stays_on_front
    assert len({*whole.stays_on_front.values()}) > 2
    assert front_shares({name: (q, 7 * d) for name, (q, d) in table.items()}, resamples=100) == found


def test_values_are_those_of_the_means_over_problems():
    table = scores()
    points = np.array([[q.mean(), d.mean()] for q, d in table.values()])
    found = frontier(table, sweep=SWEEP, reference=(-1, -1), ideal=(2, 2), resamples=50)
    assert found.hypervolume.value == pytest.approx(hypervolume(points, (-1, -1)))
    assert found.r2.value == pytest.approx(r2(points, (2, 2)))
    assert found.distance["spa"].value == pytest.approx(distance_to_front(points[3], points[:3]))
    assert found.adds["spa"].value == pytest.approx(found.hypervolume.value - hypervolume(points[[0, 1, 2, 4]], (-1, -1)))
    assert found.adds["poor"].value == 0.0
    assert found.on_front["spa"]
    assert not found.on_front["warm"]
    assert not found.on_front["poor"]
    assert found.hypervolume.n == 60


def test_a_sampler_outside_the_sweep_is_resolved_though_problems_vary_more():
    table = scores()
    found = frontier(table, sweep=SWEEP, resamples=300)
    assert resolved(found.distance["spa"])
    assert found.distance["spa"].low > 0
    assert found.distance["poor"].high < 0
    assert found.stays_on_front["spa"] == 1.0
    assert found.stays_on_front["poor"] == 0.0
    alone = estimate(table["spa"][0])  # what problems do to one sampler, unpaired
    assert found.distance["spa"].high - found.distance["spa"].low < 0.5 * (alone.high - alone.low)


def test_the_distance_to_one_level_setting_is_a_paired_difference():
    g = np.random.default_rng(1)
    common = g.normal(size=80)
    table = {
        "base": (common, np.zeros(80)),
        "other": (common + 0.5 + 0.3 * g.normal(size=80), np.full(80, -9.0)),  # right of the base's plumb end
    }
    found = frontier(table, sweep=("base",), resamples=4000).distance["other"]
    paired = paired_difference(table["other"][0], table["base"][0])
    assert found.value == pytest.approx(paired.value)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high), abs=0.01)


def coverage(seeds, training, replications, resamples=150):
    """How often the interval of a distance holds the true one."""
    truth = distance_to_front(CENTRES["spa"], np.array([CENTRES[name] for name in SWEEP]))
    hits = 0
    for i in range(replications):
        found = frontier(
            scores(40, seeds, seed=i, noise=0.1, training=training), sweep=SWEEP, resamples=resamples, seed=10_000 + i
        )
        hits += found.distance["spa"].low <= truth <= found.distance["spa"].high
    return hits / replications


@pytest.mark.slow
def test_the_distance_covers_the_truth():
    assert coverage(None, 0.0, 40, resamples=60) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "training"), [(None, 0.0), (3, 0.03)])
def test_the_distance_covers_the_truth_closely(seeds, training):
    assert coverage(seeds, training, 400) >= 0.92


def test_a_sampler_on_the_front_of_ten_others_is_not_inside_it_because_the_best_of_noisy_points_lie_outside():
    """With sides that reach as far as their own resamples, as in this world, one such sampler in six is inside."""
    g = np.random.default_rng(37)
    hard = 0.25 * g.normal(size=(2, 60))
    place = {**{f"s{i}": i / 9 for i in range(10)}, "one": 0.5}
    noisy = {name: hard + 0.25 * g.normal(size=(2, 60)) + [[0.6 - 0.2 * t], [0.4 + 0.2 * t]] for name, t in place.items()}
    table = {name: (points[0], points[1]) for name, points in noisy.items()}
    found = frontier(table, sweep=[name for name in table if name != "one"], resamples=100)
    assert found.distance["one"].high > 0
    for one in (found.distance["one"], found.hypervolume):
        assert one.high - one.value == pytest.approx(one.value - one.low)


def test_training_seeds_widen_the_interval_and_one_seed_says_problems_only():
    one, three = scores(seeds=1, training=0.1), scores(seeds=3, training=0.1)
    assert frontier(one, sweep=SWEEP, resamples=50).distance["spa"].reason == PROBLEMS_ONLY
    both = frontier(three, sweep=SWEEP, resamples=50)
    assert both.distance["spa"].reason == both.hypervolume.reason == ""
    pooled = {name: tuple(side.mean(axis=0) for side in pair) for name, pair in three.items()}
    narrow = frontier(pooled, sweep=SWEEP, resamples=50)
    for wide, thin in ((both.distance["spa"], narrow.distance["spa"]), (both.hypervolume, narrow.hypervolume)):
        assert wide.high - wide.low > 1.5 * (thin.high - thin.low)
        assert wide.value == pytest.approx(thin.value)


def test_unequal_numbers_of_seeds_are_pooled_and_say_so():
    table = scores(seeds=3)
    table["spa"] = tuple(side[:2] for side in table["spa"])
    assert frontier(table, sweep=SWEEP, resamples=20).distance["spa"].reason == PROBLEMS_ONLY


def test_only_problems_with_a_value_everywhere_count():
    table = scores()
    holes = {name: (q.copy(), d.copy()) for name, (q, d) in table.items()}
    holes["hot"][1][7] = np.nan
    fewer = {name: (np.delete(q, 7), np.delete(d, 7)) for name, (q, d) in table.items()}
    assert frontier(holes, sweep=SWEEP, resamples=30) == frontier(fewer, sweep=SWEEP, resamples=30)


def test_without_a_sweep_or_inside_it_there_is_no_distance():
    assert frontier(scores(), resamples=10).distance["spa"].reason == NO_SWEEP
    assert frontier(scores(), sweep=SWEEP, resamples=10).distance["warm"].reason == IN_SWEEP


def test_every_option_changes_the_result():
    table = scores()
    base = {"sweep": SWEEP, "resamples": 40}
    plain = frontier(table, **base)
    assert plain == frontier(table, **base)
    changes = {"sweep": ("cold",), "reference": (-1, 0), "ideal": (2, 1), "confidence": 0.5, "seed": 1, "resamples": 41}
    for name, value in changes.items():
        assert frontier(table, **(base | {name: value})) != plain, name


def test_what_a_sampler_adds_is_never_below_0_in_its_interval():
    rng = np.random.default_rng(3)
    scores = {name: (rng.uniform(0, 1, 12), rng.uniform(0, 1, 12)) for name in "abcd"}
    added = frontier(scores).adds.values()
    assert all(0 <= e.low <= e.value <= e.high for e in added)
    assert any(e.low == 0 for e in added)


def test_a_single_sampler_is_its_own_front():
    found = frontier({"spa": scores()["spa"]}, resamples=20)
    assert found.on_front == {"spa": True}
    assert found.adds["spa"] == found.hypervolume


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({}, {}, "no samplers"),
        ({"a": (np.zeros(3), np.zeros(4))}, {}, "same problems"),
        ({"a": (np.zeros(3), np.zeros((2, 2, 3)))}, {}, "same problems"),
        ({"a": (np.array([0.0, np.nan]), np.zeros(2))}, {}, "2 problems"),
        ({"a": (np.zeros(3), np.zeros(3))}, {"sweep": ("b",)}, "'b'"),
        ({"a": (np.zeros(3), np.zeros(3))}, {"confidence": 1.0}, "confidence"),
        ({"a": (np.zeros(3), np.zeros(3))}, {"resamples": 0}, "resample"),
    ],
)
def test_what_has_no_front_is_refused(table, options, message):
    with pytest.raises(ValueError, match=message):
        frontier(table, **options)


def test_intervals_of_hypervolume_and_r2_stay_within_what_can_be():
    g = np.random.default_rng(2)
    few = {name: (g.integers(0, 2, 5).astype(float), g.integers(0, 2, 5).astype(float)) for name in ("a", "b", "c")}
    found = frontier(few, resamples=200)
    for one in (found.hypervolume, found.r2, *found.adds.values()):
        assert 0 <= one.low <= one.value <= one.high
    assert max(one.high for one in (found.hypervolume, *found.adds.values())) == 1
