"""HumanEval+ and MBPP+ on their real data: what is loaded, and how canonical solutions and known samples grade."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from doubles import Call
from spa_bench.cards.task import load_task_card
from spa_bench.errors import DataError, SpaBenchError
from spa_bench.grading import Calls, Check, Grader, Grading, Outcome, Program
from spa_bench.runs.folder import open_run
from spa_bench.runs.job import load_task
from spa_bench.sandbox import choose
from spa_bench.tasks.code import CodeTask
from spa_bench.types import Problem, Record, Verdict

ROW = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n",
    "canonical_solution": "    return x + 1\n",
    "entry_point": "f",
    "base_input": [[1], [2]],
    "plus_input": [[3]],
}


def loaded(name: str, **settings: Any) -> CodeTask:
    task = load_task(load_task_card(name, settings))
    assert isinstance(task, CodeTask)
    return task


@pytest.fixture
def real(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, and no other way to the data."""
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    for name in ("HUMANEVAL_OVERRIDE_PATH", "MBPP_OVERRIDE_PATH"):
        monkeypatch.delenv(name, raising=False)
    return data


@pytest.fixture(scope="module")
def tasks(data: Path) -> dict[str, CodeTask]:
    """Both tasks, loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPA_BENCH_DATA", str(data))
        for name in ("HUMANEVAL_OVERRIDE_PATH", "MBPP_OVERRIDE_PATH"):
            patch.delenv(name, raising=False)
        return {name: loaded(name) for name in ("humaneval-plus", "mbpp-plus")}


@pytest.fixture
def humaneval(tasks: dict[str, CodeTask]) -> CodeTask:
    return tasks["humaneval-plus"]


@pytest.fixture
def mbpp(tasks: dict[str, CodeTask]) -> CodeTask:
    pytest.importorskip("evalplus")  # restores the inputs' types
    return tasks["mbpp-plus"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evalplus")


def problem(task: CodeTask, name: str) -> Problem:
    return next(p for p in task.problems if p.id == name)


def canonical(task: CodeTask, *names: str) -> list[Program]:
    """Programs of the canonical solutions as a run would make them; of all problems when none is named."""
    problems = [problem(task, name) for name in names] or task.problems
    return [task._tested(p.id, p.prompt + p.reference) for p in problems]


def grade(task: CodeTask, programs: Sequence[Program], cache: Path, grading: str = "default") -> list[Outcome]:
    grader = Grader(sandbox=choose(), cache=cache, grading=Grading(grading), workers=2, limits=task.limits)
    found = dict(grader.run(programs))
    return [found[i] for i in range(len(programs))]


def failed(programs: Sequence[Program], outcomes: Sequence[Outcome]) -> dict[str, str]:
    pairs = zip(programs, outcomes, strict=True)
    return {p.problem: f"{o.verdict}: {o.message} ({o.call})" for p, o in pairs if o.verdict != Verdict.PASSED}


# what is loaded ------------------------------------------------------------------------------------------------------


def test_humaneval_plus_has_164_problems_and_1570_base_tests(humaneval: CodeTask):
    assert [humaneval.problems[0].id, humaneval.problems[-1].id] == ["HumanEval/0", "HumanEval/163"]
    assert len(humaneval.problems) == 164
    suites = [s for p in humaneval.problems for s in p.suites]
    assert sum(len(s.inputs()) for s in suites if s.name == "base") == 1570
    assert sum(len(s.inputs()) for s in suites if s.name == "plus") == 122_683
    assert humaneval.version == "v0.1.10"


def test_mbpp_plus_has_378_problems(mbpp: CodeTask):
    assert len(mbpp.problems) == 378
    assert [s.name for s in mbpp.problems[0].suites] == ["base", "plus"]
    assert mbpp.version == "v0.2.0"


def test_base_tests_come_before_plus_tests(humaneval: CodeTask):
    assert {tuple(s.name for s in p.suites) for p in humaneval.problems} == {("base", "plus")}


def test_a_card_can_ask_for_base_tests_alone(real: Path):
    task = loaded("humaneval-plus", suites=["base"])
    assert {tuple(s.name for s in p.suites) for p in task.problems} == {("base",)}


def test_which_suites_are_asked_for_changes_the_task_s_hash(real: Path, humaneval: CodeTask):
    hashes = {loaded("humaneval-plus", suites=s).describe()["problems_hash"] for s in (["base"], ["plus"])}
    assert len(hashes | {humaneval.describe()["problems_hash"]}) == 3


def test_a_card_that_asks_for_a_suite_that_is_none_is_refused(real: Path):
    with pytest.raises(SpaBenchError, match="bas"):
        loaded("humaneval-plus", suites=["bas"])


def test_tests_are_data_and_have_no_source(humaneval: CodeTask):
    [program] = canonical(humaneval, "HumanEval/0")
    assert isinstance(program.tests, Calls)
    assert {p.tests for p in humaneval.problems} == {""}
    assert program.seconds == 1.0


def test_the_base_set_with_openai_s_tests_is_another_task(real: Path):
    task = loaded("humaneval")
    assert isinstance(canonical(task, "HumanEval/0")[0].tests, Check)


def test_mbpp_is_mbpp_plus_with_its_base_tests_alone(mbpp: CodeTask, real: Path):
    task = loaded("mbpp")
    assert [p.id for p in task.problems] == [p.id for p in mbpp.problems]
    assert {tuple(s.name for s in p.suites) for p in task.problems} == {("base",)}
    assert (task.version, task.describe()["problems_n"]) == ("v0.2.0", 378)


# data that is not what a card pins -----------------------------------------------------------------------------------


def older(folder: Path, real: Path) -> tuple[Path, str]:
    """MBPP+ with 399 problems, as v0.1.0 had (the number in the SPA paper), and its hash."""
    raw = gzip.decompress((real / "mbppplus" / "MbppPlus.jsonl.gz").read_bytes())
    extra = [json.dumps({**ROW, "task_id": f"Mbpp/{9000 + i}"}) for i in range(21)]
    path = folder / "MbppPlus-399.jsonl"
    path.write_bytes(raw.rstrip(b"\n") + ("\n" + "\n".join(extra) + "\n").encode())
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_mbpp_plus_of_399_problems_is_not_v_0_2_0(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, digest = older(tmp_path, real)
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(path))
    pinned = load_task_card("mbpp-plus").sha256
    with pytest.raises(DataError) as caught:
        loaded("mbpp-plus")
    message = str(caught.value)
    assert "\n" not in message
    assert (
        f"{path} is not the data that task mbpp-plus v0.2.0 pins: it has 399 problems and sha256 {digest}, not {pinned}"
        in message
    )
    assert f"--set task.sha256={digest} --set task.version=NAME" in message
    # as the message says
    task = loaded("mbpp-plus", sha256=digest, version="v0.1.0")
    assert (task.version, len(task.problems), task.describe()["problems_n"]) == ("v0.1.0", 399, 399)
    assert loaded("mbpp-plus", sha256="").version == "unpinned"  # never under a name that it does not have
    assert loaded("mbpp-plus", sha256=digest).version == f"sha256 {digest[:12]}"


def test_compressed_or_not_it_is_the_same_data(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = tmp_path / "HumanEvalPlus.jsonl"
    plain.write_bytes(gzip.decompress((real / "humanevalplus" / "HumanEvalPlus.jsonl.gz").read_bytes()))
    monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(plain))
    assert loaded("humaneval-plus").version == "v0.1.10"
    assert len(loaded("humaneval").problems) == 164  # its tests are in both files
    plain.write_bytes(plain.read_bytes().replace(b"0.5", b"0.6", 1))
    for name in ("humaneval-plus", "humaneval"):
        with pytest.raises(DataError, match=f"is not the data that task {name} .* it has 164 problems"):
            loaded(name)


def test_a_run_says_and_keeps_which_version_it_is_of(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Call, tiny_folder: Path
):
    path, digest = older(tmp_path, real)
    options = ["--task", "mbpp-plus", "--limit", 1, "--n", 1, "--until", "generate", "--set", "task.max_new_tokens=2", "--json"]
    done = run(*options)
    assert done.code == 0, done.err
    assert "task: mbpp-plus v0.2.0, 1 of 378 problems" in done.err
    [first] = map(Path, json.loads(done.out))
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(path))
    assert "has 399 problems" in run(*options).error()
    other = run(*options, "--set", f"task.sha256={digest}", "--set", "task.version=v0.1.0")
    assert "task: mbpp-plus v0.1.0, 1 of 399 problems" in other.err
    assert len(open_run(first).record_log.rows()) == 1  # what was computed is still there


def oracles(task: CodeTask) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for p in task.problems:
        assert len({s.oracle for s in p.suites}) == 1
        found.setdefault(p.suites[0].oracle, []).append(p.id.split("/")[1])
    del found["equal"]
    return found


def test_problems_with_several_right_answers_have_their_oracles(humaneval: CodeTask, mbpp: CodeTask):
    assert oracles(humaneval) == {"poly": ["32"]}
    assert oracles(mbpp) == {
        "as sets": ["2", "7", "111", "140", "232", "579", "769"],
        "digit distance": ["558"],
        "surface area": ["581"],
        "not none": ["737", "787", "794"],
    }


def test_tolerances_are_those_of_the_data(humaneval: CodeTask, mbpp: CodeTask):
    assert {p.id: p.suites[0].atol for p in humaneval.problems if p.suites[0].atol} == {
        "HumanEval/2": 1e-6,
        "HumanEval/4": 1e-6,
        "HumanEval/32": 1e-4,
    }
    assert Counter(p.suites[1].atol for p in mbpp.problems) == {0.0: 365, 1e-4: 13}


def test_types_that_json_lacks_are_restored_for_mbpp(mbpp: CodeTask):
    inputs = {i: problem(mbpp, f"Mbpp/{i}").suites[0].inputs() for i in (2, 63, 124, 252, 580, 750)}
    assert inputs[2][0] == [(3, 4, 5, 6), (5, 7, 4, 10)]
    assert inputs[63][0] == [[(3, 5), (1, 7), (10, 3), (1, 2)]]
    assert inputs[124][0] == [0.0, 1j]
    assert inputs[252][0] == [1 + 0j]
    assert inputs[580][0] == [(4, 5, (7, 6, (2, 4)), 6, 8)]
    assert inputs[750][0] == [[5, 6, 7], (9, 10)]


def test_inputs_are_evalplus_own(mbpp: CodeTask, real: Path):
    from evalplus.data.mbpp import mbpp_deserialize_inputs

    lines = gzip.decompress((real / "mbppplus" / "MbppPlus.jsonl.gz").read_bytes()).splitlines()
    rows = map(json.loads, lines)
    for row, mine in zip(rows, mbpp.problems, strict=True):
        theirs = mbpp_deserialize_inputs(row["task_id"], row["base_input"])
        assert repr(mine.suites[0].inputs()) == repr([list(i) for i in theirs]), mine.id


def test_a_problem_without_plus_inputs_has_an_empty_suite(mbpp: CodeTask):
    assert [len(s.inputs()) for s in problem(mbpp, "Mbpp/793").suites][1] == 0


# rows of another shape -----------------------------------------------------------------------------------------------


@pytest.fixture
def from_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The task of some rows."""

    def make(*rows: Any) -> CodeTask:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(path))
        return loaded("humaneval-plus", sha256="")

    return make


