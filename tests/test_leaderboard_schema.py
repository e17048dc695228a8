"""Results of every schema are read for ever: a step changes no number, and what a result lacks is said, not made up."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from doubles import Call
from made_up import hashed_anew, made_up
from spa_bench.compare.leaderboard import as_csv, build_rows, check, find_results, save, save_all, table
from spa_bench.compare.leaderboard.coverage import any_of_column
from spa_bench.compare.leaderboard.migrate import OLDEST, SCHEMA, STEPS, migrated
from spa_bench.compare.leaderboard.results import _framed
from spa_bench.errors import StoreError
from spa_bench.metrics.suite import ALIASES

GOLDEN = Path(__file__).parent / "golden"
OLD = GOLDEN / "results" / "mini-code--spa-random--7f4c5882.json"
Result = dict[str, Any]


def test_every_schema_has_a_step_to_the_next_and_a_file_of_it_is_kept():
    assert sorted(STEPS) == list(range(OLDEST, SCHEMA))
    kept = {json.loads(path.read_text())["schema_version"] for path in GOLDEN.rglob("results*/*.json")}
    assert kept == set(range(OLDEST, SCHEMA + 1))


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("results*/*.json")), ids=lambda p: p.parent.name)
def test_a_result_of_every_schema_is_read_checked_and_saved_in_the_schema_of_today(path: Path, tmp_path: Path):
    stored = json.loads(path.read_text())
    [result] = find_results([path])
    assert result["schema_version"] == SCHEMA
    assert check(path) == []
    again = save(result, tmp_path)
    assert check(again) == []
    assert find_results([again, path]) == find_results([again])
    for name, estimate in stored["metrics"].items():
        now = result["metrics"][ALIASES.get(name, name)]
        assert [now[key] for key in ("value", "low", "high", "reason")] == [
            estimate[key] for key in ("value", "low", "high", "reason")
        ]
        assert now["problems"] == estimate["n" if stored["schema_version"] == 2 else "problems"]
    assert not result["metrics"].keys() & ALIASES.keys()


def test_runs_and_their_file_of_schema_2_are_one_row(tmp_path: Path):
    runs = shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    [result] = find_results([runs, OLD])
    assert result["runs"][0]["values_at"]["2"]["any_of_n"][0] is not None  # the runs' own, which the file of schema 2 lacks
    [alone] = find_results([OLD])
    assert set(alone["runs"][0]["values_at"]["2"]["any_of_n"]) == {None}  # 2 members of 2 draws: pass@1 does not say it


def test_a_file_of_several_old_results_is_read_and_mixed_ones_are_refused_in_a_line(tmp_path: Path):
    old = {key: value for key, value in json.loads(OLD.read_text()).items() if key != "sum"}
    path = tmp_path / "mini-code.json"
    path.write_bytes(_framed({"schema_version": 2, "results": [old]}))
    assert find_results([path]) == find_results([OLD])
    path.write_bytes(_framed({"schema_version": 2, "results": [migrated(old)]}))
    with pytest.raises(StoreError, match="has a result of schema 3, not 2") as error:
        find_results([path])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "odd", [{"runs": [3]}, {"metrics": {"pass@1": 1}}, {"n": "x"}, {"members": None}, {"runs": [{"values_at": 1}]}]
)
def test_an_old_file_of_another_shape_is_refused_in_a_line(odd: Result, tmp_path: Path, call: Call):
    old = {key: value for key, value in json.loads(OLD.read_text()).items() if key != "sum"}
    path = tmp_path / "x.json"
    path.write_bytes(_framed({**old, **odd}))
    done = call("leaderboard", path)
    assert done.code == 2
    [line] = done.err.splitlines()
    assert "is not shaped like a result" in line


def test_a_file_that_was_edited_by_hand_is_refused_and_said_to_be(tmp_path: Path, call: Call):
    path = save(made_up("wide", quality=0.6, spread=0.9), tmp_path)
    path.write_text(path.read_text().replace('"sampler": "wide"', '"sampler": "best"', 1))
    done = call("leaderboard", path)
    assert done.code == 2
    [line] = done.err.splitlines()
    assert "is damaged, or was edited by hand: its checksum does not fit" in line


def test_any_of_fewer_answers_is_what_counting_the_subsets_gives():
    values = {"pass@1": [0.5, 0.0, 1.0], "pass@1[member=0]": [0.5, 0.0, 1.0], "pass@1[member=1]": [0.5, 0.0, 1.0]}
    # 4 exchangeable draws, 2 right: 1 - 1/6 of the pairs have none
    assert any_of_column(values, 4, 1, 2) == [pytest.approx(5 / 6), 0.0, 1.0]
    # 2 members, each with 1 right draw of 2: a pair takes one draw of each, 1 of 4 pairs has none right
    assert any_of_column(values, 4, 2, 2) == [pytest.approx(3 / 4), 0.0, 1.0]
    assert any_of_column({"pass@1": [0.5]}, 4, 2, 2) is None  # nobody knows whose answers are right
    assert any_of_column({"pass@1": [0.5]}, 4, 4, 2) == [pytest.approx(5 / 6)]  # one draw each: it plays no part
    assert any_of_column({"pass@1": [0.5]}, 6, 3, 4) == [None]  # 3 members give no 4 answers
    assert any_of_column({"pass@1": [0.5], "pass@2": [0.8]}, None, 1, 2) == [0.8]


# equal n -------------------------------------------------------------------------------------------------------------


def _row(content: list[Result], label: str) -> Result:
    return next(row for row in content if row["sampler"] == label)


def test_csv_and_json_are_at_the_n_of_the_table_and_say_so(tmp_path: Path, call: Call):
    results = [made_up("four", quality=0.6, spread=0.9), made_up("eight", quality=0.6, spread=0.4, n=8, seed=1)]
    results[1]["metrics"]["self_bleu"] = results[1]["metrics"]["pass@1"]
    [path] = save_all(results, tmp_path / "t.json")
    rows = {row.label: row for row in build_rows(results)}
    name = "effective_diversity[ast,correct]"
    wanted = rows["eight"].estimate(name, 4)
    assert f"{wanted.value:.3f}" in table(list(rows.values()))
    assert wanted.value != rows["eight"].metrics[name].value
    content = json.loads(call("leaderboard", path, "--json").out)
    found = _row(content, "eight")["metrics"]
    assert (found[name]["value"], found[name]["at_n"]) == (wanted.value, 4)
    assert _row(content, "four")["metrics"][name]["at_n"] == 4
    assert found["pass@1"]["at_n"] is None  # it does not depend on n
    assert found["self_bleu"]["value"] is None
    assert found["self_bleu"]["reason"] == "it depends on n, and is not kept at n = 4, the largest that all rows have"
    lines = {(x["label"], x["metric"]): x for x in csv.DictReader(io.StringIO(as_csv(list(rows.values()))))}
    assert (float(lines["eight", name]["value"]), lines["eight", name]["at_n"]) == (wanted.value, "4")
    assert (lines["eight", name]["n"], lines["eight", name]["problems"]) == ("8", "200")
    assert lines["eight", "pass@1"]["at_n"] == ""
    alone = json.loads(call("leaderboard", save(results[1], tmp_path), "--json").out)[0]["metrics"]
    assert (alone[name]["at_n"], alone["self_bleu"]["at_n"]) == (8, 8)  # nothing to compare with: its own n


def test_a_metric_is_listed_under_one_name_and_read_under_both(tmp_path: Path):
    [row] = build_rows([made_up("wide", quality=0.6, spread=0.9)])
    assert "vendi" not in row.to_json()["metrics"]
    assert row.estimate("vendi") == row.estimate("vendi[ngram,q=1]") == row.metrics["vendi[ngram,q=1]"]


def test_the_users_own_metrics_are_in_the_printed_table():
    mine, other = made_up("mine", quality=0.6, spread=0.9), made_up("other", quality=0.6, spread=0.4, seed=1)
    mine["spec"]["metrics"] = {"module:LONGEST": "abc"}
    mine["metrics"]["longest"] = {"value": 12.5, "low": 11.0, "high": 14.0, "problems": 200, "reason": ""}
    rows = build_rows([hashed_anew(mine), other])
    head, _, *body = table(rows).splitlines()
    assert head.index("average_kl") < head.index("longest") < head.index("seeds")
    cells = {line.split()[0]: line[head.index("longest") :].split("  ")[0] for line in body}
    assert cells == {"mine": "12.500 [11.000, 14.000]", "other": "-"}
    assert "longest" in table(rows, style="latex")
    assert "| longest " in table(rows, style="md")


@pytest.mark.parametrize(
    ("version", "said"), [(99, "has schema 99, this spa-bench reads up to 2; upgrade spa-bench"), (1, "make the run again")]
)
def test_runs_of_mixed_schema_are_refused_in_a_line_that_names_the_odd_one(version: int, said: str, tmp_path: Path, call: Call):
    runs = shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    odd = sorted(runs.iterdir())[1]
    text = (odd / "spec.json").read_text()
    (odd / "spec.json").write_text(text.replace('"schema_version": 2', f'"schema_version": {version}', 1))
    done = call("leaderboard", runs)
    assert done.code == 2
    [line] = done.err.splitlines()
    assert str(odd) in line
    assert said in line
