"""`study samplers`: any cards by name, what can run here, and who is ahead by resolved differences alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import SANDBOX, Call
from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.compare.leaderboard.budget import Budget, BudgetRow
from spa_bench.compare.study.ahead import Lead, _as_often, _leads_at_tokens, said_ahead
from spa_bench.compare.study.designs import STUDIES, Wishes, points_of, roles_of
from spa_bench.compare.study.drawn import _over_front, bars_of, style_of, styles_of
from spa_bench.compare.study.pictures import figure_of, pictures
from spa_bench.compare.study.tables import Report, as_json, page
from spa_bench.errors import UsageError
from spa_bench.types import Estimate
from study_points import whole_point

STUDY = STUDIES["samplers"]
SOME = ("single", "random")


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


def row(label: str, value: float, *, metric: str = "any_of_n", cost: float = 0.0) -> BudgetRow:
    """A row whose values are near `value` on 40 problems; those of all rows go up and down together.

    By `cost` they are lower or higher where an answer costs the most or the least that it may.
    """
    made = LeaderboardRow({}, label)
    scores = value + 0.1 * np.sin(np.arange(40.0))[None] + 0.01 * np.random.default_rng(len(label)).normal(size=(1, 40))
    mean = float(scores.mean())
    found = {metric: Estimate(value=mean, low=mean - 0.3, high=mean + 0.3)}  # wide, for problems are unlike
    shifted = {"fewest": {metric: scores - cost}, "most": {metric: scores + cost}}
    return BudgetRow(row=made, n=4, cost=1, prepared=0, estimates=found, scores={metric: scores}, **shifted)


def leads(rows: Sequence[BudgetRow]) -> list[Lead]:
    return _leads_at_tokens(Budget(what="tokens", amount=1.0, rows=tuple(rows)))


def test_at_equal_tokens_samplers_are_compared_by_paired_differences():
    rows = [row("a", 0.7), row("bb", 0.7), row("ccc", 0.6)]  # all intervals overlap
    [lead] = leads(rows)
    assert (lead.at, lead.metric, lead.ahead, lead.below) == ("tokens", "any_of_n", ("a", "bb"), ("ccc",))
    [nothing] = leads(rows[:2])
    assert (nothing.ahead, nothing.below) == ((), ())


def test_a_difference_that_may_be_one_of_costs_alone_is_not_resolved():
    assert leads([row("a", 0.7, cost=0.03), row("bb", 0.6, cost=0.03)])[0].below == ("bb",)
    assert leads([row("a", 0.7, cost=0.06), row("bb", 0.6, cost=0.06)])[0].below == ()


def test_a_row_without_a_value_is_neither_ahead_nor_below():
    rows = [row("a", 0.7), row("bb", 0.3), row("ccc", 2.0, metric="vendi[ngram,q=1]")]
    [lead] = leads(rows)
    assert (lead.ahead, lead.below, lead.without) == (("a",), ("bb",), ("ccc",))


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


def test_the_rows_say_who_is_ahead_as_the_page_does():
    whole = report({"single": 10, "random": 20, "lexical": 60})
    text, rows = page(whole), json.loads(as_json(whole))
    assert {lead["at"] for lead in rows["ahead"]} == {"answers", "tokens"}
    tokens = {lead["metric"]: lead for lead in rows["ahead"] if lead["at"] == "tokens"}
    assert tokens["vendi[ngram,q=1]"]["without"] == ["spa-lexical"]
    assert f"- vendi: {', '.join(tokens['vendi[ngram,q=1]']['ahead'])}; left out, without a value: spa-lexical" in text
    assert rows["front"]["shares"].keys() | rows["front"]["others"].keys() == {"single", "spa-random", "spa-lexical"}
    for label, share in rows["front"]["shares"].items():
        assert f"{label} ({share:.0%})" in text.partition("## The front\n")[2].partition("##")[0]


def test_a_page_says_that_wrong_answers_count_as_different():
    shares = [point.estimate("pass@1").value or 0.0 for point in report({"single": 10, "random": 20}).points]
    said = f"Of a sampler's answers {100 * min(shares):.3g} to {100 * max(shares):.3g} % are right; diversity score and Vendi"
    assert said in page(report({"single": 10, "random": 20}))


def test_one_that_is_on_the_front_as_often_is_named():
    assert _as_often({"a": 0.9, "b": 0.4}, {"c": 0.5, "d": 0.1}) == "; not on it, and in as many: c (50%)"
    assert _as_often({"a": 0.9}, {"c": 0.5}) == ""


def test_with_one_seed_the_page_says_throughout_that_intervals_are_over_problems():
    one = replace(
        report({"single": 10, "random": 20}), points=[whole_point("samplers", role, 0.5, 0.5, seeds=1) for role in SOME]
    )
    text = page(one)
    assert "intervals are over problems alone" in text
    assert "95 % intervals over problems alone." in text
    assert "intervals over both" not in text
    assert "A claim holds" not in text  # there are none


def test_runs_of_other_revisions_and_failed_answers_are_said():
    whole = report({"single": 10, "random": 20})
    text = page(whole)
    assert not any(said in text for said in ("**Runs of", "**Answers failed**", "| revision"))
    first = whole.points[0].row.result
    first["spec"]["code"] = {**first["spec"]["code"], "git": "fedcba9876"}
    first["spec"]["numerics"] = {"device": "cuda"}
    first["runs"][1]["counts"]["failed"] = 3
    text = page(whole)
    assert "**Runs of 2 revisions and 2 kinds of numerics**: differences between samplers can come from these too" in text
    assert "**Answers failed**: single 3 of 1600. They count as wrong, and as different from nothing." in text
    lines = text.partition("## Where it comes from")[2].splitlines()
    assert [line.split("|")[4].strip() for line in lines if line.startswith(("| point", "| single", "| spa-random"))] == [
        "revision", "fedcba9876", "abc",
    ]  # fmt: skip


def test_bars_of_many_samplers_have_names_that_do_not_overlap():
    many = {f"sampler-{i}": "single" for i in range(36)}
    figure = figure_of([partial(bars_of, roles=many, estimates=[Estimate(value=0.03)] * 36, title="t")], "title", len(many))
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(one.y0 >= other.y1 for one, other in pairwise(boxes))


def test_no_two_of_many_samplers_look_alike():
    roles = list(roles_of(STUDY, "embedded", None))
    styles = styles_of(roles)
    assert len(roles) > 30
    assert len({style[:2] for style in styles.values()}) == len(roles)
    assert styles["spa-influence"] == style_of("influence")  # as in the other studies


def test_points_of_many_samplers_are_not_hidden_by_their_intervals():
    from matplotlib.figure import Figure

    def drawn(count: int) -> tuple[float, list[str]]:
        names = [f"s{i}" for i in range(count)]
        known = {name: (estimate(0.9 - i / 100), estimate(0.03 + i / 1000)) for i, name in enumerate(names)}
        axes = Figure().subplots()
        _over_front(axes, known, dict(zip(names, names, strict=True)), names[-1:])
        return axes.get_ylim()[1], [text.get_text() for text in axes.texts]

    assert drawn(4)[0] > 0.13  # the whole intervals
    top, names = drawn(30)
    assert (top, names) == (pytest.approx(0.03 + 0.029 * 1.1), ["s29"])  # the points, and who is on the front


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1)


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
    page = (tmp_path / "page" / "samplers--mini-code--embedded.md").read_bytes()
    again = call("study", "samplers", *words, "--out", tmp_path / "runs", "--write", tmp_path / "again", "--table-only")
    assert again.code == 0, again.err
    assert "left out, without a finished run: verbalized" in again.err  # whether it can run is not known without the model
    assert (tmp_path / "again" / "samplers--mini-code--embedded.md").read_bytes() == page


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