NEEDED = ("prompt", "canonical_solution", "entry_point", "base_input")
WITHOUT = [{**{k: v for k, v in ROW.items() if k != name}, "task_id": "x"} for name in NEEDED]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (WITHOUT[0], "has no 'prompt' of evalplus' kind"),
        (WITHOUT[1], "has no 'canonical_solution' of evalplus' kind"),
        (WITHOUT[2], "has no 'entry_point' of evalplus' kind"),
        (WITHOUT[3], "has no 'base_input' of evalplus' kind"),
        ("{", "is not valid JSON"),
        ("[1]", "rows.jsonl, line 2 is [1]; each line is one problem"),
        ({**ROW, "task_id": 3}, "has 'task_id' = 3; it must be a text"),
        (ROW, "repeats the task id 'HumanEval/0'"),
        ({**ROW, "task_id": "x", "prompt": 3}, "'prompt'"),
        ({**ROW, "task_id": "x", "canonical_solution": None}, "'canonical_solution'"),
        ({**ROW, "task_id": "x", "base_input": 3}, "'base_input'"),
        ({**ROW, "task_id": "x", "base_input": [1, 2]}, "'base_input'"),
        ({**ROW, "task_id": "x", "plus_input": None}, "'plus_input'"),
        ({**ROW, "task_id": "x", "atol": "small"}, "'atol'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row_of_another_shape_is_one_line_that_names_it(row: Any, message: str, from_rows: Any):
    with pytest.raises(DataError) as caught:
        from_rows(ROW, row)
    text = str(caught.value)
    assert "rows.jsonl, line 2 " in text
    assert message in text
    assert "\n" not in text


def test_openai_s_file_is_no_file_of_evalplus(real: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(data / "humaneval" / "HumanEval.jsonl.gz"))
    with pytest.raises(DataError, match=r"HumanEval\.jsonl\.gz, line 1 has no 'base_input' of evalplus' kind"):
        loaded("humaneval-plus", sha256="")


def test_mbpp_without_evalplus_names_the_pip_command(real: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [n for n in sys.modules if n == "evalplus" or n.startswith("evalplus.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "evalplus", None)
    with pytest.raises(DataError, match=r"pip install 'spa-bench\[evalplus\]'"):
        loaded("mbpp-plus").problems[0].suites[0].inputs()


def test_other_inputs_are_another_task(from_rows: Any):
    one, other = (from_rows({**ROW, "plus_input": i}).describe()["problems_hash"] for i in ([[3]], [[4]]))
    assert one != other


def test_samples_of_rows_are_graded_with_both_suites(from_rows: Any, bwrap: str, tmp_path: Path):
    task = from_rows(ROW)
    texts = ["    return x + 1", "    return x + (x < 3)", "    return x", ""]
    records = [
        Record(problem="HumanEval/0", member=0, draw=i, raw=text, graded=text, finish="stop", tokens=1, seed=0)
        for i, text in enumerate(texts)
    ]
    grades = {
        g.draw: g for g in task.score(records, Grader(sandbox=choose(bwrap), cache=tmp_path, workers=1, limits=task.limits))
    }
    assert [(str(grades[i].verdict), grades[i].suite, grades[i].call) for i in range(4)] == [
        ("passed", "", ""),
        ("wrong", "plus", "3"),
        ("wrong", "base", "1"),
        ("refused", "", ""),
    ]


def test_one_run_has_the_base_verdicts_beside_those_of_all_tests(from_rows: Any, bwrap: str, tmp_path: Path, call: Call):
    from_rows(ROW)
    texts = ["    return x + 1", "    return x + (x < 3)", "    return x", "    return x +"]
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps({"task_id": "HumanEval/0", "completion": t}) + "\n" for t in texts))
    options = ["--samples", samples, "--set", "task.sha256=", "--out", tmp_path / "runs", "--sandbox", bwrap, "--json"]
    [row] = json.loads(call("score", "--task", "humaneval-plus", *options).out)
    found = {
        name: row["metrics"][name]["value"] for name in ("pass@1", "pass@1[base]", "pass@2", "pass@2[base]", "pass@K[base]")
    }
    assert found == {
        "pass@1": 0.25, "pass@1[base]": 0.5, "pass@2": 0.5, "pass@2[base]": pytest.approx(5 / 6), "pass@K[base]": 1.0,
    }  # fmt: skip
    assert (row["task_version"], row["problems"]) == ("unpinned", 1)
    [alone] = json.loads(call("score", "--task", "humaneval-plus", *options, "--set", 'task.suites=["base"]').out)
    assert alone["metrics"]["pass@1"]["value"] == 0.5
    assert alone["metrics"]["pass@1[base]"]["reason"] == "the task has one suite of tests"


# canonical solutions -------------------------------------------------------------------------------------------------

CHEAP = [0, 1, 5, 6, 32, 39, 41, 55, 60, 63, 75, 77, 84, 115, 138, 147, 156]
CHEAP_MBPP = [2, 3, 7, 63, 100, 111, 124, 232, 252, 558, 580, 581, 737, 769, 787, 793]


@pytest.mark.usefixtures("bwrap")
def test_canonical_solutions_of_humaneval_plus_pass(humaneval: CodeTask, cache: Path):
    programs = canonical(humaneval, *(f"HumanEval/{i}" for i in CHEAP))
    assert failed(programs, grade(humaneval, programs, cache)) == {}


@pytest.mark.usefixtures("bwrap")
def test_canonical_solutions_of_mbpp_plus_pass(mbpp: CodeTask, cache: Path):
    programs = canonical(mbpp, *(f"Mbpp/{i}" for i in CHEAP_MBPP))
    assert failed(programs, grade(mbpp, programs, cache)) == {}


@pytest.mark.usefixtures("bwrap")
def test_under_evalplus_grading_only_humaneval_32_fails(humaneval: CodeTask, cache: Path):
    programs = canonical(humaneval, *(f"HumanEval/{i}" for i in CHEAP))
    assert list(failed(programs, grade(humaneval, programs, cache, "evalplus"))) == ["HumanEval/32"]


@pytest.mark.usefixtures("bwrap")
def test_the_prompts_alone_do_not_pass(humaneval: CodeTask, cache: Path):
    names = [f"HumanEval/{i}" for i in CHEAP]
    programs = [humaneval._tested(name, problem(humaneval, name).prompt + "    pass\n") for name in names]
    assert sorted(failed(programs, grade(humaneval, programs, cache))) == sorted(names)


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
def test_large_answers_that_evalplus_cannot_hold_pass(mbpp: CodeTask, cache: Path):
    programs = canonical(mbpp, "Mbpp/84", "Mbpp/392", "Mbpp/630")
    assert failed(programs, grade(mbpp, programs, cache)) == {}
    assert failed(programs, grade(mbpp, programs, cache, "evalplus")) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
def test_an_answer_of_a_gigabyte_is_left_out_but_not_in_evalplus(mbpp: CodeTask, cache: Path):
    programs = canonical(mbpp, "Mbpp/255")
    assert failed(programs, grade(mbpp, programs, cache)) == {}
    [found] = grade(mbpp, programs, cache, "evalplus")
    assert (found.verdict, found.suite) == (Verdict.WRONG, "plus")


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
@pytest.mark.parametrize(("grading", "failing"), [("default", []), ("evalplus", ["HumanEval/32"])])
def test_all_canonical_solutions_of_humaneval_plus(humaneval: CodeTask, cache: Path, grading: str, failing: list[str]):
    programs = canonical(humaneval)
    assert list(failed(programs, grade(humaneval, programs, cache, grading))) == failing


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
@pytest.mark.parametrize(("grading", "failing"), [("default", []), ("evalplus", ["Mbpp/255"])])
def test_all_canonical_solutions_of_mbpp_plus(mbpp: CodeTask, cache: Path, grading: str, failing: list[str]):
    programs = canonical(mbpp)
    assert list(failed(programs, grade(mbpp, programs, cache, grading))) == failing


# samples of a model --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
def test_codegen_s_samples_pass_as_often_as_in_evalplus(
    humaneval: CodeTask, real: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    """evalplus' counts for these 3,280 are 728 and 639; two of them import requests and httplib2, which we do not show."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from grading import codegen

    samples = codegen(humaneval.problems, real, 20)
    assert len(samples) == 3280
    different = list(dict.fromkeys(samples))
    found = dict(zip(different, grade(humaneval, [humaneval._tested(*s) for s in different], cache, "evalplus"), strict=True))
    outcomes = [found[s] for s in samples]
    passed = [o.verdict == Verdict.PASSED for o in outcomes]
    assert (sum(o.suite == "plus" for o in outcomes) + sum(passed), sum(passed)) == (726, 637)
