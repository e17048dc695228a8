"""`study samplers`: any cards by name, what can run here, and who is ahead by resolved differences alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import SANDBOX, Call
from spa_bench.compare.leaderboard.budget import Budget, BudgetRow
from spa_bench.compare.study.ahead import _ahead_of, said_ahead
from spa_bench.compare.study.designs import STUDIES, Wishes, points_of, roles_of
from spa_bench.compare.study.pictures import pictures
from spa_bench.compare.study.tables import Report, as_json, page
from spa_bench.errors import UsageError
from spa_bench.types import Estimate
from study_points import whole_point

STUDY = STUDIES["samplers"]


def test_by_default_all_of_our_cards_but_the_paper_s_recipes_take_part():
    roles = roles_of(STUDY, "embedded", None)
    assert {"base", "single", "seeds", "spa-influence", "verbalized", "qdaif", "qdhf", "merge"} <= roles.keys()
    assert not any(name.startswith("paper-") for name in roles)


def test_cards_are_named_and_none_twice(tmp_path: Path):
    assert roles_of(STUDY, "embedded", "base, single") == {"base": "base", "single": "single"}
    with pytest.raises(UsageError, match="names 'base' twice"):
        roles_of(STUDY, "embedded", "base,base")
    with pytest.raises(UsageError, match="takes cards by name"):
        roles_of(STUDY, "paper-code", None)


def test_settings_of_training_reach_the_cards_that_train_alone():
    cards = roles_of(STUDY, "embedded", "base,single,spa-lexical")
    settings = {"lora.steps": 7, "partition.method": "balanced", "decoding.temperature": 0.5}
    base, single, parts = (point.card for point in points_of(STUDY, Wishes(cards=cards, settings=settings)))
    assert not base.trains
    assert (single.lora.steps, parts.lora.steps) == (7, 7)
    assert parts.partition.method == "balanced"
    assert {card.decoding.temperature for card in (base, single, parts)} == {0.5}


def test_all_have_as_many_answers_as_the_most_members():
    cards = roles_of(STUDY, "embedded", "base,spa-random")
    assert {point.n for point in points_of(STUDY, Wishes(cards=cards))} == {4}


def row(label: str, low: float, value: float, high: float) -> BudgetRow:
    class Row:
        pass

    made = Row()
    made.label = label  # type: ignore[attr-defined]
    found = {"any_of_n": Estimate(value=value, low=low, high=high)}
    return BudgetRow(row=made, n=4, cost=1, prepared=0, estimates=found)  # type: ignore[arg-type]


def test_at_equal_tokens_a_sampler_below_the_best_s_interval_is_not_ahead():
    rows = (row("a", 0.6, 0.7, 0.8), row("b", 0.5, 0.6, 0.65), row("c", 0.1, 0.2, 0.3))
    budget = Budget(what="tokens", amount=1.0, rows=rows)
    assert _ahead_of(budget) == {"any_of_n": ["a", "b"]}
    assert _ahead_of(replace(budget, rows=(rows[0], row("d", 0.0, 0.0, 0.0)))) == {"any_of_n": ["a"]}
    assert _ahead_of(replace(budget, rows=rows[:2])) == {"any_of_n": []}  # nothing is resolved


def report(costs: dict[str, float]) -> Report:
    """The study of samplers whose answers cost so many tokens."""
    points = [whole_point("samplers", role, 0.5 + 0.1 * i, 0.8 - 0.2 * i, seeds=2) for i, role in enumerate(costs)]
    for point, cost in zip(points, costs.values(), strict=True):
        priced = {"value": cost, "low": cost, "high": cost, "problems": 200, "reason": ""}
        point.row.result["metrics"]["tokens[spent]"] = priced
    return Report(study=STUDY, points=points, claims=[], command="spa-bench study samplers", wanted=6)


def test_page_rows_and_picture_have_the_front_at_equal_tokens():
    whole = report({"single": 10, "random": 20, "lexical": 60})
    text, rows = page(whole), json.loads(as_json(whole))
    section = text.partition("## The front at equal tokens")[2].partition("## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("- ")]
    assert [line.partition(":")[0] for line in lines] == ["- any of n' and vendi", "- any of n' and different right programs"]
    assert lines[0].endswith("; left out, without a value: spa-lexical")  # n' is 2/3
    assert "single (100%)" in lines[0]
    assert [row["label"] for row in rows["at_equal"]] == [row["label"] for row in sorted(rows["at_equal"], key=by_distinct)]
    assert [front["diversity"] for front in rows["fronts_at_equal"]] == ["vendi[ngram,q=1]", "distinct_correct[ast]"]
    assert rows["fronts_at_equal"][0]["without"] == ["spa-lexical"]
    drawn = pictures(whole)
    assert drawn == pictures(whole)
    assert drawn["png"] != pictures(report({"single": 10, "random": 40, "lexical": 60}))["png"]


def by_distinct(row: dict[str, Any]) -> float:
    return -float(row["metrics"]["distinct_correct[ast]"]["value"])


def test_where_a_cost_is_not_known_nothing_is_compared_at_equal_tokens():
    whole = report({"single": 10, "random": 20})
    del whole.points[0].row.result["metrics"]["tokens[spent]"]
    text = page(whole)
    assert "Not compared: --at-equal tokens: nobody knows what an answer of single costs" in text
    assert "## The front at equal tokens" not in text
    assert "at_equal" not in json.loads(as_json(whole))
    assert pictures(whole)


def test_one_row_is_compared_with_nothing():
    assert said_ahead([]) == ["No claim: there is nothing to compare."]


@pytest.mark.slow
def test_the_command_leaves_out_what_cannot_run_and_writes_the_page(call: Call, tmp_path: Path):
    words = ["--task", "mini-code", "--limit", "2", "--seeds", "0", "--n", "2", "--sandbox", SANDBOX]
    places = ["--out", tmp_path / "runs", "--write", tmp_path / "page"]
    done = call("study", "samplers", *words, "--samplers", "base,verbalized", *places)
    assert done.code == 2  # one that is named is not left out
    assert "has no chat template" in done.err
    done = call("study", "samplers", *words, "--samplers", "base,min-p", "--set", "lora.steps=1", *places)
    assert done.code == 0, done.err
    assert "ahead in pass@1: " in done.out
    page = (tmp_path / "page" / "samplers--mini-code--embedded.md").read_text()
    assert "## Who is ahead at equal answers" in page
    assert "## Who is ahead at equal tokens" in page
    assert "## The front at equal tokens" in page
    assert {path.suffix for path in (tmp_path / "page").iterdir()} == {".md", ".json", ".svg", ".png"}


def test_what_cannot_run_here_is_left_out_with_its_reason(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.compare.study import designs

    monkeypatch.setattr(designs, "card_names", lambda _: ["base", "verbalized"])
    words = ["--task", "mini-code", "--limit", "1", "--seeds", "0", "--n", "2", "--sandbox", SANDBOX]
    done = call("study", "samplers", *words, "--out", tmp_path / "runs", "--write", tmp_path / "page")
    assert done.code == 0, done.err
    assert "left out: verbalized: model 'embedded' has no chat template" in done.err


@pytest.mark.parametrize("more", [(), ("--table-only",)])
def test_a_card_whose_similarity_is_not_given_is_left_out_in_a_line(
    more: tuple[str, ...], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from spa_bench.compare.study import designs

    monkeypatch.setattr(designs, "card_names", lambda _: ["base", "qdhf"])
    words = ["--task", "mini-code", "--limit", "1", "--seeds", "0", "--n", "2", "--sandbox", SANDBOX]
    places = ["--out", tmp_path / "runs", "--write", tmp_path / "page"]
    done = call("study", "samplers", *words, *places)
    assert done.code == 0, done.err
    if more:
        done = call("study", "samplers", *words, *places, *more)
        assert done.code == 0, done.err
    said = "left out: qdhf: there is no learned similarity in FOLDER; make one with `spa-bench similarity learn`, and name its"
    assert done.err.count(said) == 1
    done = call("study", "samplers", *words, *places, "--samplers", "base,qdhf")
    assert (done.code, said.removeprefix("left out: qdhf: ") in done.err) == (2, True)  # one that is named is not left out


def test_a_search_that_cannot_judge_the_answers_of_a_task_is_left_out(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from spa_bench.compare.study import designs

    monkeypatch.setattr(designs, "card_names", lambda _: ["base", "qdaif"])
    words = ["--task", "open-mini", "--limit", "1", "--seeds", "0", "--n", "2", "--engine", "mock"]
    done = call("study", "samplers", *words, "--out", tmp_path / "runs", "--write", tmp_path / "page")
    assert done.code == 0, done.err
    assert "left out: qdaif: the axis 'behaviour' is of programs" in done.err
    assert {path.name.split("-s0")[0] for path in (tmp_path / "runs").glob("open*")} == {"open-mini-base"}
