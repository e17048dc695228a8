"""Rows that differ in more than their sampler: tables say in what, and compare no more than can be compared."""

from __future__ import annotations

from typing import Any

import pytest

from made_up import estimated_anew, hashed_anew, made_up, open_ended
from spa_bench.compare.leaderboard import LeaderboardRow, build_rows, compare_with_reference, markdown, table
from spa_bench.compare.leaderboard.choices import choice_table
from spa_bench.compare.leaderboard.compare import best, front_of, number, rivals
from spa_bench.compare.leaderboard.tables import STYLES, cell
from spa_bench.compare.study.ahead import ahead_sections, leads_of
from spa_bench.publish.report.table import written
from spa_bench.types import Estimate

Result = dict[str, Any]


def of_model(name: str, sampler: str = "s", *, temperature: float = 0.0, seed: int = 0) -> Result:
    result = made_up(sampler, quality=0.5, spread=0.5, temperature=temperature, seed=seed)
    result["model"] = result["spec"]["model"]["name"] = name
    result["spec"]["model"] |= {"hash": name, "file": f"{name}.gguf", "sha256": name}
    return hashed_anew(result)


def changed(part: str, key: str, value: object) -> Result:
    result = made_up("s", quality=0.5, spread=0.5)
    result["spec"][part] = {**result["spec"][part], key: value}
    return hashed_anew(result)


def labels(*results: Result) -> set[str]:
    return {row.label for row in build_rows(results)}


# which row is which --------------------------------------------------------------------------------------------------


def test_a_table_of_several_models_names_that_of_each_row():
    rows = build_rows([of_model("one", "a"), of_model("two", "b", seed=1)])
    for style in ("plain", "md", "latex"):
        lines = table(rows, style=style).splitlines()
        told = {row.label: next(line for line in lines if row.label in line.split()[:2]) for row in rows}
        assert {label: line.rstrip("| \\").split()[-1] for label, line in told.items()} == {"a": "one", "b": "two"}
    assert "model" not in table(rows[:1]).splitlines()[0]


def test_one_sampler_on_two_models_is_told_apart_by_their_names():
    assert labels(of_model("one"), of_model("two")) == {"s[model=one]", "s[model=two]"}


@pytest.mark.parametrize(
    ("part", "key", "values"),
    [
        ("numerics", "dtype", ("float32", "bfloat16")),
        ("task", "prompt", ("completion", "instruct")),
        ("data", "examples", ("mini", "hub:x/y")),
    ],
)
def test_rows_of_one_sampler_are_told_apart_by_what_else_differs(part: str, key: str, values: tuple[str, str]):
    assert labels(*(changed(part, key, value) for value in values)) == {f"s[{key}={value}]" for value in values}


def test_what_has_no_short_text_is_told_apart_by_a_hash():
    [one, two] = labels(changed("task", "instruction", "first\nlines"), changed("task", "instruction", "x" * 80))
    assert one[:2] == two[:2] == "s["
    assert len(one) == len(two) == len("s[abcdef]")


def test_temperatures_of_other_models_are_no_sweep():
    made = [of_model("one", f"t{i}", temperature=i / 4, seed=i) for i in range(2)]
    made.append(of_model("two", "t2", temperature=0.5, seed=2))
    found = front_of(build_rows(made))
    assert found is not None
    assert set(found[1]) == {"t0", "t1"}


# what is compared ----------------------------------------------------------------------------------------------------


def of_k(name: str, quality: float, *, members: int, seed: int) -> Result:
    """A row of 4 answers whose pass@K is at k = `members`."""
    result = made_up(name, quality=quality, spread=0.5, seed=seed)
    result["members"] = result["k"] = result["spec"]["sampler"]["members"] = members
    return estimated_anew(hashed_anew(result))


@pytest.fixture
def other_k() -> list[LeaderboardRow]:
    """Two rows at k = 4, of which one is resolved below the other, and one at k = 2."""
    made = [of_k("good", 0.7, members=4, seed=1), of_k("bad", 0.2, members=4, seed=2), of_k("pairs", 0.5, members=2, seed=3)]
    return build_rows(made)


def test_a_pass_at_another_k_is_neither_best_nor_below(other_k: list[LeaderboardRow]):
    assert [row.label for row in rivals(other_k, "pass@K")] == ["good", "bad"]
    assert best(other_k, "pass@K") == {"good"}
    [lead] = [one for one in leads_of(other_k) if one.metric == "pass@K"]
    assert (lead.ahead, lead.below, lead.without) == (("good",), ("bad",), ("pairs",))


def test_what_depends_on_n_is_not_compared_where_no_n_is_common():
    three, four = made_up("three", quality=0.8, spread=0.5, n=3), made_up("four", quality=0.3, spread=0.5, seed=1)
    three["runs"][0]["values_at"] = {}  # as of one answer, which is at n = 1 alone
    rows = build_rows([three, four])
    assert best(rows, "effective_diversity") == set()
    assert best(rows, "pass@1") == {"three"}
    [compared] = compare_with_reference(rows, "three")
    decision = compared.decisions["effective_diversity"]
    assert (decision.resolved, decision.difference.reason) == (False, "no number of answers that both have")


def of_choices(name: str, n: int) -> Result:
    result = made_up(name, quality=0.5, spread=0.5, n=n, seed=n)
    values = result["runs"][0]["values"]
    values |= {"pass@1[mc]": values["pass@1"], "any_of_n[mc]": values["pass@K"]}
    values["any_of_n[chance]"] = [1 - 0.75**n] * len(values["pass@1"])
    return estimated_anew(result)


def test_any_of_four_answers_is_not_better_than_any_of_two():
    rows = build_rows([of_choices("four", 4), of_choices("two", 2)])
    assert best(rows, "any of n") == set()
    head, *_ = drawn = choice_table(rows, style="md").splitlines()
    assert "**" not in "".join(drawn)
    assert [cell.strip() for cell in head.split("|")][3:6] == [
        "accuracy", "any of n (each at its n)", "by chance (each at its n)",
    ]  # fmt: skip
    assert "each at its n" not in choice_table(rows[:1], style="md")


def test_names_of_samplers_are_no_markup_where_they_are_ahead():
    made = [made_up("a|b", quality=0.7, spread=0.9), made_up("<i>", quality=0.2, spread=0.1, seed=1)]
    rows = build_rows(made)
    page = "\n".join(ahead_sections(rows, leads_of(rows)))
    assert "a\\|b" in page
    assert "a|b" not in page
    assert "<i>" not in page


def test_no_number_is_minus_zero_by_rounding_alone():
    found = Estimate(value=-4e-17, low=-0.0004, high=1e-17, n=9)
    assert number(found) == "0.000 [-0.000, 0.000]"  # the lower end does lie below 0
    assert cell(found, STYLES["plain"], digits=4) == "0.0000 [-0.0004, 0.0000]"
    assert written(-4e-17) == "0.000"


# tasks without a right answer ----------------------------------------------------------------------------------------


def test_the_page_of_open_ended_rows_names_their_axes():
    rows = build_rows([open_ended("fine", 8, 2), open_ended("wide", 6, 3.5)])
    page = "\n".join(ahead_sections(rows, leads_of(rows)))
    assert "On the front of quality and distinct_k, with" in page
    assert "pass@1" not in page
    assert "Points are (judged quality / 10, distinct_k / n)" in markdown(rows, reference=None, command="x")
