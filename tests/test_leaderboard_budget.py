"""Rows are sorted by any metric, and compared at the budget of the cheapest: values at n' are those of the answers it buys."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import Call
from made_up import hashed_anew, made_up
from spa_bench.compare.leaderboard import build_rows, save_all
from spa_bench.compare.leaderboard.budget import at_equal, sort_rows
from spa_bench.compare.leaderboard.budget_front import fronts_at
from spa_bench.compare.leaderboard.budget_table import said
from spa_bench.errors import UsageError

ANY, DISTINCT, VENDI, EFFECTIVE = (
    "any_of_n", "distinct_correct[ast]", "vendi[ngram,q=1]", "effective_diversity[ast,correct]",
)  # fmt: skip


def priced(name: str, cost: float, **options: Any) -> dict[str, Any]:
    """A result whose answers cost so many tokens, and a thousandth of that in seconds."""
    result = made_up(name, **{"quality": 0.5, "spread": 0.6, "n": 8, **options})
    result["metrics"]["tokens[spent]"] = {"value": cost, "low": cost, "high": cost, "problems": 200, "reason": ""}
    samples = result["runs"][0]["counts"]["samples"]
    stages = {"generation": cost / 1000 * samples, "training 2 adapters": 7.0, "grading": 99.0}
    result["runs"][0]["cost"] = {"seconds": 200.0, "stages": stages}
    return result


def mean(row: Any, name: str, size: int | None = None) -> float:
    return float(np.mean(row.scores(name, size)))


@pytest.mark.parametrize(("what", "scale"), [("tokens", 1), ("seconds", 1000)])
def test_the_budget_is_that_of_the_cheapest_and_buys_fewer_of_the_dear(what: Any, scale: float):
    rows = build_rows([priced("cheap", 10), priced("dear", 20, seed=1), priced("between", 80 / 6, seed=2)])
    budget = at_equal(rows, what)
    assert budget.amount * scale == pytest.approx(80)
    found = {r.row.label: r for r in budget.rows}
    assert {label: round(r.n, 9) for label, r in found.items()} == {"cheap": 8.0, "dear": 4.0, "between": 6.0}
    cheap, dear, between = (found[label].estimates for label in ("cheap", "dear", "between"))
    assert cheap[VENDI].value == pytest.approx(mean(found["cheap"].row, VENDI))
    assert dear[VENDI].value == pytest.approx(mean(found["dear"].row, VENDI, 4))
    assert dear[ANY].value == pytest.approx(mean(found["dear"].row, ANY, 4))
    assert dear[DISTINCT].value == pytest.approx(4 * mean(found["dear"].row, EFFECTIVE, 4))
    row = found["between"].row  # as often 4 answers as 8
    assert between[VENDI].value == pytest.approx((mean(row, VENDI, 4) + mean(row, VENDI)) / 2)
    assert between[DISTINCT].value == pytest.approx((4 * mean(row, EFFECTIVE, 4) + 8 * mean(row, EFFECTIVE)) / 2)
    assert (between[DISTINCT].low or 0) < (between[DISTINCT].value or 0) < (between[DISTINCT].high or 0)
    assert {r.prepared for r in budget.rows} == {7.0}  # beside the budget, not in it


def test_a_budget_of_less_than_two_answers_goes_by_pass_at_1_and_has_no_diversity():
    budget = at_equal(build_rows([priced("cheap", 10, n=2), priced("dear", 40, seed=1)]), "tokens")
    [dear] = [r for r in budget.rows if r.row.label == "dear"]
    assert dear.n == 0.5
    assert dear.estimates[ANY].value == pytest.approx(mean(dear.row, "pass@1") / 2)
    assert dear.estimates[DISTINCT].value == pytest.approx(mean(dear.row, "pass@1") / 2)
    assert VENDI not in dear.estimates


def test_the_front_at_the_budget_is_of_what_the_budget_buys():
    results = [
        priced("cheap", 10, quality=0.5, spread=0.5),
        priced("dear", 20, quality=0.5, spread=0.9, seed=1),  # ahead at equal answers, and its half is not
        priced("good", 10, quality=0.7, spread=0.4, seed=2),
        priced("poor", 10, quality=0.2, spread=0.1, seed=3),
        priced("dearest", 80, quality=0.9, spread=0.9, seed=4),
    ]
    budget = at_equal(build_rows(results), "tokens")
    fronts = {(front.quality, front.diversity): front for front in fronts_at(budget)}
    assert fronts.keys() == {(ANY, VENDI), (ANY, DISTINCT)}
    front = fronts[ANY, VENDI]
    values = {r.row.label: (r.estimates[ANY].value, r.estimates[VENDI].value) for r in budget.rows if VENDI in r.estimates}
    assert {*front.shares} == {
        name
        for name, (q, d) in values.items()
        if not any(a >= q and b >= d and (a, b) != (q, d) for a, b in values.values() if None not in (q, d, a, b))
    }
    assert "cheap" in front.shares
    assert "poor" in front.others
    assert front.without == ("dearest",)  # one answer has no Vendi score
    assert list(front.shares.values()) == sorted(front.shares.values(), reverse=True)
    assert all(0 < share <= 1 for share in front.shares.values())
    assert fronts[ANY, DISTINCT].without == ()
    assert fronts_at(at_equal(build_rows(results[:1]), "tokens")) == []


def test_rows_are_in_the_order_of_what_the_budget_buys():
    results = [priced("good", 20, quality=0.6), priced("cheap", 10, quality=0.5, seed=1)]
    assert [r.label for r in build_rows(results)] == ["good", "cheap"]
    assert [r.row.label for r in at_equal(build_rows(results), "tokens").rows] == ["cheap", "good"]
    assert [r.row.label for r in at_equal(build_rows(results), "tokens", sort="pass@1").rows] == ["good", "cheap"]


def test_rows_are_sorted_by_a_metric_and_costs_the_other_way_round():
    rows = build_rows([priced("a", 10, quality=0.7, spread=0.1), priced("b", 20, quality=0.3, spread=0.9, seed=1)])
    assert [r.label for r in sort_rows(rows, "pass@1")] == ["a", "b"]
    assert [r.label for r in sort_rows(rows, "vendi")] == ["b", "a"]
    assert [r.label for r in sort_rows(rows, "tokens[spent]")] == ["a", "b"]
    with pytest.raises(UsageError, match=r"--sort is 'pas@1', which no row of t has; did you mean 'pass@1'"):
        sort_rows(rows, "pas@1")
    with pytest.raises(UsageError, match="--sort is 'x', which no row of t has"):
        at_equal(rows, "tokens", sort="x")


def test_a_task_without_the_metric_keeps_its_order(tmp_path: Path, call: Call):
    one, two = priced("a", 10, quality=0.6), priced("b", 20, seed=1)
    other = priced("c", 5)
    other["task"] = other["spec"]["task"]["name"] = "other"
    for result, value in ((one, 0.1), (two, 0.9)):
        result["metrics"]["mine"] = {"value": value, "low": 0.0, "high": 1.0, "problems": 200, "reason": ""}
    first, second = save_all([one, two], tmp_path / "t.json") + save_all([hashed_anew(other)], tmp_path / "other.json")
    for options in ([], ["--at-equal", "tokens"], ["--at-equal", "seconds"]):
        done = call("leaderboard", first, second, "--sort", "mine", "--json", *options)
        assert done.code == 0, done.err
        assert [row["sampler"] for row in json.loads(done.out)] == ["c", "b", "a"]
    assert call("leaderboard", first, "--sort", "seconds", "--at-equal", "tokens").code == 0
    done = call("leaderboard", first, second, "--sort", "none")
    assert (done.code, done.err.startswith("spa-bench: --sort is 'none', which no row of other, t has")) == (2, True)


def test_a_row_without_costs_is_refused_in_one_line_that_names_it(tmp_path: Path, call: Call):
    [path] = save_all([priced("cheap", 10), made_up("free", quality=0.5, spread=0.5, n=8, seed=1)], tmp_path / "t.json")
    for what, why in (("tokens", "this result does not have it"), ("seconds", "no time of generation is recorded")):
        done = call("leaderboard", path, "--at-equal", what)
        wanted = f"spa-bench: --at-equal {what}: nobody knows what an answer of free costs ({why}); leave its runs out\n"
        assert (done.code, done.err) == (2, wanted)


def test_seconds_of_other_machines_and_answers_chosen_together_are_said():
    results = [priced("cheap", 10), priced("dear", 20, seed=1)]
    assert "hardly comparable" not in said(at_equal(build_rows(results), "seconds"))
    results[1]["spec"]["numerics"] = {"device": "cuda"}
    results[1]["design"] = "chosen together, not exchangeable"
    budget = at_equal(build_rows([results[0], hashed_anew(results[1])]), "seconds")
    assert "hardly comparable" in said(budget)
    assert "dear: the answers are chosen together" in said(budget)
    assert "hardly comparable" not in said(at_equal(build_rows(results), "tokens"))


def test_every_format_has_the_rows_at_the_budget_and_their_n(tmp_path: Path, call: Call):
    [path] = save_all([priced("cheap", 10), priced("dear", 20, seed=1)], tmp_path / "t.json")
    page = call("leaderboard", path, "--at-equal", "tokens").out
    assert f"Made by `spa-bench leaderboard {path} --at-equal tokens`" in page
    assert "### At equal tokens" in page
    assert "Budget of a problem: 80 tokens that are drawn" in page
    [line] = [x for x in page.splitlines() if x.startswith("| dear") and x.count("|") == 10]
    assert line.split("|")[2].strip() == "4"
    rows = {
        row["sampler"]: row["at_equal"] for row in json.loads(call("leaderboard", path, "--at-equal", "tokens", "--json").out)
    }
    assert (rows["dear"]["what"], rows["dear"]["budget"], rows["dear"]["n"]) == ("tokens", 80.0, 4.0)
    assert rows["dear"]["metrics"][DISTINCT]["at_n"] == 4.0
    text = call("leaderboard", path, "--at-equal", "tokens", "--format", "csv").out
    lines = {(x["sampler"], x["metric"]): x for x in csv.DictReader(io.StringIO(text))}
    assert {metric for _, metric in lines} == {"pass@1", ANY, DISTINCT, VENDI}
    assert float(lines["dear", DISTINCT]["value"]) == rows["dear"]["metrics"][DISTINCT]["value"]
    assert lines["dear", DISTINCT]["at_n"] == "4.0"
    latex = call("leaderboard", path, "--at-equal", "tokens", "--format", "latex").out
    assert "at equal tokens" in latex
    assert "different right programs" in latex
