"""`spa-bench check`: what is red, what is said, and bad input in one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from doubles import RIGHT, Call, mock_run
from simulated import Change, Result, candidate, one_after_another, saved, set_in, simulated
from spa_bench.cli import main as cli
from spa_bench.compare.gate import check
from spa_bench.compare.leaderboard import find_results
from spa_bench.compare.leaderboard.schema import KEPT


def test_a_re_run_is_green_and_says_what_it_rests_on(baseline: Path, tmp_path: Path, call: Call):
    done = call("check", candidate(tmp_path), "--against", baseline)
    assert done.code == 0, done.out
    first, *rest = done.out.splitlines()
    assert first.startswith(f"GREEN: s on t against {baseline}: ")
    said = "\n".join(rest)
    assert "s on t: seed 7 against seeds 0, 1, 2, 3, 4 of the baseline, 60 problems" in said
    assert "7 metrics were judged: intervals are at 98.57 %" in said
    assert "red by chance at most 5 % of the time" in said
    assert "in the baseline and not checked: other" in said
    assert '"s"' in said  # the spec: code.source was "s" and is "new"
    assert '"new"' in said


def test_a_drop_is_red_with_exit_code_1_a_summary_and_rows(baseline: Path, tmp_path: Path, call: Call):
    summary = tmp_path / "deep" / "summary.md"
    done = call("check", candidate(tmp_path, kl=0.2), "--against", baseline, "--write", summary, "--json")
    assert done.code == 1
    [row] = json.loads(done.out)
    assert row["ok"] is False
    assert (row["sampler"], row["seeds"], row["baseline_seeds"]) == ("s", [7], [0, 1, 2, 3, 4])
    lines = {line["metric"]: line for line in row["metrics"]}
    assert set(KEPT) <= set(lines)
    assert lines["average_kl[i<j]"]["outcome"] == "drop"
    assert lines["average_kl[i<j]"]["difference"]["high"] < 0
    assert lines["pass@1"]["outcome"] == "held"
    assert {"key": "code.source", "before": '"s"', "after": '"new"'} in row["spec_changes"]
    first = summary.read_text().splitlines()[0]
    assert first.startswith("**RED**: against ")
    assert "average\\_kl\\[i&lt;j\\] fell by 0.0" in first


def test_the_tolerance_decides_what_is_let_pass(baseline: Path, tmp_path: Path, call: Call):
    run = candidate(tmp_path, kl=0.2)
    for given in (["--tolerance", "average_kl=90%"], ["--tolerance", "0.02,average_kl=0.5"], ["--metrics", "pass@1,vendi"]):
        assert call("check", run, "--against", baseline, *given).code == 0, given
    assert call("check", run, "--against", baseline, "--tolerance", "10%,vendi[ngram,q=1]=0.3").code == 1


def test_a_number_alone_is_a_share_for_metrics_without_a_scale(baseline: Path, tmp_path: Path):
    verdict = check(candidate(tmp_path), baseline, tolerance=0.1)
    found = {line.metric: (line.tolerance, line.before) for line in verdict.subjects[0].lines if line.before is not None}
    assert found["pass@1"][0] == 0.1
    tolerance, before = found["vendi[ngram,q=1]"]
    assert tolerance == pytest.approx(0.1 * (before or 0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tolerance", "pass@1=much"], "--tolerance 'pass@1=much': a drop is a number such as 0.02"),
        (["--tolerance", "-0.1"], "--tolerance '-0.1': a drop is a number"),
        (["--tolerance", "nan"], "--tolerance 'nan': a drop is a number"),
        (["--tolerance", "pas@1=0.1"], "unknown metric 'pas@1' of the gate; did you mean 'pass@1'?"),
        (["--tolerance", "effective_diversity[behaviour,ran]=0.1"], "is only reported"),
        (["--metrics", "speed"], "unknown metric 'speed' of the gate"),
        (["--metrics", "effective_diversity[behaviour,ran]"], "leaves nothing to judge"),
        (["--alpha", "0"], "--alpha is 0.0; the chance of a false alarm is at least 0.001 and below 0.5"),
        (["--alpha", "nan"], "--alpha is nan"),
        (["--alpha", "1e-9"], "--alpha is 1e-09; the chance of a false alarm is at least 0.001"),
        (["--tolerance", "5"], "--tolerance '5' is more than the whole of pass@1; 0.02 is a difference, 2% a share"),
        (["--tolerance", "vendi=500%"], "--tolerance 'vendi=500%' is more than the whole of vendi[ngram,q=1]"),
        (["--tolerance", "pass@1=0,03"], "--tolerance '03' is for all metrics and comes after 'pass@1=0'"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(options: list[str], said: str, baseline: Path, tmp_path: Path, call: Call):
    if options[1].startswith("-"):
        options = [f"{options[0]}={options[1]}"]
    done = call("check", candidate(tmp_path), "--against", baseline, *options)
    assert said in done.error()


# the same spec -------------------------------------------------------------------------------------------------------


def test_the_same_spec_is_compared_exactly(baseline: Path, tmp_path: Path, call: Call):
    done = call("check", candidate(tmp_path, seeds=(2, 3), code="s"), "--against", baseline)
    assert done.code == 0
    assert "everything, seed 2, everything, seed 3" in done.out
    assert "compared exactly: there is no tolerance and no chance" in done.out


def test_one_other_value_under_the_same_spec_is_red_and_named(baseline: Path, tmp_path: Path, call: Call):
    def flip(result: Result) -> None:
        values = result["runs"][0]["values"]["pass@1"]
        values[4] = 0.0 if values[4] else 1.0

    done = call("check", candidate(tmp_path, flip, seeds=(2,), code="s"), "--against", baseline, "--tolerance", "1")
    assert done.code == 1
    assert done.out.startswith(f"RED: against {baseline}: s: not what the same spec gave: pass@1, seed 2")
    assert "1 of 60 problems differ, the first is p4:" in done.out


@pytest.mark.parametrize(("log", "said"), [("records", "texts (records.jsonl)"), ("grades", "verdicts (grades.jsonl)")])
def test_other_texts_or_verdicts_under_the_same_spec_are_red_also_where_no_value_moves(
    log: str, said: str, baseline: Path, tmp_path: Path, call: Call
):
    def other(result: Result) -> None:
        result["runs"][0][log] = "ab" * 16

    done = call("check", candidate(tmp_path, other, seeds=(2,), code="s"), "--against", baseline)
    assert done.code == 1
    assert f"{said}, seed 2" in done.out


def test_seeds_with_the_same_numbers_under_another_spec_are_said(baseline: Path, tmp_path: Path, call: Call):
    done = call("check", candidate(tmp_path, seeds=(1,)), "--against", baseline)
    assert done.code == 0
    assert "seed 1: every value is that of the baseline's own seed, under another spec" in done.out


# lost and not compared -----------------------------------------------------------------------------------------------


def _without(metric: str) -> Change:
    def change(result: Result) -> None:
        for run in result["runs"]:
            for table in (run["values"], *run["values_at"].values()):
                if metric in table:
                    table[metric] = [None] * len(result["problems"])

    return change


def test_a_metric_that_the_candidate_lost_is_red(baseline: Path, tmp_path: Path, call: Call):
    done = call("check", candidate(tmp_path, _without("average_kl[i<j]")), "--against", baseline)
    assert done.code == 1
    assert done.out.startswith(f"RED: against {baseline}: s: lost: average_kl[i<j]")
    assert "the baseline has it, these runs have no value" in done.out


def test_values_that_are_gone_on_many_problems_are_a_loss_and_on_few_are_not(baseline: Path, tmp_path: Path):
    def gone(count: int) -> Change:
        def change(result: Result) -> None:
            for run in result["runs"]:
                run["values"]["average_kl[i<j]"][:count] = [None] * count

        return change

    assert check(candidate(tmp_path, gone(3)), baseline).ok
    verdict = check(candidate(tmp_path, gone(4)), baseline)
    [line] = verdict.subjects[0].red
    assert (line.metric, line.outcome) == ("average_kl[i<j]", "lost")
    assert "4 of 60 problems" in line.note
    assert "p0" in line.note


def _null_in(metric: str, *, seed: int, problems: slice) -> Change:
    """A change that takes the values of one seed away."""

    def change(result: Result) -> None:
        [values] = [run["values"] for run in result["runs"] if run["seed"] == seed]
        values[metric][problems] = [None] * len(values[metric][problems])

    return change


@pytest.mark.parametrize(
    ("problems", "said"),
    [((slice(60),), "60 of 60 problems"), ((slice(2, 5), slice(10, 20)), "13 of 60 problems")],
    ids=["one seed lacks all", "seeds lack other problems"],
)
def test_values_that_are_gone_in_single_seeds_are_a_loss(
    problems: tuple[slice, ...], said: str, baseline: Path, tmp_path: Path
):
    changes = [_null_in("average_kl[i<j]", seed=seed, problems=part) for seed, part in zip((7, 8), problems, strict=False)]
    verdict = check(candidate(tmp_path, one_after_another(*changes), seeds=(7, 8)), baseline)
    [line] = verdict.subjects[0].red
    assert (line.metric, line.outcome) == ("average_kl[i<j]", "lost")
    assert f"no value on {said} that have one in the baseline, " in line.note


def test_a_seed_without_any_value_in_the_baseline_leaves_the_others(tmp_path: Path):
    old = simulated("s", range(6))
    _null_in("average_kl[i<j]", seed=2, problems=slice(60))(old)
    verdict = check(candidate(tmp_path, kl=0.2), saved(tmp_path, "old", old))
    [line] = verdict.subjects[0].red
    assert (line.metric, line.outcome) == ("average_kl[i<j]", "drop")
    assert line.visible is not None


def test_a_metric_that_the_baseline_does_not_have_is_said_and_the_rest_compared(tmp_path: Path):
    old = simulated("s", range(5))
    _without("average_kl[i<j]")(old)
    verdict = check(candidate(tmp_path), saved(tmp_path, "old", old))
    assert verdict.ok
    assert verdict.tests == 6
    [line] = [line for line in verdict.subjects[0].lines if line.metric == "average_kl[i<j]"]
    assert (line.outcome, line.note) == ("not compared", "the baseline does not have it")


def test_a_member_less_is_a_loss(baseline: Path, tmp_path: Path, call: Call):
    def three(result: Result) -> None:
        result["k"] = result["n"] = result["size"] = result["spec"]["n"] = 3
        result["spec"]["sampler"]["members"] = result["members"] = 3

    done = call("check", candidate(tmp_path, three), "--against", baseline)
    assert done.code == 1
    assert "k is 4 in the baseline and 3 now" in done.out
    assert "metrics that depend on n are compared at n = 2" in done.out
    assert "sampler.members" in done.out


def first_half(result: Result) -> None:
    result["problems"], result["spec"]["limit"] = result["problems"][:30], 30
    for run in result["runs"]:
        run["values"] = {name: values[:30] for name, values in run["values"].items()}
        run["values_at"]["2"] = {name: values[:30] for name, values in run["values_at"]["2"].items()}


def test_fewer_problems_are_compared_on_those_that_both_have(baseline: Path, tmp_path: Path, call: Call):
    done = call("check", candidate(tmp_path, first_half), "--against", baseline)
    assert done.code == 0
    assert "compared on the 30 problems that both have; the baseline has 60 and these runs 30" in done.out


def test_problems_that_a_limit_drew_are_compared_with_the_whole(baseline: Path, tmp_path: Path, call: Call):
    def drawn(result: Result) -> None:
        first_half(result)
        result["spec"]["task"] |= {"shuffle": 0, "stratify": True, "problems_hash": "2d498603cc3c0f2cc38c6ca99f8fdcfd"}

    done = call("check", candidate(tmp_path, drawn), "--against", baseline)
    assert done.code == 0
    assert "compared on the 30 problems that both have; the baseline has 60 and these runs 30" in done.out


# bad input -----------------------------------------------------------------------------------------------------------


OTHER_TASK = one_after_another(set_in("task", value="u"), set_in("spec", "task", "name", value="u"))
OTHER_SAMPLER = one_after_another(set_in("sampler", value="z"), set_in("spec", "sampler", "name", value="z"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            set_in("spec", "task", "problems_hash", value="h2"),
            "are on other problems of t (version 1, hash h; version 1, hash h2)",
        ),
        (
            set_in("spec", "task", value={"name": "t", "version": "1", "problems_hash": "h2", "problems_n": 60, "shuffle": 7}),
            "are on other problems of t (version 1, hash h; version 1, hash h2, shuffle 7)",
        ),
        (
            one_after_another(set_in("task", value="u"), set_in("spec", "task", "name", value="u")),
            "has s on t, and these runs are on u",
        ),
        (
            one_after_another(set_in("sampler", value="z"), set_in("spec", "sampler", "name", value="z")),
            "has no sampler 'z' to check against",
        ),
        (set_in("problems", value=[f"q{i}" for i in range(60)]), "have no problem of t in common"),
    ],
)
def test_what_cannot_be_checked_is_one_line(change: Change, said: str, baseline: Path, tmp_path: Path, call: Call):
    done = call("check", candidate(tmp_path, change), "--against", baseline)
    assert said in done.error()
    assert done.out == ""


def test_a_baseline_of_few_seeds_is_refused_unless_the_spec_is_the_same(tmp_path: Path, call: Call):
    few = saved(tmp_path, "few", simulated("s", range(4)))
    said = call("check", candidate(tmp_path), "--against", few).error()
    assert "the baseline of s has 4 training seeds, and not the specs and seeds of these runs; it takes 5" in said
    assert call("check", candidate(tmp_path, seeds=(3,), code="s"), "--against", few).code == 0


def test_the_same_place_on_both_sides_is_refused(baseline: Path, call: Call):
    assert "is both what is checked and the baseline" in call("check", baseline, "--against", baseline).error()
    for one, other in ((baseline, baseline.parent), (baseline.parent, baseline)):
        assert "and what is checked are in one another" in call("check", one, "--against", other).error()


def test_a_check_in_which_nothing_can_be_judged_is_no_green_one(baseline: Path, tmp_path: Path, call: Call):
    lone = saved(tmp_path / "lone", "lone", simulated("s", [7], problems=1, code="new"))
    said = call("check", lone, "--against", baseline).error()
    assert "nothing of these runs can be judged against" in said
    assert "one problem: no interval" in said


def test_an_empty_path_is_not_the_working_folder(baseline: Path, capsys: pytest.CaptureFixture[str]):
    for words in (["check", "", "--against", str(baseline)], ["check", str(baseline), "--against", ""]):
        assert cli.main(words) == 2
        assert "the path is empty; is a variable not set?" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_one_line(baseline: Path, call: Call):
    for words in (("check", "x" * 300, "--against", baseline), ("compare", "x" * 300, baseline), ("leaderboard", "x" * 300)):
        assert call(*words).error().endswith("File name too long")


def test_a_fault_of_ours_is_not_taken_for_a_red_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    def fails() -> int:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.chdir(tmp_path)  # the report of the fault goes there
    monkeypatch.setattr(cli, "main", fails)
    with pytest.raises(SystemExit, match="70"):
        cli.entry()
    said = capsys.readouterr().err
    assert "ZeroDivisionError: nobody foresaw it" in said
    assert "this is a fault of spa-bench" in said


def test_a_name_that_the_baseline_has_twice_is_refused(tmp_path: Path, call: Call):
    warm = simulated("s", range(5), world=3)
    warm["spec"]["sampler"]["decoding"]["temperature"] = 0.5
    twice = saved(tmp_path, "twice", simulated("s", range(5)), warm)
    said = call("check", candidate(tmp_path), "--against", twice).error()
    assert "has s 2 times" in said
    assert "temperature=0.5" in said


@pytest.mark.usefixtures("sandbox")
def test_a_run_that_is_not_graded_or_of_a_newer_schema_or_not_there_is_one_line(
    three: Path, baseline: Path, tmp_path: Path, call: Call
):
    folder = mock_run(tmp_path / "runs", three, lambda r: RIGHT[r.problem_id], graded=False)
    assert "is not graded yet; finish it with: spa-bench grade" in call("check", folder.path, "--against", baseline).error()
    assert "nowhere.json is not there" in call("check", baseline, "--against", tmp_path / "nowhere.json").error()
    spec = json.loads((folder.path / "spec.json").read_text())
    (folder.path / "spec.json").write_text(json.dumps({**spec, "schema_version": 99}))
    assert "has schema 99, this spa-bench reads up to" in call("check", folder.path, "--against", baseline).error()
    assert "nowhere is not there" in call("check", tmp_path / "nowhere", "--against", baseline).error()
    assert "is not there" in call("compare", tmp_path / "nowhere", baseline).error()


def test_a_summary_that_cannot_be_written_is_one_line(baseline: Path, tmp_path: Path, call: Call):
    done = call("check", candidate(tmp_path), "--against", baseline, "--write", tmp_path)
    assert "cannot write" in done.error()


# real runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
def test_real_runs_are_checked_against_the_file_that_leaderboard_saves(three: Path, tmp_path: Path, call: Call):
    for seed in range(5):
        mock_run(tmp_path / "main", three, lambda r: RIGHT[r.problem_id], seed=seed)
    file = tmp_path / "results" / "three.json"
    call("leaderboard", tmp_path / "main", "--save", file)
    again = mock_run(tmp_path / "again", three, lambda r: RIGHT[r.problem_id], seed=1)
    assert call("check", again.path, "--against", file).code == 0
    fresh = mock_run(tmp_path / "fresh", three, lambda r: RIGHT[r.problem_id], seed=9)
    assert call("check", fresh.path, "--against", tmp_path / "main").code == 0
    broken = mock_run(tmp_path / "broken", three, lambda r: "    return 0\n", seed=1)
    done = call("check", broken.path, "--against", file)
    assert done.code == 1
    assert "3 of 3 problems differ, the first is three/add: 1 in the baseline, 0 now" in done.out
    worse = mock_run(tmp_path / "worse", three, lambda r: "    return 0\n", seed=9)
    done = call("check", worse.path, "--against", file)
    assert done.code == 1
    assert "lost: distinct[n=3]" in done.out.splitlines()[0]  # answers of two words have no trigram
    assert "more than the tolerance, not resolved" in done.out  # three problems show nothing


# hostile -------------------------------------------------------------------------------------------------------------


def test_nothing_that_a_run_says_is_read_as_markup(baseline: Path, tmp_path: Path):
    hostile = "<script>x</script>|`[a](http://b)` @all"

    def change(result: Result) -> None:
        result["spec"]["model"]["name"] = result["model"] = hostile

    text = check(candidate(tmp_path, change), baseline).markdown
    assert "<script>" not in text
    assert "\\[a\\](http://b)" in text
    assert " @all" not in text
    lines = [line for line in text.splitlines() if "script" in line]
    assert lines
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines)


def test_the_same_input_gives_the_same_bytes(baseline: Path, tmp_path: Path):
    run = candidate(tmp_path)
    texts = {check(run, baseline).markdown for _ in range(2)}
    assert len(texts) == 1
    assert find_results([run]) == copy.deepcopy(find_results([run]))


def test_a_check_that_judges_nothing_is_no_green(baseline: Path, tmp_path: Path, call: Call):
    said = call("check", candidate(tmp_path), "--against", baseline, "--metrics", "majority_vote[mc]").error()
    assert said == f"nothing of these runs can be judged against {baseline}: majority_vote[mc]: neither side has it"


def test_an_unknown_metric_is_told_of_those_that_the_gate_takes(baseline: Path, tmp_path: Path, call: Call):
    said = call("check", candidate(tmp_path), "--against", baseline, "--metrics", "kl[first]").error()
    assert "unknown metric 'kl[first]' of the gate" in said
    assert "did you mean 'kl[first]'" not in said
