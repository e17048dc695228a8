"""Pages and pictures of studies: everything is there, and the same numbers give the same bytes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from spa_bench.compare.study.claims import DIVERSITY, Outcome, claims_of
from spa_bench.compare.study.designs import STUDIES
from spa_bench.compare.study.measured import MeasuredPoint
from spa_bench.compare.study.pictures import _PANELS, figure_of, pictures
from spa_bench.compare.study.tables import Report, _how, as_json, page, table
from study_points import point, rates, whole_point

SERIES = {"single": (0.7, 0.5), "random": (0.7, 0.6), "lexical": (0.7, 0.7), "influence": (0.7, 0.9)}


def report(study: str, *, seeds: int = 5) -> Report:
    grid: list[float | None] = {"main": [None], "temperature": [0.0, 1.0], "data-fraction": [0.15, 1.0]}[study]
    roles = {"main": [*SERIES], "temperature": ["single", "influence"], "data-fraction": ["single"]}[study]
    points = []
    for role in roles:
        quality, spread = SERIES[role]
        points += [whole_point(study, role, quality - (x or 0) / 5, spread, x=x, seeds=seeds) for x in grid]
    return _report(study, points, seeds)


def dials(*, seeds: int = 5) -> Report:
    """Two dials between single and spa-lexical, of which one bulges outwards, beside the samplers at their ends."""
    points = [whole_point("merge", role, *SERIES[role], seeds=seeds) for role in ("single", "lexical")]
    for role, bulge in (("merge", 0.0), ("balanced", 0.2)):
        for x in (0.0, 0.5, 1.0):
            more = bulge * (x == 0.5)
            points.append(whole_point("merge", role, 0.8 - 0.2 * x + more, 0.4 + 0.3 * x + more, x=x, seeds=seeds))
    return _report("merge", points, seeds)


def _report(study: str, points: list[MeasuredPoint], seeds: int) -> Report:
    return Report(
        study=STUDIES[study],
        points=points,
        claims=claims_of(study, points),
        command="spa-bench study",
        wanted=len(points) * seeds,
    )


@pytest.mark.parametrize("study", ["main", pytest.param("temperature", marks=pytest.mark.slow), "data-fraction"])
def test_the_same_numbers_give_the_same_page_rows_and_pictures(study: str):
    whole = report(study)
    assert page(whole) == page(whole)
    assert as_json(whole) == as_json(whole)
    drawn = pictures(whole)
    assert drawn == pictures(whole)
    assert drawn["png"].startswith(b"\x89PNG")
    assert b"<svg" in drawn["svg"]
    assert b"<dc:date>" not in drawn["svg"]


@pytest.mark.slow
def test_a_dial_is_a_curve_over_the_front_of_the_other_samplers():
    whole = dials()
    drawn = pictures(whole)
    assert drawn == pictures(whole)
    assert drawn["png"] != pictures(_report("merge", whole.points[2:], 5))["png"]  # without the others
    head, _, *lines = table(whole).splitlines()
    assert head.split()[:2] == ["sampler", "λ"]
    assert [line.split()[:2] for line in lines[2:5]] == [["merge", "0"], ["merge", "0.5"], ["merge", "1"]]
    assert len({line.count("|") for line in table(whole, style="md").splitlines()}) == 1
    text = page(whole)
    assert text.startswith("# Quality and diversity along a dial between adapters\n")
    assert "of the SPA paper" not in text
    assert "That along the dial of merge from λ = 0 to 1 pass@1 falls and diversity rises **holds**" in text
    outside = [c for c in whole.claims if "lies beyond the front of pass@1 and diversity score that the other" in c.states]
    assert [(c.states.split()[0], c.outcome) for c in outside] == [
        ("merge[λ=0.5]", Outcome.OPEN),
        ("merge-balanced[λ=0.5]", Outcome.HOLDS),
    ]


def test_the_page_of_shares_says_how_much_data_is_enough_or_that_it_is_not_determined():
    few = report("data-fraction")
    assert "The share of the data at which pass@1 of single is within 0.05 of its plateau is not determined: 2 shares" in page(
        few
    )
    levels = {0.05: 0.3, 0.1: 0.5, 0.25: 0.68, 0.5: 0.7, 1.0: 0.7}  # near 0.7 - 0.8 exp(-x / 0.07)
    whole = _report("data-fraction", [whole_point("data-fraction", "single", y, 0.5, x=x) for x, y in levels.items()], 5)
    text, rows = page(whole), {row["metric"]: row for row in json.loads(as_json(whole))["laws"]}
    assert "## How much data an adapter is worth" in text
    assert re.search(r"- pass@1 of single is within 0\.05 of its plateau from \d+(\.\d+)? % \[", text)
    recommended = rows["pass@1"]["recommended"]
    assert 0.1 < recommended["low"] <= recommended["value"] <= recommended["high"] < 0.5
    assert pictures(whole) == pictures(whole)
    assert "laws" not in json.loads(as_json(report("main")))


@pytest.mark.slow
def test_other_numbers_give_another_picture():
    one, other = report("data-fraction"), report("data-fraction", seeds=3)
    assert pictures(one)["png"] != pictures(other)["png"]


@pytest.mark.slow
def test_the_settings_of_a_users_own_pictures_do_not_change_ours():
    import matplotlib

    whole = report("data-fraction")
    before = pictures(whole)
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        assert pictures(whole) == before
        assert matplotlib.rcParams["font.size"] == 30.0


def test_the_page_of_table_1_has_the_verdict_first_and_paired_differences_behind_the_table():
    text = page(report("main"))
    assert text.index("The paper's claim that the diversity score orders") < text.index("| sampler ")
    assert "## spa-influence minus the others, paired by problem and seed" in text
    assert "| spa-lexical " in text.split("spa-influence minus   |")[-1]
    assert "- That the effective diversity orders" in text
    assert "Revision abc." in text
    assert "Fewer than" not in text
    assert "Not finished" not in text


def test_a_page_says_that_seeds_are_few_and_runs_are_missing():
    few = report("main", seeds=2)
    text = page(Report(study=few.study, points=few.points, claims=few.claims, command=few.command, wanted=20))
    assert "**Fewer than 5 training seeds** (2): intervals are wide." in text
    assert "**Not finished**: 8 of 20 runs are in this table." in text


def test_the_table_has_every_metric_and_the_setting():
    head, _, *lines = table(report("temperature")).splitlines()
    for name in ("temperature", "pass@1", "pass@K", "diversity_score[exact]", "diversity_score[ast]", "average_kl[i!=j]"):
        assert name in head
    assert len(lines) == 4
    assert lines[1].split()[:2] == ["single", "1"]


def test_where_n_differs_metrics_that_depend_on_it_stand_at_the_shared_n_too():
    points = [whole_point("members", "influence", 0.7, 0.8, x=k) for k in (4.0, 8.0)]
    content: Any = points[1].row.result
    content["size"] = content["n"] = 8
    for run, metrics in zip(content["runs"], points[1].contents, strict=True):
        run["values_at"]["4"] = run["values_at"]["2"]
        metrics["size"] = 8  # type: ignore[index]
    whole = Report(study=STUDIES["members"], points=points, claims=claims_of("members", points), command="x", wanted=10)
    head = table(whole).splitlines()[0]
    assert "vendi[ngram,q=1] (at its own n)" in head
    assert "vendi[ngram,q=1] (at n = 4)" in head
    assert "pass@2" in head
    assert pictures(whole)["svg"]


def test_the_rows_as_json_hold_the_claims_with_their_parts():
    content = json.loads(as_json(report("main")))
    assert content["study"] == "main"
    assert len(content["rows"]) == 4
    assert content["claims"][0]["outcome"] in {"holds", "does not hold", "is not resolved"}
    assert content["claims"][0]["parts"][0]["words"].startswith("diversity score of spa-influence minus spa-lexical")


@pytest.mark.parametrize("judged", [False, True])
@pytest.mark.parametrize("study", ["main", "temperature", "members", "data-fraction", "merge"])
def test_panels_of_an_open_ended_task_are_of_the_metrics_that_it_has(study: str, *, judged: bool):
    points = []
    for role, x in zip(["single", "random", "influence"] if study == "main" else ["single"] * 3, (0.0, 0.5, 1.0), strict=True):
        values = {f"distinct_k[class]{at}": 1 + rates(x) for at in ("", "@n=4")}
        values |= {DIVERSITY: rates(x), "average_kl[i<j]": rates(x)}
        values |= {"quality[judged]": 9 - 8 * rates(x)} if judged else {}
        made = point(role, values, x=x, members=2, open_ended=True)
        made.row.result.update(task="open-mini", model="m", size=4)
        points.append(made)
    panels = _PANELS[study](_report(study, points, 5))
    figure = figure_of(panels, "title", 3)
    how = _how(_report(study, points, 5))
    assert "pass@" not in how
    assert ("In quality it is ±0.5." in how) == judged
    said = [text for axes in figure.axes for text in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())]
    assert [text for text in said if "pass@" in text or "effective" in text] == []
    assert any("distinct_k" in text for text in said)
    assert any("quality" in text for text in said) == judged
    drawn = [axes for axes in figure.axes if axes.lines or axes.containers]
    assert len(drawn) == len(figure.axes) - sum(not axes.get_visible() for axes in figure.axes)
