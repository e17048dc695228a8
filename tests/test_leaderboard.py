"""Leaderboards: rows from runs and result files, what is resolved, formats, and checks of what others send."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import RIGHT, WRONG, InProcessJudge, mock_run
from made_up import PROBLEMS, estimated_anew, hashed_anew, made_up, open_ended
from spa_bench.compare.leaderboard import (
    as_csv,
    as_latex,
    build_rows,
    check,
    compare_with_reference,
    find_results,
    from_runs,
    markdown,
    save,
    table,
)
from spa_bench.compare.leaderboard.compare import best, front_of, number, summary
from spa_bench.compare.leaderboard.migrate import SCHEMA
from spa_bench.compare.leaderboard.rows import LeaderboardRow, common_size
from spa_bench.errors import StoreError, UsageError
from spa_bench.metrics.intervals import estimate, paired_test
from spa_bench.metrics.suite import ALIASES
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.types import Estimate, Request

Make = Callable[..., RunFolder]
ROW_KEYS = [
    "schema_version",
    "task",
    "task_version",
    "problems",
    "sampler",
    "model",
    "n",
    "k",
    "seeds",
    "spec_hash",
    "group_hash",
    "seconds",
    "measured_by",
    "metrics",
]
EFFECTIVE = "effective_diversity[ast,correct]"
NAMES = {"pass@1", "diversity_score[exact]", EFFECTIVE, "vendi[ngram,q=1]", "average_kl[i<j]"}


def good(request: Request) -> str:
    """Always right, each draw in other words."""
    return f"    x{request.draw} = 0\n" * request.draw + RIGHT[request.problem_id]


def poor(request: Request) -> str:
    return WRONG


@pytest.fixture
def make(sandbox: InProcessJudge, three: Path, tmp_path: Path) -> Make:
    def made(name: str = "good", answer: Callable[[Request], str] = good, **options: object) -> RunFolder:
        return mock_run(tmp_path / "runs", three, answer, name=name, **options)  # type: ignore[arg-type]

    return made


def rows_of(*runs: RunFolder) -> list[LeaderboardRow]:
    return build_rows(from_runs(runs))


# rows from runs ------------------------------------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_alone_are_one_row(make: Make):
    changing = [make(answer=lambda r, s=s: RIGHT[r.problem_id] if r.draw < s else WRONG, seed=s) for s in (2, 0, 1)]
    [row] = rows_of(*changing)
    assert row.seeds == [0, 1, 2]
    assert row.scores("pass@1").tolist() == [[0.0] * 3, [0.5] * 3, [1.0] * 3]
    assert row.metrics["pass@1"] == estimate(row.scores("pass@1"), rate=True)
    assert row.metrics["pass@1"].value == 0.5
    assert [run["spec_hash"] for run in row.result["runs"]] == [changing[i].hash for i in (1, 2, 0)]


def test_another_n_or_sampler_is_another_row_and_labels_tell_them_apart(make: Make):
    rows = rows_of(make(), make(n=4), make("poor", poor))
    assert sorted((r.label, r.result["n"]) for r in rows) == [("good[n=2]", 2), ("good[n=4]", 4), ("poor", 2)]


def test_the_same_run_named_twice_counts_once(make: Make):
    folder = make()
    [result] = find_results([folder.path, folder.path.parent / "." / folder.path.name])
    assert [run["seed"] for run in result["runs"]] == [0]


def test_rows_are_sorted_by_effective_diversity(make: Make):
    rows = rows_of(make("poor", poor), make("good"), make("dull", lambda r: RIGHT[r.problem_id]))
    assert [r.label for r in rows] == ["good", "dull", "poor"]


def test_a_run_that_is_not_graded_is_an_error_that_says_how_to_grade_it(make: Make):
    folder = make(graded=False)
    with pytest.raises(StoreError) as error:
        from_runs([folder])
    assert str(error.value) == f"{folder.path} is not graded yet; finish it with: spa-bench grade {folder.path}"


def test_damaged_metrics_are_an_error_that_names_the_file(make: Make):
    folder = make()
    (folder.path / "metrics.json").write_text("{")
    with pytest.raises(StoreError, match=r"metrics\.json"):
        from_runs([folder])


def test_the_seed_that_is_there_twice_is_the_one_that_is_named(make: Make, tmp_path: Path, three: Path):
    runs = [make(), make(seed=1), mock_run(tmp_path / "copy", three, good, name="good", seed=1)]
    with pytest.raises(StoreError, match="seed 1 of good is there twice") as error:
        from_runs(runs)
    assert all(str(run.path) in str(error.value) for run in runs[1:])


def test_runs_are_found_in_folders_of_runs(make: Make, tmp_path: Path):
    names = {make().path.name, make("poor", poor).path.name}
    assert {r["runs"][0]["run"] for r in find_results([tmp_path / "runs"])} == names


def test_a_folder_with_nothing_in_it_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"no runs and no results in .*empty"):
        find_results([tmp_path / "empty"])
    with pytest.raises(UsageError, match=r"nowhere is not there; give a run folder, a result file"):
        find_results([tmp_path / "nowhere"])


def test_a_json_row_has_exactly_the_keys_of_the_schema(make: Make):
    folder = make()
    [row] = [r.to_json() for r in rows_of(folder)]
    assert list(row) == ROW_KEYS
    assert row["schema_version"] == SCHEMA
    assert (row["task"], row["sampler"], row["model"], row["n"], row["k"], row["seeds"]) == ("three", "good", "mock", 2, 2, [0])
    assert row["spec_hash"] == folder.hash
    assert isinstance(row["seconds"], float)
    assert row["metrics"].keys() >= NAMES
    assert not row["metrics"].keys() & ALIASES.keys()  # a metric has one name
    for found in row["metrics"].values():
        assert set(found) == {"value", "low", "high", "problems", "at_n", "reason"}


def test_a_missing_value_is_null_with_a_reason_and_never_nan(make: Make):
    text = json.dumps([r.to_json() for r in rows_of(make(n=1))], allow_nan=False)
    metrics = json.loads(text)[0]["metrics"]
    for name in (*sorted(NAMES - {"pass@1", EFFECTIVE}), "noise_floor[diversity_score,exact]", "vendi[embedding,q=1]"):
        assert metrics[name]["value"] is metrics[name]["low"] is metrics[name]["high"] is None
        assert metrics[name]["problems"] == 0
        assert metrics[name]["reason"]
    assert metrics["pass@1"]["value"] == 1.0


def test_a_table_marks_runs_that_were_graded_without_a_sandbox(make: Make):
    folder = make("careless")
    assert "unsafe" not in table(rows_of(folder))
    [by] = folder.read_json("judged.json")["by"]
    folder.write_json("judged.json", {"by": [by, {**by, "sandbox": "none-i-trust-this-code"}]})
    assert "careless (unsafe sandbox)" in table(rows_of(folder))


def test_numbers_carry_their_interval_and_what_is_missing_is_a_dash():
    assert number(Estimate(value=0.5124, low=0.44, high=0.58, n=9)) == "0.512 [0.440, 0.580]"
    assert number(Estimate(value=0.5124, n=1)) == "0.512"
    assert number(Estimate.missing("why")) == "-"


# made-up results: many problems, known differences -------------------------------------------------------------------


@pytest.fixture(scope="module")
def board() -> list[LeaderboardRow]:
    return build_rows([
        made_up("wide", quality=0.6, spread=0.9, n=32),
        made_up("narrow", quality=0.6, spread=0.3, n=32, seed=1),
        made_up("bad", quality=0.2, spread=0.9, n=32, seed=2, temperature=1.0),
    ])  # fmt: skip


def test_a_comparison_is_paired_by_problem_and_taken_from_the_reference(board: list[LeaderboardRow]):
    by_name = {r.label: r for r in board}
    found = {c.other.label: c for c in compare_with_reference(board, "wide")}
    assert set(found) == {"narrow", "bad"}
    a, b = by_name["wide"].scores("pass@1"), by_name["bad"].scores("pass@1")
    assert found["bad"].decisions["pass@1"].difference == paired_test(a, b, rate=True, resamples=4000)[0]
    back = {c.other.label: c for c in compare_with_reference(board, "bad")}["wide"]
    assert back.decisions["pass@1"].difference.value == pytest.approx(-found["bad"].decisions["pass@1"].difference.value)


def test_sentences_say_what_is_resolved_at_equal_quality(board: list[LeaderboardRow]):
    found = {c.other.label: c.sentence("wide") for c in compare_with_reference(board, "wide")}
    assert found["narrow"].startswith("wide against narrow: pass@1 is equal within ±0.05 (")
    assert "; diversity score is higher (0.59" in found["narrow"]
    assert found["bad"].startswith("wide against bad: pass@1 differs (0.3")
    assert "no difference in diversity score is resolved" in found["bad"]
    back = {c.other.label: c.sentence("narrow") for c in compare_with_reference(board, "narrow")}
    assert "diversity score is lower (-0.59" in back["wide"]


def test_the_summary_speaks_of_samplers_of_equal_quality_alone(board: list[LeaderboardRow]):
    said = summary(compare_with_reference(board, "wide"), "wide")
    assert "the diversity score of wide is higher than narrow; with bad pass@1 is not shown to be equal." in said


def test_holm_takes_back_what_one_test_alone_would_claim():
    names = [f"s{i}" for i in range(12)]
    rows = build_rows([made_up("ref", quality=0.6, spread=0.5)] + [
        made_up(name, quality=0.6, spread=0.5, seed=i + 1) for i, name in enumerate(names)
    ])  # fmt: skip
    decisions = [d for c in compare_with_reference(rows, "ref") for d in c.decisions.values() if d.p is not None]
    alone = [d for d in decisions if d.p is not None and d.p <= 0.05]
    assert len(alone) > sum(d.resolved for d in decisions)


def test_the_best_and_what_is_not_resolved_from_it_are_bold(board: list[LeaderboardRow]):
    assert best(board, "pass@1") == {"wide", "narrow"}
    assert best(board, "diversity_score") == {"wide", "bad"}
    assert best(board, "pass@K") == {"wide", "narrow", "bad"} or "bad" not in best(board, "pass@K")


def test_nothing_is_bold_where_nothing_is_resolved():
    rows = build_rows([made_up("a", quality=0.6, spread=0.5), made_up("b", quality=0.6, spread=0.5, seed=3)])
    assert best(rows, "pass@1") == set()
    assert "**" not in table(rows, style="md")


def test_rows_of_other_n_are_compared_at_the_n_that_both_have():
    rows = build_rows([made_up("four", quality=0.6, spread=0.5), made_up("two", quality=0.6, spread=0.5, n=2, seed=1)])
    four = next(r for r in rows if r.label == "four")
    assert common_size(rows) == 2
    whole, at = four.estimate("vendi[ngram,q=1]").value, four.estimate("vendi[ngram,q=1]", 2).value
    assert whole is not None
    assert at == pytest.approx(np.mean(four.result["runs"][0]["values_at"]["2"]["vendi[ngram,q=1]"]))
    assert at != pytest.approx(whole, abs=0.1)
    drawn = table(rows, style="md")
    assert "vendi (at 2)" in drawn
    assert f"{at:.3f}" in drawn
    assert f"{whole:.3f}" not in drawn
    found = compare_with_reference(rows, "four")[0].decisions
    assert found["pass@K"].difference.value is None
    assert found["pass@K"].difference.reason == "k is 4 and 2"


def test_rows_that_share_no_n_are_tabulated_without_a_common_size():
    three, four = made_up("three", quality=0.6, spread=0.5, n=2), made_up("five", quality=0.6, spread=0.5, n=5, seed=1)
    four["runs"][0]["values_at"] = {}
    assert common_size(build_rows([three, four])) is None


def test_the_front_is_that_of_quality_and_diversity(board: list[LeaderboardRow]):
    found = front_of(board)
    assert found is not None
    front, sweep = found
    assert front.on_front == {"wide": True, "narrow": False, "bad": False} or front.on_front["wide"]
    assert not front.on_front["narrow"] or front.stays_on_front["narrow"] < 1
    assert set(sweep) == {"wide", "narrow", "bad"}


def test_the_temperature_sweep_is_of_samplers_that_differ_in_the_temperature_alone():
    made = [made_up(n, quality=0.5, spread=0.5, seed=i, temperature=i / 4) for i, n in enumerate(("cold", "warm", "other"))]
    made[2]["spec"]["sampler"]["lora"] = {"steps": 9}
    found = front_of(build_rows(made))
    assert found is not None
    assert set(found[1]) == {"cold", "warm"}


def test_seeds_that_lack_values_of_other_problems_have_no_front_where_one_problem_is_left():
    made = [_judged("a", 5.0, lacks=(0, 1)), _judged("b", 4.0, lacks=(1, 0))]
    assert front_of(build_rows(made)) is None
    assert "Quality and diversity together" not in markdown(build_rows(made), reference=None, command="x")
    made = [_judged("a", 5.0, lacks=(0, 0)), _judged("b", 4.0, lacks=(0, 0))]
    found = front_of(build_rows(made))
    assert found is not None
    assert found[0].hypervolume.n == 2


def _judged(name: str, quality: float, *, lacks: tuple[int, int]) -> dict[str, Any]:
    """Two seeds of judged answers to 3 problems; each seed lacks the quality of one of them."""
    result = open_ended(name, quality, 2.0)
    result["problems"], result["spec"]["task"]["problems_n"] = result["problems"][:3], 3
    [first] = result["runs"]
    for columns in (first["values"], *first["values_at"].values()):
        columns |= {metric: column[:3] for metric, column in columns.items()}
    result["runs"] = [copy.deepcopy(first) | {"seed": seed} for seed in (0, 1)]
    for run, place in zip(result["runs"], lacks, strict=True):
        run["values"]["quality[judged]"][place] = None
    return estimated_anew(hashed_anew(result))


def test_a_reference_that_several_rows_begin_with_names_them(board: list[LeaderboardRow]):
    twins = [replace(board[0], label="single[temperature=0.5]"), replace(board[1], label="single@abc123"), *board[2:]]
    with pytest.raises(UsageError, match=r"^2 rows are of the reference 'single': name one of single@abc123, single\[temp"):
        compare_with_reference(twins, "single")


def test_an_unknown_reference_names_what_there_is(board: list[LeaderboardRow]):
    with pytest.raises(UsageError, match=r"no runs of the reference 'best' here; there are bad, narrow, wide"):
        compare_with_reference(board, "best")


def test_a_table_without_the_reference_says_so_and_what_there_is(make: Make, board: list[LeaderboardRow]):
    page = markdown([*board, *rows_of(make())], reference="wide", command="x")
    assert page.count("No row of this table is called `wide`") == 1
    assert "so nothing is compared with it here; `--reference` takes `good`." in page
    assert "No row of this table" not in markdown(board, reference="wide", command="x")
    assert "No row of this table" not in markdown(board, reference=None, command="x")


def test_rows_of_other_problems_are_in_another_table():
    one, other = made_up("one", quality=0.6, spread=0.5), made_up("other", quality=0.6, spread=0.5, seed=1)
    assert len({r.table_key for r in build_rows([one, other])}) == 1
    other["problems"] = other["problems"][::-1]  # pairs are by place
    assert len({r.table_key for r in build_rows([one, other])}) == 2


# formats -------------------------------------------------------------------------------------------------------------


def test_the_page_has_tables_sentences_and_where_it_comes_from(board: list[LeaderboardRow]):
    page = markdown(board, reference="wide", command="spa-bench leaderboard RUNS")
    assert "Made by `spa-bench leaderboard RUNS`; do not edit by hand." in page
    assert "200 problems, model m." in page
    for title in ("wide minus the others, paired by problem", "Quality and diversity together", "Samples that went wrong",
                  "What it cost", "Where it comes from"):  # fmt: skip
        assert f"### {title}" in page
    assert "- wide against bad: pass@1 differs" in page
    for row in board:
        assert row.result["group_hash"] in page
        assert row.result["runs"][0]["spec_hash"] in page
    assert "nan" not in page.lower()
    assert page == markdown(board, reference="wide", command="spa-bench leaderboard RUNS")


def test_intervals_are_small_and_the_best_bold_in_markdown(board: list[LeaderboardRow]):
    value = board[0].estimate("diversity_score[exact]")
    assert f"**{value.value:.3f}** <sub>[{value.low:.3f}, {value.high:.3f}]</sub>" in table(board, style="md")


def test_what_a_name_holds_is_no_markup(make: Make):
    name = "<img src=x>|`$(id)` [a](b) {\\x}^~"
    [row] = build_rows(from_runs([make(name)]))
    page, latex = markdown([row], reference=None, command="c"), as_latex([row])
    assert "&lt;img src=x&gt;\\|\\`$(id)\\` [a]\\(b) {\\\\x}^~" in page
    assert "<img" not in page
    assert "\\textless{}img src=x\\textgreater{}\\textbar{}`\\$(id)` [a](b) " in latex
    assert "\\{\\textbackslash{}x\\}\\textasciicircum{}\\textasciitilde{}" in latex


def test_folders_and_files_have_names_that_archives_take(make: Make, tmp_path: Path):
    folder = make('a:b*"<c>|d?')
    [result] = from_runs([folder])
    path = save(result, tmp_path / "results")
    assert folder.path.name.startswith("three-a_b___c__d_-s0-")
    assert path.name.startswith("three--a_b___c__d_--")
    assert check(path) == []


@pytest.mark.parametrize(
    "damage", ['{"seconds": null, "stages": {"grading": "long", "metrics": 1}}', "[]", "{", '{"stages": 3}']
)
def test_costs_that_are_none_do_not_count(make: Make, damage: str):
    folder = make()
    (folder.path / "timings.json").write_text(damage)
    [row] = build_rows(from_runs([folder]))
    assert row.seconds == 0
    assert "grading" not in str(row.result["runs"][0]["cost"])
    assert "three" in markdown([row], reference=None, command="c")


@pytest.mark.parametrize("seed", [{}, None, True, -1, "0"])
def test_a_spec_with_a_seed_that_is_none_is_one_line(make: Make, seed: object):
    folder = make()
    spec = json.loads((folder.path / "spec.json").read_text())
    (folder.path / "spec.json").write_text(json.dumps(spec | {"seed": seed}))
    with pytest.raises(StoreError, match=r"spec.json is no spec of a run: it lacks a number, it has"):
        find_results([folder.path])


def test_latex_escapes_names_and_makes_intervals_small(board: list[LeaderboardRow]):
    page = as_latex(board)
    assert "diversity\\_score" in page
    assert "\\textbf{" in page
    assert "{\\scriptsize [" in page
    assert page.count("\\begin{tabular}") == 1


def test_latex_reads_no_name_as_an_argument_or_a_dash():
    made = [made_up(name, quality=0.5, spread=0.5, seed=i) for i, name in enumerate(("[0.5]", "*all", "a--b---c"))]
    firsts = {line.partition("&")[0].strip() for line in as_latex(build_rows(made)).splitlines() if "&" in line}
    assert firsts == {"sampler", "{}[0.5]", "{}*all", "a-{}-b-{}-{}-c"}  # behind a row's end, [0.5] is a length


def test_csv_has_a_line_for_every_metric_of_every_row(board: list[LeaderboardRow]):
    lines = list(csv.DictReader(io.StringIO(as_csv(board))))
    assert len(lines) == sum(len(r.metrics) for r in board)
    [line] = [x for x in lines if x["label"] == "wide" and x["metric"] == "pass@1"]
    assert float(line["value"]) == next(r for r in board if r.label == "wide").metrics["pass@1"].value
    assert {x["value"] for x in lines if x["metric"] == "average_kl[i<j]"} == {""}


def test_two_tasks_stand_in_two_tables(make: Make, tmp_path: Path, three: Path):
    other = tmp_path / "two.toml"
    other.write_text(three.read_text())
    page = markdown(rows_of(make(), mock_run(tmp_path / "runs", other, good)), reference=None, command="x")
    assert "## three 1\n" in page
    assert "## two 1\n" in page


def test_all_numbers_of_real_rows_are_finite(make: Make):
    rows = rows_of(make("good", seed=0), make("good", seed=1), make("poor", poor))
    assert all(math.isfinite(e.value) for r in rows for e in r.metrics.values() if e.value is not None)


def test_the_runs_of_a_row_can_be_opened_and_have_its_hash(make: Make):
    folder = make()
    [row] = rows_of(folder)
    [run] = row.result["runs"]
    assert open_run(folder.path.parent / run["run"]).hash == run["spec_hash"]


def test_a_number_of_draws_that_the_members_do_not_give_is_no_common_size():
    one, three = made_up("one", quality=0.6, spread=0.5, n=8), made_up("three", quality=0.6, spread=0.5, n=12, seed=1)
    three["members"] = three["spec"]["sampler"]["members"] = 3
    for size in ("4", "8"):
        three["runs"][0]["values_at"][size] = dict.fromkeys(three["runs"][0]["values_at"][size], [None] * PROBLEMS)
    rows = build_rows([hashed_anew(one), hashed_anew(three)])
    assert common_size(rows) == 2
    [compared] = compare_with_reference(rows, "one")
    assert compared.decisions["vendi"].difference.value is not None
