"""What a study says of the paper's claims follows from the numbers, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from made_up import PROBLEMS
from spa_bench.compare.study.claims import DIVERSITY, Claim, Outcome, Part, claims_of, equal, more, no_worse
from spa_bench.compare.study.designs import STUDIES
from spa_bench.compare.study.measured import change, difference, measure_points, shared_size
from spa_bench.errors import UsageError
from spa_bench.types import Estimate
from study_points import EFFECTIVE, point, rates

HOLDS, FAILS, OPEN = Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN


def between(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, n=100)


@pytest.mark.parametrize(
    ("estimate", "p", "outcome"),
    [
        (between(0.1, 0.2), 0.001, HOLDS),
        (between(0.001, 0.004), 0.001, HOLDS),
        (between(-0.2, -0.1), 0.001, FAILS),
        (between(-0.04, 0.04), 0.9, FAILS),
        (between(-0.04, 0.06), 0.5, OPEN),
        (Estimate.missing("nothing"), None, OPEN),
    ],
)
def test_more_holds_where_it_is_resolved_and_fails_where_it_is_reversed_or_too_small_to_matter(
    estimate: Estimate, p: float | None, outcome: Outcome
):
    [part] = more({"a minus b": (estimate, p)})
    assert part.outcome == outcome


def test_more_corrects_for_all_differences_that_are_looked_at_together():
    [alone] = more({"a": (between(0.001, 0.2), 0.04)})
    among = more({name: (between(0.001, 0.2), 0.04) for name in "abc"})
    assert alone.outcome == HOLDS
    assert {part.outcome for part in among} == {OPEN}


def test_without_a_margin_no_difference_is_too_small_to_matter():
    [part] = more({"kl": (between(-0.001, 0.001), 0.9)}, None)
    assert part.outcome == OPEN


@pytest.mark.parametrize(
    ("low", "high", "same", "not_less"),
    [
        (-0.04, 0.04, HOLDS, HOLDS),
        (0.06, 0.09, FAILS, HOLDS),
        (-0.09, -0.06, FAILS, FAILS),
        (0.02, 0.09, OPEN, HOLDS),
        (-0.09, -0.02, OPEN, OPEN),
    ],
)
def test_equal_and_no_worse_are_decided_by_where_the_interval_lies(low: float, high: float, same: Outcome, not_less: Outcome):
    assert equal("x", between(low, high)).outcome == same
    assert no_worse("x", between(low, high)).outcome == not_less
    assert equal("x", between(low, high), margin=0.2).outcome == HOLDS


def test_an_estimate_without_an_interval_decides_nothing():
    assert equal("x", Estimate(value=0.0)).outcome == OPEN


@pytest.mark.parametrize(
    ("parts", "outcome"),
    [([HOLDS, HOLDS], HOLDS), ([HOLDS, OPEN], OPEN), ([HOLDS, OPEN, FAILS], FAILS), ([], OPEN)],
)
def test_a_claim_needs_all_its_parts_and_one_that_fails_refutes_it(parts: list[Outcome], outcome: Outcome):
    claim = Claim("x is so", tuple(Part("part", p) for p in parts))
    assert claim.outcome == outcome
    assert f"**{outcome}**" in claim.sentence("here")


def table_1(influence: float, lexical: float, *, quality: float = 0.7, spread: float = 0.02) -> list[Any]:
    means = {"single": 0.5, "random": 0.6, "lexical": lexical, "influence": influence}
    return [
        point(
            role,
            {
                "pass@1": rates(quality if role == "influence" else 0.7, spread=spread, shape_seed=i),
                DIVERSITY: rates(mean, spread=spread, shape_seed=i + 10),
                EFFECTIVE: rates(mean / 2, spread=spread, shape_seed=i + 10),
            },
            members=1 if role == "single" else 4,
        )
        for i, (role, mean) in enumerate(means.items())
    ]


def test_table_1_holds_where_diversity_has_the_papers_order_at_equal_pass_at_1():
    claims = claims_of("main", table_1(0.9, 0.8))
    assert claims[0].outcome == HOLDS
    sentence = claims[0].sentence("on t with m, 5 training seeds")
    assert "spa-influence > spa-lexical > spa-random > single" in sentence
    assert "diversity score of spa-influence minus spa-lexical 0.10" in sentence
    # no syntax trees, Vendi scores and divergences were measured
    assert [(c.papers, c.states) for c in claims[1:]] == [
        (False, "the effective diversity orders spa-influence > spa-lexical > spa-random > single")
    ]


def test_a_part_of_the_papers_samplers_is_not_called_its_claim():
    claims = claims_of("main", table_1(0.9, 0.8)[1:])
    assert (claims[0].papers, claims[0].outcome) == (False, HOLDS)
    assert claims_of("main", table_1(0.9, 0.8)[:1]) == []


def test_table_1_does_not_hold_where_two_samplers_are_the_other_way_round_or_the_same():
    assert claims_of("main", table_1(0.7, 0.8))[0].outcome == FAILS
    assert claims_of("main", table_1(0.8, 0.8))[0].outcome == FAILS


def test_table_1_does_not_hold_at_unequal_pass_at_1_and_is_open_where_nothing_is_resolved():
    assert claims_of("main", table_1(0.9, 0.8, quality=0.4))[0].outcome == FAILS
    assert claims_of("main", table_1(0.75, 0.7, spread=0.6))[0].outcome == OPEN


def sweep(role: str, qualities: dict[float, float], diversities: dict[float, float]) -> list[Any]:
    return [
        point(
            role,
            {
                "pass@1": rates(quality, shape_seed=1),
                "pass@K": rates(0.6 + x / 4, shape_seed=2),
                DIVERSITY: rates(diversities[x], shape_seed=3),
                EFFECTIVE: rates(diversities[x] / 3, shape_seed=4),
            },
            x=x,
            members=1 if role == "single" else 4,
        )
        for x, quality in qualities.items()
    ]


FALLING = {0.0: 0.7, 0.25: 0.65, 0.5: 0.6, 1.0: 0.4}
RISING = {0.0: 0.1, 0.25: 0.4, 0.5: 0.6, 1.0: 0.9}


def test_figure_4_holds_where_quality_falls_and_diversity_rises_in_the_papers_range_and_beyond():
    claims = claims_of("temperature", sweep("single", FALLING, RISING))
    assert [c.outcome for c in claims] == [HOLDS, HOLDS]
    assert "from 0 to 0.5" in claims[0].states
    assert "from 0 to 1 " in claims[1].states
    flat = sweep("influence", dict.fromkeys(FALLING, 0.7), RISING)
    assert claims_of("temperature", [*sweep("single", FALLING, RISING), *flat])[0].outcome == FAILS


def test_figure_4_asks_for_no_front_of_a_metric_without_values():
    points = [*sweep("single", FALLING, RISING), *sweep("influence", FALLING, RISING)]
    without = [
        replace(p, contents=tuple({**c, "values": {**c["values"], EFFECTIVE: None}} for c in p.contents)) for p in points
    ]
    assert len(claims_of("temperature", without)) == len(claims_of("temperature", points)) - 1


@pytest.mark.parametrize(("spa", "outcome"), [(0.5, HOLDS), (0.02, FAILS)])
def test_figure_4_says_whether_spa_lies_beyond_the_front_of_single(spa: float, outcome: Outcome):
    qualities, diversities = {0.0: 0.7, 0.5: 0.6}, {0.0: spa, 0.5: 0.7}
    inside = {0.0: 0.7 if spa > 0.1 else 0.55, 0.5: 0.6}
    points = [*sweep("single", FALLING, RISING), *sweep("influence", inside if spa < 0.1 else qualities, diversities)]
    beyond = [c for c in claims_of("temperature", points) if "beyond" in c.states]
    assert [c.outcome for c in beyond] == [outcome, outcome]
    assert "spa-influence[0] lies beyond" in beyond[0].states


REACH, JUDGED_QUALITY = "distinct_k[class]", "quality[judged]"
STUDIES_OF_CLAIMS = ("main", "temperature", "members", "data-fraction", "merge")


def test_a_sampler_whose_temperatures_span_less_than_the_others_says_its_ends():
    def sweep(role: str, *temperatures: float) -> list[Any]:
        return [point(role, {metric: rates(0.5) for metric in ("pass@1", "pass@K", DIVERSITY)}, x=x) for x in temperatures]

    papers, whole, *_ = claims_of("temperature", [*sweep("single", 0.1, 0.5), *sweep("random", 0, 0.5, 1)])
    assert papers.states.startswith("with the temperature from 0 to 0.5 pass@1 falls")
    assert _rises(papers) == ["single from 0.1 to 0.5", "spa-random"]
    assert whole.states.startswith("with the temperature from 0 to 1 pass@1 falls")
    assert _rises(whole) == ["single from 0.1 to 0.5", "spa-random"]


def _rises(claim: Claim) -> list[str]:
    """Of whom and over which temperatures a claim says that the diversity score rises."""
    start = "rise of diversity score of "
    return [part.words.removeprefix(start).rsplit(" 0.000", 1)[0] for part in claim.parts if part.words.startswith(start)]


def open_sweep(*, judged: bool) -> list[Any]:
    """Points of an open-ended task: with the temperature the judged quality falls by 4 and distinct_k rises by 2."""
    points = []
    for i, x in enumerate((0.0, 0.25, 0.5)):
        values = {REACH: 1 + 4 * x + rates(0.5, shape_seed=i), DIVERSITY: rates(0.3 + x, shape_seed=i + 10)}
        values |= {JUDGED_QUALITY: 8 - 8 * x + rates(0.5, shape_seed=i + 20)} if judged else {}
        points.append(point("single", values, x=x, open_ended=True))
    return points


def test_where_no_answer_is_right_or_wrong_the_quality_is_the_judge_s_and_distinct_k_takes_the_place_of_pass_at_k():
    [claim] = claims_of("temperature", open_sweep(judged=True))
    assert (claim.outcome, claim.papers) == (HOLDS, False)
    assert claim.states == "with the temperature from 0 to 0.5 quality falls, and distinct_k and diversity rise, for all"
    assert claim.parts[0].words.startswith("fall of quality of single 3.99")
    assert claim.parts[1].words.startswith("rise of distinct_k of single 1.99")


def test_a_distance_to_the_front_of_an_open_ended_task_is_in_shares_of_the_most_that_can_be():
    def at(role: str, quality: float, reach: float, x: float) -> Any:
        flat = {JUDGED_QUALITY: quality, REACH: reach, DIVERSITY: 0.5}
        tables = {name: np.full((2, PROBLEMS), value) for name, value in flat.items()}
        return point(role, tables, x=x, open_ended=True)

    claims = claims_of("temperature", [at("single", 8, 2, 0), at("single", 6, 3, 0.5), at("random", 9, 3.5, 0)])
    [part] = next(claim for claim in claims if "quality and distinct_k" in claim.states).parts
    # of 10 and of the 4 answers: (0.9, 0.875) from the line between (0.8, 0.5) and (0.6, 0.75)
    assert part.words.startswith("signed distance 0.312 [")


def test_where_nobody_judged_the_quality_no_claim_speaks_of_it():
    [claim] = claims_of("temperature", open_sweep(judged=False))
    assert claim.outcome == HOLDS
    assert claim.states == "with the temperature from 0 to 0.5 distinct_k and diversity rise, for all"
    assert len(claim.parts) == 2
    there = [point(role, {DIVERSITY: rates(0.5)}, open_ended=True) for role in ("single", "random")]
    for study in STUDIES_OF_CLAIMS:
        said = [text for claim in claims_of(study, there) for text in (claim.states, *(part.words for part in claim.parts))]
        assert [text for text in said if "pass@" in text or "quality" in text] == []
        assert not any(claim.papers for claim in claims_of(study, there))


def test_orders_of_an_open_ended_task_have_distinct_k_and_its_quality_counts_as_equal_within_its_own_margin():
    points = [
        point(role, {DIVERSITY: rates(d), REACH: 1 + rates(d), JUDGED_QUALITY: 7 + q + rates(0.5)}, members=k, open_ended=True)
        for role, d, q, k in (("single", 0.3, 0.0, 1), ("random", 0.6, 0.2, 4))
    ]
    first, second = claims_of("main", points)
    assert first.states == "the diversity score orders spa-random > single at equal quality (±0.5)"
    assert second.states == "the distinct_k orders spa-random > single"
    assert (first.outcome, second.outcome) == (HOLDS, HOLDS)


def adapters(pass5: float, *, counts: tuple[int, ...] = (4, 8, 12), role: str = "influence") -> list[Any]:
    return [
        point(
            role,
            {
                "pass@1": rates(0.6, shape_seed=1),
                "pass@4": rates(0.7, shape_seed=6),
                "pass@5": rates(pass5 if k == 12 else 0.8, shape_seed=2),
                DIVERSITY: rates(0.9, shape_seed=3),
                EFFECTIVE: rates(0.9 if k == 12 else 0.4, shape_seed=4),
                f"{EFFECTIVE}@n=4": rates(0.5, shape_seed=4),
                f"{EFFECTIVE}@n=8": rates(0.4, shape_seed=4),
            },
            x=k,
            members=k,
            n=k,
        )
        for k in counts
    ]


def test_figure_6_compares_8_and_12_adapters_at_equal_n_and_equal_k():
    [claim] = claims_of("members", adapters(0.8))
    assert claim.outcome == HOLDS  # the effective diversity at n = 12 is another, and must not count
    assert "from 8 to 12 adapters of spa-influence" in claim.states
    assert "effective diversity at n = 8" in claim.parts[3].words
    [other] = claims_of("members", adapters(0.9))
    assert other.outcome == FAILS
    assert [p.outcome for p in other.parts] == [HOLDS, FAILS, HOLDS, HOLDS]


def test_figure_6_takes_the_two_largest_and_says_so_where_the_papers_are_not_there():
    [claim] = claims_of("members", adapters(0.8, counts=(4, 8)))
    assert "from 4 to 8 adapters" in claim.states
    assert "the paper's 8 and 12 are not both here" in claim.states
    assert not claim.papers
    assert claims_of("members", adapters(0.8))[0].papers


def test_figure_6_has_a_claim_for_samplers_that_the_paper_does_not_have_behind_its_own():
    made = [*adapters(0.8, role="balanced"), *adapters(0.8, role="merge"), *adapters(0.8)]
    names = [claim.states.partition(" adapters of ")[2] for claim in claims_of("members", made)]
    assert names == ["spa-influence", "merge-balanced", "merge"]


def shares(qualities: dict[float, float]) -> list[Any]:
    return [point("single", {"pass@1": rates(q, shape_seed=1)}, x=x) for x, q in qualities.items()]


def test_figure_2_holds_where_15_percent_are_no_worse_even_if_they_are_better():
    claims = claims_of("data-fraction", shares({0.05: 0.3, 0.15: 0.8, 1.0: 0.7}))
    assert [(c.papers, c.outcome) for c in claims] == [(True, HOLDS), (False, FAILS)]
    assert "15 % of the data give single" in claims[0].states
    assert claims_of("data-fraction", shares({0.15: 0.5, 1.0: 0.7}))[0].outcome == FAILS


def test_another_share_than_about_15_percent_is_not_called_the_papers_claim():
    [claim] = claims_of("data-fraction", shares({0.5: 0.7, 1.0: 0.7}))
    assert (claim.papers, claim.outcome) == (False, HOLDS)
    assert claims_of("data-fraction", shares({0.15: 0.7, 0.5: 0.7})) == []


def test_a_change_is_the_rise_of_the_fitted_line_and_its_negative_where_it_should_fall():
    line = sweep("single", {0.0: 0.7, 0.5: 0.6, 1.0: 0.5}, {0.0: 0.3, 0.5: 0.5, 1.0: 0.7})
    found, p = change(line, "pass@1")
    assert found.value == pytest.approx(-0.2, abs=1e-9)
    assert p is not None
    assert p < 0.01
    assert change(line, "pass@1", falls=True)[0].value == pytest.approx(0.2, abs=1e-9)
    assert change(line, DIVERSITY)[0].value == pytest.approx(0.4, abs=1e-9)


def test_a_change_that_is_0_for_every_problem_has_an_interval_all_the_same():
    ones = np.ones((3, 200))
    found, p = change([point("single", {"pass@K": ones}, x=x) for x in (0.0, 0.1, 0.2)], "pass@K")
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.low is not None
    assert found.low < -0.01
    assert p == pytest.approx(1, abs=1e-6)


def test_a_difference_is_paired_by_problem_and_seed():
    hard = rates(0.5, spread=0.3, shape_seed=5)
    a, b = (point("single", {"pass@1": np.clip(hard + d, 0, 1)}, x=d) for d in (0.05, 0.0))
    paired, _ = difference(a, b, "pass@1")
    assert paired.low is not None
    assert paired.low > 0.03
    assert difference(a, b, "pass@5")[0].value is None


def test_points_are_compared_at_the_largest_n_that_all_have():
    assert shared_size(adapters(0.8)[1:]) == 8
    assert shared_size(adapters(0.8, counts=(12,))) == 12


def test_no_runs_are_an_error_that_says_what_to_do():
    with pytest.raises(UsageError, match="no finished runs of this study; leave out --table-only"):
        measure_points(STUDIES["main"], [], {})
