"""`spa-bench compare`: B minus A, how seeds are paired, what differs, and what cannot be compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, Done
from made_up import PROBLEMS, estimated_anew, hashed_anew, made_up, open_ended
from simulated import Result, candidate, one_after_another, set_in
from spa_bench.compare.gate.checking import check_rows
from spa_bench.compare.gate.comparing import compare_rows
from spa_bench.compare.gate.tables import number_text
from spa_bench.compare.leaderboard import LeaderboardRow


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


def of_choices(n: int, seeds: range) -> LeaderboardRow:
    """A vote and any of n of so many answers to multiple choice, which are right more often the more there are."""
    result = made_up("s", quality=0.3, spread=0.5, n=n)
    values = result["runs"][0]["values"]
    any_right = [float(share > 0) for share in values["pass@1"]]
    values |= {"pass@1[mc]": values["pass@1"], "any_of_n[chance]": [1 - 0.75**n] * PROBLEMS}
    values |= {"any_of_n[mc]": any_right, "majority_vote[mc]": any_right}
    return as_row(result, seeds)


def as_row(result: Result, seeds: range) -> LeaderboardRow:
    [run] = result["runs"]
    result["runs"] = [{**run, "seed": seed} for seed in seeds]
    return LeaderboardRow(estimated_anew(hashed_anew(result)), "s")


def test_what_all_answers_reach_together_is_not_compared_at_another_n():
    few, many = of_choices(4, range(5)), of_choices(8, range(5, 7))
    found = {one.metric: one.decision for one in compare_rows(few, many).metrics}
    for name in ("majority_vote[mc]", "any_of_n[mc]", "any_of_n[chance]"):
        assert found[name].difference.value is None
        assert found[name].difference.reason == "it is of all answers to a problem, and n is 4 and 8"
    assert found["pass@1[mc]"].difference.value is not None
    for now, n in ((many, 8), (of_choices(2, range(5, 7)), 2)):
        [subject] = check_rows([now], [few], "b").subjects
        [line] = [line for line in subject.lines if line.metric == "majority_vote[mc]"]
        assert line.outcome == "not compared"
        assert line.note == f"it is of all answers to a problem, and n is 4 in the baseline and {n} now"
    again = compare_rows(few, of_choices(4, range(5, 7)))
    assert {one.metric for one in again.metrics if one.decision.difference.value is not None} >= {"majority_vote[mc]"}


def test_the_means_of_both_sides_differ_by_what_is_between_them_also_where_seeds_lack_values():
    rows = []
    for name, quality in (("a", 5.0), ("b", 5.5)):
        result = open_ended(name, quality, 2.0)
        low = copy.deepcopy(result["runs"][0]) | {"seed": 1}
        low["values"]["quality[judged]"] = [value - 2 for value in low["values"]["quality[judged]"]]
        result["runs"].append(low)
        if name == "b":
            result["runs"][0]["values"]["quality[judged]"][:60] = [None] * 60
        rows.append(LeaderboardRow(estimated_anew(hashed_anew(result)), name))
    [line] = [one for one in compare_rows(*rows).metrics if one.metric == "quality[judged]"]
    assert line.decision.difference.value == pytest.approx(0.5)
    assert line.a is not None
    assert line.b is not None
    assert line.b - line.a == pytest.approx(0.5)


def of_classes(n: int, seeds: range) -> LeaderboardRow:
    """So many answers to each problem without a right one, each in a class of its own."""
    result = open_ended("s", 5.0, 4.0)
    run = result["runs"][0]
    result["n"] = result["size"] = result["k"] = result["spec"]["n"] = n
    run["values"]["distinct_k[class]"], run["values_at"] = [float(n)] * PROBLEMS, {}
    return as_row(result, seeds)


def test_classes_among_one_answer_are_not_compared_with_those_among_two():
    one, two = of_classes(1, range(5)), of_classes(2, range(5, 7))
    found = {line.metric: line.decision.difference for line in compare_rows(one, two).metrics}
    assert found["distinct_k[class]"].reason == "no number of answers that both have"
    assert found["quality[judged]"].value is not None
    [subject] = check_rows([of_classes(1, range(5, 7))], [of_classes(2, range(5))], "b").subjects
    lines = {line.metric: line for line in subject.lines}
    assert lines["distinct_k[class]"].outcome == "not compared"
    assert lines["distinct_k[class]"].note == "no number of answers is known on both sides: n = 2 and n = 1"
    assert lines["quality[judged]"].outcome == "held"


def test_metrics_that_neither_side_has_are_not_mentioned_where_no_n_is_common():
    two, three = (made_up("s", quality=0.5, spread=0.5, n=n) for n in (2, 3))
    three["runs"][0]["values_at"] = {}
    said = {line.metric for line in compare_rows(as_row(two, range(5)), as_row(three, range(5))).metrics}
    assert "vendi[ngram,q=1]" in said
    assert "distinct_k[class]" not in said
