"""`spa-bench compare`: B minus A, how seeds are paired, what differs, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, Done
from simulated import Result, candidate, one_after_another, set_in
from spa_bench.compare.gate.tables import number_text


def compared(call: Call, *arguments: object) -> tuple[dict[str, Any], Done]:
    done = call("compare", *arguments, "--json")
    assert done.code == 0, done.err
    [row] = json.loads(done.out)
    return row, done


def test_compare_is_b_minus_a_with_holm_over_the_metrics(baseline: Path, tmp_path: Path, call: Call):
    row, _ = compared(call, baseline, candidate(tmp_path, kl=0.2, seeds=(5, 6, 7, 8, 9)))
    kl, right = row["metrics"]["average_kl[i<j]"], row["metrics"]["pass@1"]
    assert kl["value"] == pytest.approx(kl["b"] - kl["a"], rel=1e-6)
    assert kl["value"] < 0
    assert kl["resolved"]
    assert kl["adjusted_p"] >= kl["p"]
    assert not right["resolved"]
    assert row["notes"] == ["training seeds: other seeds on both sides, taken as independent"]
    assert row["spec_changes"] == [{"key": "code.source", "before": '"s"', "after": '"new"'}]
    assert (row["a"]["sampler"], row["b"]["seeds"]) == ("s", [5, 6, 7, 8, 9])


def test_the_values_of_both_sides_are_of_the_problems_where_both_have_one(baseline: Path, tmp_path: Path, call: Call):
    def half(result: Result) -> None:
        for run in result["runs"]:
            run["values"]["vendi[ngram,q=1]"] = [None] * 30 + [1.6] * 30

    def unlike(result: Result) -> None:
        for run in result["runs"]:
            run["values"]["vendi[ngram,q=1]"] = [4.0] * 30 + [1.5] * 30

    (tmp_path / "a").mkdir()
    row, _ = compared(call, candidate(tmp_path / "a", unlike), candidate(tmp_path, half, seeds=(8,)))
    found = row["metrics"]["vendi[ngram,q=1]"]
    assert (found["a"], found["b"], found["value"]) == pytest.approx((1.5, 1.6, 0.1))


def test_compare_pairs_equal_seeds_and_says_when_one_seed_tells_nothing_of_the_next(baseline: Path, tmp_path: Path, call: Call):
    row, _ = compared(call, f"{baseline}:s", f"{baseline}:other")
    assert row["notes"][0] == "training seeds: the same seeds on both sides, paired"
    row, _ = compared(call, baseline, candidate(tmp_path))
    assert "intervals are over problems only" in row["notes"][0]


def test_compare_of_one_spec_says_whether_the_runs_are_the_same(baseline: Path, tmp_path: Path, call: Call):
    def other(result: Result) -> None:
        result["runs"][0]["records"] = "cd" * 16

    row, _ = compared(call, baseline, candidate(tmp_path, other, seeds=(2,), code="s"))
    assert any(note.startswith("seed 2 has the same spec on both sides and differs: texts") for note in row["notes"])
    assert row["spec_changes"] == []


def test_compare_prints_a_table_and_writes_markdown(baseline: Path, tmp_path: Path, call: Call):
    page = tmp_path / "page.md"
    done = call("compare", f"{baseline}:s", f"{baseline}:other", "--markdown", page)
    assert done.code == 0
    assert "B minus A, 95 %" in done.out
    assert "sampler.name" in done.out
    assert page.read_text().startswith("### t 1: A = s (")


def test_compare_speaks_of_a_and_b_and_folds_what_one_side_lacks(baseline: Path, tmp_path: Path, call: Call):
    def trained(result: Result) -> None:
        result["spec"]["sampler"]["lora"] = {"rank": 8, "alpha": 16.0, "steps": 24}
        result["spec"]["sampler"]["own"] = {"one": 1, "two": 2}
        for run in result["runs"]:
            run["values"]["average_kl[i<j]"] = [None] * len(result["problems"])

    other = candidate(tmp_path, trained)
    row, _ = compared(call, baseline, other)
    assert {"sampler.lora.rank", "sampler.lora.alpha", "sampler.lora.steps"} < {c["key"] for c in row["spec_changes"]}
    text = call("compare", baseline, other).out
    head = next(line for line in text.splitlines() if line.startswith("spec "))
    assert head.split() == ["spec", "A", "B"]
    (lora,) = (line for line in text.splitlines() if line.startswith("sampler.lora"))
    assert lora.split(maxsplit=2) == ["sampler.lora.*", "(absent)", "(3 keys)"]
    assert "sampler.own.one" in text  # two keys stay two rows
    (left_out,) = (line for line in text.splitlines() if "only A has it" in line)
    assert "average_kl[i<j]" in left_out
    assert "before" not in text
    back = call("compare", other, baseline).out
    assert "only B has it" in back
    assert "sampler.lora.*" in back


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("{0}", "{0}", "holds other, s; say which, as in"),
        ("{0}:s", "{0}:s", "are the same s, seeds 0, 1, 2, 3, 4; a sampler does not differ from itself"),
        ("{0}:z", "{0}:s", "has no sampler 'z'; there are other, s"),
    ],
)
def test_compare_says_what_it_cannot_do(a: str, b: str, said: str, baseline: Path, call: Call):
    error = call("compare", a.format(baseline), b.format(baseline)).error()
    assert said.replace("other, s", "") in error or said in error or said.replace("other, s", "s, other") in error


def test_compare_of_other_tasks_is_one_line(baseline: Path, tmp_path: Path, call: Call):
    other = candidate(tmp_path, one_after_another(set_in("task", value="u"), set_in("spec", "task", "name", value="u")))
    assert "s is on t and s on u: other tasks cannot be paired" in call("compare", baseline, other).error()


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0.0, "0.000"), (-0.0, "0.000"), (-1e-9, "0.000"), (-0.0004, "-0.0004"), (0.012, "0.0120"), (0.5, "0.500")],
)
def test_small_numbers_have_four_decimals_and_nothing_is_minus_zero(value: float | None, said: str):
    assert number_text(value) == said
