"""What is found in a result file that contradicts itself though its checksum fits: each case does one thing to a good file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, WRONG, InProcessJudge, mock_run
from made_up import PROBLEMS, estimated_anew, hashed_anew, made_up
from spa_bench.cli.main import main
from spa_bench.compare.leaderboard import build_rows, check, from_runs, markdown, save
from spa_bench.compare.leaderboard.results import _framed
from spa_bench.metrics.pass_at_k import pass_at_k
from spa_bench.types import Request

Result = dict[str, Any]
VENDI, EFFECTIVE, BEHAVIOUR = "vendi[ngram,q=1]", "effective_diversity[ast,correct]", "effective_diversity[behaviour,ran]"


def values(name: str, value: float | None, *, at: str = "") -> Callable[[Result], object]:
    """`value` for every problem, at all samples or at a smaller size; estimates made again."""

    def alter(result: Result) -> None:
        for run in result["runs"]:
            (run["values_at"][at] if at else run["values"])[name] = [value] * len(result["problems"])
        estimated_anew(result)

    return alter


def spec(**changes: Any) -> Callable[[Result], object]:
    return lambda r: (r["spec"].update(changes), hashed_anew(r))


def run(**changes: Any) -> Callable[[Result], object]:
    return lambda r: r["runs"][0].update(changes)


def metric(name: str, **changes: Any) -> Callable[[Result], object]:
    whole = {"value": 0.5, "low": 0.4, "high": 0.6, "problems": PROBLEMS, "reason": ""}
    return lambda r: r["metrics"].update({name: {**r["metrics"].get(name, whole), **changes}})


def solved_alone(result: Result) -> None:
    """Keep the problems that are always solved."""
    [one] = result["runs"]
    keep = [i for i, share in enumerate(one["values"]["pass@1"]) if share == 1]
    result["problems"] = [result["problems"][i] for i in keep]
    for table in (one["values"], *one["values_at"].values()):
        table.update({name: [column[i] for i in keep] for name, column in table.items()})
    one["counts"]["samples"] = one["verdicts"]["passed"] = result["n"] * len(keep)
    one["verdicts"]["wrong"] = 0
    estimated_anew(result)


def copied(**changes: Any) -> Callable[[Result], object]:
    """The run once more under another seed."""

    def alter(result: Result) -> None:
        result["runs"].append({**copy.deepcopy(result["runs"][0]), "seed": 9, **changes})
        estimated_anew(hashed_anew(result))

    return alter


def counts(**changes: int) -> Callable[[Result], object]:
    return lambda r: r["runs"][0]["counts"].update({name.replace("_", " "): count for name, count in changes.items()})


def verdicts(**changes: int) -> Callable[[Result], object]:
    return lambda r: r["runs"][0]["verdicts"].update(changes)


def every(run: Result, key: str, name: str, change: Callable[[float], float]) -> None:
    run[key][name] = [change(v) for v in run[key][name]]


UNTABLED: dict[str, tuple[Callable[[Result], object], str]] = {
    "a missing key": (lambda r: r.pop("design"), "it lacks design"),
    "a key of its own": (lambda r: r.update(extra=1), "unknown keys: 'extra'"),
    "a value short": (lambda r: r["runs"][0]["values"]["pass@1"].pop(), "has 199 values for 200 problems"),
    "a share above one": (lambda r: r["runs"][0]["values"]["pass@1"].__setitem__(0, 1.5), "outside its range"),
    "a share above one at a size": (
        values(EFFECTIVE, 1.5, at="2"), "values_at.2: effective_diversity[ast,correct] has values outside"),
    "a value short at a size": (lambda r: r["runs"][0]["values_at"]["2"][VENDI].pop(), "values_at.2: vendi[ngram,q=1] has 199"),
    "no values of a kept metric": (lambda r: r["runs"][0]["values"].pop(EFFECTIVE), f"runs[0].values lacks {EFFECTIVE}"),
    "no values of one at a size": (lambda r: r["runs"][0]["values_at"]["2"].pop(VENDI), f"values_at.2 lacks {VENDI}"),
    "no estimate of a kept metric": (lambda r: r["metrics"].pop(VENDI), f"metrics lacks {VENDI}"),
    "a run that is no object": (lambda r: r.update(runs=[3]), "runs[0] is 3; it must have keys"),
    "runs that are lists": (lambda r: r.update(runs=[[]]), "runs[0] is a list; it must have keys"),
    "no runs": (lambda r: r.update(runs=[]), "200 problems and 0 runs"),
    "a size that is text": (lambda r: r.update(size="x"), "size is 'x'; it must be a whole number"),
    "a truth as number": (lambda r: r["runs"][0]["values"]["pass@1"].__setitem__(3, True), "pass@1[3] is True"),
    "a number too large": (lambda r: r["runs"][0]["values"][VENDI].__setitem__(0, 10**400), "a number far too large"),
    "infinity": (lambda r: r["runs"][0]["values"][VENDI].__setitem__(0, float("inf")), "it has the number Infinity"),
    "an estimate that is text": (lambda r: r["metrics"].update(self_bleu="x"), "metrics.self_bleu is 'x'; it must have keys"),
    "an estimate that is NaN": (metric("self_bleu", value=float("nan")), "it has the number NaN"),
    "a seed that is text": (run(seed="a"), "runs[0].seed is 'a'"),
    "a name of two lines": (run(run="a\n# b"), "runs[0].run is 'a\\n# b'; it must be one line of printable text"),
    "half a character": (lambda r: r["spec"]["model"].update(revision="\ud800"), "spec.model.revision"),
    "a way out of the folder": (lambda r: r.update(task="../t"), "task is '../t'; it must be a name without a slash"),
    "a size that is no number": (
        lambda r: r["runs"][0]["values_at"].update({"02": r["runs"][0]["values_at"].pop("2")}), "values_at has the size '02'"),
    "other sizes in another run": (copied(values_at={}), "values_at has other sizes than that of seed 0"),
    "no versions": (spec(versions={}), "spec.versions lacks python"),
    "code with a key of its own": (
        spec(code={"git": "a", "dirty": False, "source": "s", "changed": True}), "unknown keys: 'changed'"),
    "a spec with a key of its own": (spec(extra=1), "spec has unknown keys: 'extra'"),
    "deep nesting": (lambda r: r["spec"].update(data={"x": json.loads("[" * 60 + "]" * 60)}), "nested at most 20 deep"),
}  # fmt: skip
"""What keeps a file from being tabled at all."""

CHANGES: dict[str, tuple[Callable[[Result], object], str]] = {
    "another sampler": (lambda r: r.update(sampler="x"), "sampler is 'x', but its spec says 'wide'"),
    "another spec": (lambda r: r["spec"].update(n=5), "group_hash is"),
    "another seed": (run(seed=7), "spec_hash is"),
    "a seed twice": (lambda r: r["runs"].append(r["runs"][0]), "none twice"),
    "a seed below 0": (lambda r: (run(seed=-1)(r), hashed_anew(r)), "none may be below 0"),
    "another schema of the spec": (spec(schema_version=1), "its spec has schema 1"),
    "fewer samples": (counts(samples=799), "799 samples, but n × problems is 800"),
    "verdicts that do not add up": (verdicts(wrong=1), "verdicts on 800 samples"),
    "no sandbox": (run(judged=["none-i-trust-this-code"]), "judged without a sandbox"),
    "no sandbox in the spec": (spec(sandbox="none-i-trust-this-code"), "its spec says that it is judged without a sandbox"),
    "a sandbox of its own": (run(judged=["mine"]), "judged in 'mine', which is no sandbox of ours"),
    "judged by nothing": (run(judged=[]), "a sandbox must be named"),
    "hashes that are none": (run(records="x"), "records is 'x'; it must be a hash of 32"),
    "time that runs back": (run(cost={"seconds": -1.0}), "cost.seconds is -1.0; it must be at least 0"),
    "a stage that runs back": (run(cost={"stages": {"grading": -1}}), "cost.stages.grading is -1"),
    "a copy of the run": (copied(), "seeds 0 and 9 have the same hash of records: one is a copy"),
    "solved problems alone": (solved_alone, "but its spec gives 200"),
    "solved problems alone under a limit": (
        lambda r: (solved_alone(r), spec(limit=100)(r)), "but its spec gives 100"),
    "a problem twice": (lambda r: r["problems"].__setitem__(0, "p1"), "199 different problems of 200"),
    "another k": (lambda r: r.update(k=1), "k is 1; it must be 4"),
    "other members": (lambda r: r.update(members=7), "members is 7, but its spec says 1"),
    "another size": (lambda r: r.update(size=8), "size is 8, but n is 4"),
    "another design": (lambda r: r.update(design="oracle"), "design is 'oracle'; it must be 'exchangeable draws'"),
    "n that no members give": (
        lambda r: (r["spec"]["sampler"].update(members=3), r.update(members=3), hashed_anew(r)), "a multiple of the 3 members"),
    "n without end": (lambda r: (r.update(n=2**40), spec(n=2**40)(r)), "at most 1000000"),
    "no n": (lambda r: (r.update(n=None), spec(n=None)(r)), "only samples from elsewhere"),
    "no smaller sizes": (run(values_at={}), "values_at has the sizes []; they must be ['2']"),
    "a count below 0": (counts(invalid=-5), "-5 invalid of 800 samples"),
    "a verdict below 0": (
        lambda r: verdicts(wrong=r["runs"][0]["verdicts"]["wrong"] + 9, raised=-9)(r), "-9 raised of 800 samples"),
    "a verdict of its own": (verdicts(fine=0), "the verdicts fine, which are none of ours"),
    "time-outs that no verdict says": (counts(timed_out=7), "7 timed out, but 0 verdicts say timeout"),
    "memory that no verdict says": (counts(out_of_memory=7), "7 out of memory, but 0 verdicts say memory"),
    "right without an answer": (counts(failed=700), "700 samples without an answer and"),
    "better values than verdicts": (values("pass@1", 1.0), "contradict each other"),
    "a share of no number of draws": (
        lambda r: every(r["runs"][0], "values", "pass@1", lambda v: abs(v - 0.1)),
        "pass@1 has values that are no multiple of 1 / 4"),
    "pass@K below pass@1": (values("pass@K", 0.0), "pass@K is not what pass@1 gives for k = 4 of n = 4"),
    "pairs that there are not": (
        values("diversity_score[exact]", 0.1234), "diversity_score[exact] has values that are no multiple of 1 / 6"),
    "more distinct than right": (values(EFFECTIVE, 1.0), "effective_diversity[ast,correct] is above pass@1"),
    "more distinct than right at a size": (
        values(EFFECTIVE, 1.0, at="2"), "at 2: effective_diversity[ast,correct] is above"),
    "fewer distinct than a part has": (values(EFFECTIVE, 0.0), "cannot be what a part of the 4 samples gives"),
    "a smaller share of distinct ones than of all": (
        values(EFFECTIVE, 0.0, at="2"), "at 2: effective_diversity[ast,correct] cannot"),
    "more texts than samples": (values(VENDI, 1000.0), "vendi[ngram,q=1] has values outside its range: 1 to 4"),
    "less than one text": (values(VENDI, 0.1), "vendi[ngram,q=1] has values outside its range"),
    "no texts where all answered": (values(VENDI, 0.0), "vendi[ngram,q=1] has values outside its range"),
    "more texts than samples at a size": (
        values(VENDI, 2.5, at="2"), "at 2: vendi[ngram,q=1] has values outside its range: 1 to 2"),
    "more texts in a part than in all": (
        lambda r: (values(VENDI, 1.1)(r), values(VENDI, 2.0, at="2")(r)), "at 2: vendi[ngram,q=1] is larger than the samples"),
    "KL of one member": (values("average_kl[i<j]", 3.0), "average_kl[i<j] is null for 0 of 200 problems; all must be null"),
    "a problem hidden": (
        lambda r: (r["runs"][0]["values"][VENDI].__setitem__(0, None), estimated_anew(r)), "is null for 1 of 200 problems"),
    "a problem hidden at a size": (
        lambda r: r["runs"][0]["values_at"]["2"][EFFECTIVE].__setitem__(0, None),
        "at 2: effective_diversity[ast,correct] is null"),
    "behaviours in a part alone": (values(BEHAVIOUR, 0.5, at="2"), "is null for other problems than at 4"),
    "a better estimate": (metric("pass@1", value=0.99), "metrics: pass@1 is not what its values give"),
    "a short name": (metric("vendi"), "metrics: vendi are none of ours"),
    "a log that there is not": (run(logs={"x.jsonl": "0a" * 16}), "logs has 'x.jsonl'"),
    "a log without a hash": (run(logs={"noise.jsonl": "x"}), "it must be a hash of 32 hexadecimal digits"),
    "more right ones in a part": (values("any_of_n", 1.0, at="2"), "at 2: any_of_n is not what pass@1 gives for 2 answers"),
    "a better pass@2": (metric("pass@2"), "metrics: pass@2 is not what its values give"),
    "a better any_of_n": (metric("any_of_n"), "metrics: any_of_n is not what its values give"),
    "a better distinct_correct": (metric("distinct_correct[ast]"), "metrics: distinct_correct[ast] is not what"),
    "an estimate that nobody knows": (metric("fake"), "metrics: fake are none of ours, and its spec has 0 of the user's own"),
    "an estimate of a member": (metric("pass@1[member=0]"), "metrics: pass@1[member=0] are none of ours"),
    "an estimate out of range": (metric("vendi[ngram,q=2]", value=1e9, high=1e9), "it lies between 0.0 and 4"),
    "a rate out of range": (metric("self_bleu", value=-1, low=-2), "it lies between 0.0 and 1.0"),
    "an estimate outside its interval": (metric("self_bleu", value=0.3), "is 0.3, outside its interval from 0.4 to 0.6"),
    "half an interval": (metric("self_bleu", low=None), "has half an interval"),
    "no interval and no reason": (metric("self_bleu", low=None, high=None), "or none without a reason"),
    "no value and no reason": (metric("self_bleu", value=None, low=None, high=None, problems=0), "it must have a reason"),
    "an estimate of no problems": (metric("self_bleu", problems=0), "is of 0 problems, but there are 200"),
}  # fmt: skip


@pytest.mark.parametrize("change", UNTABLED)
def test_what_has_not_the_shape_of_a_result_is_found_and_never_tabled(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path, wanted = _changed(UNTABLED[change], tmp_path)
    assert any(wanted in fault for fault in check(path)), check(path)
    assert main(["leaderboard", str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("spa-bench: ")


@pytest.mark.parametrize("change", CHANGES)
def test_what_contradicts_itself_is_found_and_still_tabled(change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, wanted = _changed(CHANGES[change], tmp_path)
    assert any(wanted in fault for fault in check(path)), check(path)
    assert all("\n" not in fault for fault in check(path))
    if change != "a seed twice":
        assert main(["leaderboard", str(path)]) == 0
        assert "## How to read it" in capsys.readouterr().out


def _changed(case: tuple[Callable[[Result], object], str], tmp_path: Path) -> tuple[Path, str]:
    """A file of a good result with one change and a checksum that fits; its name is right when the change leaves it one."""
    alter, wanted = case
    result = copy.deepcopy(made_up("wide", quality=0.6, spread=0.9))
    path = save(result, tmp_path)
    assert check(path) == []
    alter(result)
    path.write_bytes(_framed(result))
    return path, wanted


@pytest.mark.parametrize("n", [2, 5, 8, 32])
def test_made_up_results_of_any_n_are_free_of_faults(n: int, tmp_path: Path):
    assert check(save(made_up("wide", quality=0.5, spread=0.4, n=n, seed=n), tmp_path)) == []


def test_a_run_without_one_answer_has_no_diversity_to_be_found_missing(tmp_path: Path):
    result = made_up("none", quality=0.5, spread=0.5)
    run = result["runs"][0]
    for table in (run["values"], *run["values_at"].values()):
        for name in table:
            empty = name.startswith(("diversity_score", "vendi", "average_kl")) or "behaviour" in name
            table[name] = [None if empty else 0.0] * len(table[name])
    samples = run["counts"]["samples"]
    run["counts"] |= {"failed": samples, "refused": samples}
    run["verdicts"] = {"refused": samples}
    assert check(save(estimated_anew(result), tmp_path)) == []
    run["values"]["vendi[ngram,q=1]"] = [0.0] * len(result["problems"])
    assert any("all must be null here" in fault for fault in check(save(estimated_anew(result), tmp_path)))


def test_a_sampler_of_another_kind_chooses_its_draws_together(tmp_path: Path):
    result = made_up("wide", quality=0.6, spread=0.9)
    result["spec"]["sampler"]["kind"] = "diverse-beam"
    [fault] = check(save(hashed_anew(result), tmp_path))
    assert fault == "design is 'exchangeable draws'; it must be 'chosen together, not exchangeable'"
    result["design"] = "chosen together, not exchangeable"
    assert check(save(result, tmp_path)) == []


def test_the_draws_of_one_merged_member_are_exchangeable(tmp_path: Path):
    result = made_up("soup", quality=0.6, spread=0.9)
    result["spec"]["sampler"]["kind"] = "merge"
    assert check(save(hashed_anew(result), tmp_path)) == []


def test_two_seeds_of_different_logs_are_no_copy(tmp_path: Path):
    result = made_up("wide", quality=0.6, spread=0.9)
    copied(records="2c" * 16, grades="3d" * 16)(result)
    assert check(save(result, tmp_path)) == []


def test_metrics_of_the_users_own_are_as_many_as_the_spec_names(tmp_path: Path):
    result = made_up("wide", quality=0.6, spread=0.9)
    metric("mine", value=-7.0, low=-9.0, high=0.0)(result)
    spec(metrics={"module:MINE": "abc"})(result)
    assert check(save(result, tmp_path)) == []
    metric("another")(result)
    [fault] = check(save(result, tmp_path))
    assert "mine, another are none of ours, and its spec has 1" in fault


def test_estimates_that_follow_from_values_may_be_there(tmp_path: Path):
    result = made_up("wide", quality=0.6, spread=0.9)
    right = [round(4 * share) for share in result["runs"][0]["values"]["pass@1"]]
    known = made_up("wide", quality=0.6, spread=0.9)
    known["runs"][0]["values"]["pass@2"] = [float(f"{v:.10g}") for v in pass_at_k(right, 4, 2)]
    result["metrics"]["pass@2"] = estimated_anew(known)["metrics"]["pass@2"]
    assert check(save(result, tmp_path)) == []


def _good(request: Request) -> str:
    return f"    x{request.draw} = 0\n" * request.draw + RIGHT[request.problem_id]


def _mixed(request: Request) -> str:
    return WRONG if request.draw in {1, 5, 7} else _good(request)


@pytest.mark.parametrize(("members", "n"), [(1, 1), (1, 2), (1, 5), (1, 8), (2, 2), (2, 8), (3, 3), (3, 6), (4, 8)])
def test_real_runs_of_all_designs_are_free_of_faults(
    members: int, n: int, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    folder = mock_run(tmp_path / "runs", three, _mixed, name="mixed", n=n, members=members)
    path = save(from_runs([folder])[0], tmp_path)
    assert check(path) == []
    assert "mixed" in markdown(build_rows(from_runs([folder])), reference="mixed", command="x")


@pytest.mark.parametrize(("answer", "wrong"), [(_mixed, 0.5), (_mixed, 0.0), (lambda r: WRONG, 0.5)])
def test_pass_at_k_of_members_is_bounded_by_pass_at_1(
    answer: Callable[[Request], str], wrong: float, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    [result] = from_runs([mock_run(tmp_path / "runs", three, answer, name="mixed", n=8, members=2)])
    values("pass@K", wrong)(result)
    [fault] = check(save(result, tmp_path))
    assert "pass@K has values that no pass@1 like these gives for k = 2" in fault


def test_a_divergence_is_never_below_0(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    [result] = from_runs([mock_run(tmp_path / "runs", three, _mixed, name="mixed", n=8, members=2)])
    values("average_kl[i<j]", -0.1)(result)
    assert check(save(result, tmp_path)) == ["seed 0: average_kl[i<j] has values outside its range: it is at least 0"]


def test_sizes_that_members_cannot_give_hold_no_values(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    [result] = from_runs([mock_run(tmp_path / "runs", three, _mixed, name="mixed", n=6, members=3)])
    values(VENDI, 2.0, at="4")(result)
    assert "at 4: it has values, but 3 members give no such number of draws" in check(save(result, tmp_path))[0]
