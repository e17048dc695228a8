"""What an export writes, in which order, what it refuses, and that it executes nothing."""

from __future__ import annotations

import json
import pickle
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import RIGHT, WRONG, InProcessJudge, Lines, mock_run
from export_runs import record, stored
from spa_bench.cards.task import load_task_card
from spa_bench.cli import main as cli
from spa_bench.errors import DataError, StoreError, UsageError
from spa_bench.publish.export import FORMATS, export, noveltybench
from spa_bench.publish.export.samples import collect
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import read_samples
from spa_bench.runs.job import load_task
from spa_bench.tasks.base import Task
from spa_bench.tasks.code import CodeTask
from spa_bench.types import CallSuite

UNGRADED = ["evalplus", "lm-eval", "inspect", "parquet", "hub"]  # formats that take a run without verdicts
SHUFFLED = [
    record("three/last", 0, 0, "L00"),
    record("three/add", 1, 0, "A10"),
    record("three/add", 0, 1, "A01\n"),
    record("three/double", 0, 0, "", failure="no answer came"),
    record("three/add", 0, 0, "A00"),
    record("three/double", 1, 0, "def double(x): return 2", whole=True),
]


@pytest.fixture
def task(three: Path) -> CodeTask:
    loaded = load_task(load_task_card(str(three)))
    assert isinstance(loaded, CodeTask)
    return loaded


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def complete(tmp_path: Path, task: Task) -> RunFolder:
    texts = [(0, 0), (1, 0)]
    return stored(tmp_path / "runs", task, [record(p.id, m, d, RIGHT[p.id]) for p in task.problems for m, d in texts], n=2)


def cached(folder: Path) -> list[list[str]]:
    with sqlite3.connect(folder / "cache" / "samples_rank0.db") as connection:
        return [pickle.loads(value) for (value,) in connection.execute('SELECT value FROM "unnamed" ORDER BY rowid')]


# evalplus ------------------------------------------------------------------------------------------------------------


def test_samples_are_whole_programs_by_problem_member_and_draw(task: CodeTask, tmp_path: Path):
    export(stored(tmp_path / "runs", task, SHUFFLED), task, to="evalplus", out=tmp_path / "out")
    prompts = {p.id: p.prompt for p in task.problems}
    assert rows(tmp_path / "out" / "samples.jsonl") == [
        {"task_id": "three/add", "solution": prompts["three/add"] + "A00"},
        {"task_id": "three/add", "solution": prompts["three/add"] + "A01"},
        {"task_id": "three/add", "solution": prompts["three/add"] + "A10"},
        {"task_id": "three/double", "solution": ""},
        {"task_id": "three/double", "solution": "def double(x): return 2"},
        {"task_id": "three/last", "solution": prompts["three/last"] + "L00"},
    ]


def test_exported_samples_are_read_back_as_the_same_answers(task: CodeTask, tmp_path: Path):
    run = complete(tmp_path, task)
    export(run, task, to="evalplus", out=tmp_path / "out")
    back = read_samples(tmp_path / "out" / "samples.jsonl", task, cut=False)
    assert [(r.problem, r.graded, r.whole) for r in back] == [(r.problem, r.graded, r.whole) for r in run.records().values()]


def test_a_task_that_evalplus_lacks_is_written_with_a_line_that_says_so(task: CodeTask, tmp_path: Path):
    note, left_out = export(complete(tmp_path, task), task, to="evalplus", out=tmp_path / "out")
    assert left_out.startswith("left out: verdicts, metrics with their intervals, divergences; the spec")
    assert note.startswith("three is no data set of evalplus (it has HumanEval+ and MBPP+): samples.jsonl is in its format")
    assert "spa-bench score --task three --samples samples.jsonl" in (tmp_path / "out" / "README.md").read_text()


# lm-eval -------------------------------------------------------------------------------------------------------------


def test_the_cache_holds_a_problem_s_answers_in_the_order_of_members_and_draws(task: CodeTask, tmp_path: Path):
    export(stored(tmp_path / "runs", task, SHUFFLED), task, to="lm-eval", out=tmp_path / "out")
    assert cached(tmp_path / "out") == [["A00", "A01", "A10"], ["", "def double(x): return 2"], ["L00"]]
    docs = rows(tmp_path / "out" / "task" / "problems.jsonl")
    assert [(d["task_id"], d["members"], d["draws"], d["whole"]) for d in docs] == [
        ("three/add", [0, 0, 1], [0, 1, 0], [False, False, False]),
        ("three/double", [0, 1], [0, 0], [False, True]),
        ("three/last", [0], [0], [False]),
    ]


def test_stop_strings_and_length_are_the_card_s(task: CodeTask, tmp_path: Path):
    export(complete(tmp_path, task), task, to="lm-eval", out=tmp_path / "out")
    text = (tmp_path / "out" / "task" / "spa_bench_three.yaml").read_text()
    assert 'until: ["\\ndef "]\n  max_gen_toks: 12\n  do_sample: false\n' in text


def test_two_problems_with_one_prompt_are_refused(tmp_path: Path, three: Path):
    problems = three.with_suffix(".jsonl")
    first, *others = problems.read_text().splitlines()
    again = json.dumps({**json.loads(first), "task_id": "three/again"})
    problems.write_text("\n".join([first, again, *others]) + "\n")
    task = load_task(load_task_card(str(three)))
    run = stored(tmp_path / "runs", task, [record(p.id, 0, 0, "x") for p in task.problems])
    with pytest.raises(DataError, match="three/add and three/again have the same prompt"):
        export(run, task, to="lm-eval", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_sample_log_has_our_verdicts_and_only_a_graded_run_has_one(task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    texts = {"three/add": [RIGHT["three/add"], WRONG], "three/double": [WRONG, WRONG], "three/last": [RIGHT["three/last"]] * 2}
    run = stored(tmp_path / "runs", task, [record(i, 0, d, t) for i, ts in texts.items() for d, t in enumerate(ts)], n=2)
    note, _ = export(run, task, to="lm-eval", out=tmp_path / "out")
    assert note.startswith("the run is not graded: logged/ with our verdicts is left out")
    assert not (tmp_path / "out" / "logged").exists()
    grade(run, task, Lines(), sandbox=None, workers=1)
    [left_out] = export(run, task, to="lm-eval", out=tmp_path / "out")
    assert left_out.startswith("left out: our divergences between members")
    [log] = (tmp_path / "out" / "logged" / "spa-bench").glob("samples_*")
    found = rows(log)
    assert [(r["passed"], r["pass@1"], r["any"]) for r in found] == [([1, 0], 0.5, 1.0), ([0, 0], 0.0, 0.0), ([1, 1], 1.0, 1.0)]
    assert found[0]["resps"] == [[[RIGHT["three/add"].rstrip(), WRONG.rstrip()]]]


def test_a_generated_run_dates_its_log_by_when_it_was_finished(tmp_path: Path, three: Path, sandbox: InProcessJudge):
    run = mock_run(tmp_path / "runs", three, lambda request: RIGHT[request.problem_id])
    run.write_json("timings.json", {"finished": "2026-03-04T05:06:07+00:00"})
    export(run, load_task(load_task_card(str(three))), to="lm-eval", out=tmp_path / "out")
    [log] = (tmp_path / "out" / "logged" / "spa-bench").glob("samples_*")
    assert log.name == "samples_spa_bench_three_2026-03-04T05-06-07.000000.jsonl"


# both ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", UNGRADED)
def test_exporting_twice_gives_the_same_bytes_wherever_the_run_lies(to: str, task: CodeTask, tmp_path: Path):
    for name, records in (("a", SHUFFLED), ("b", SHUFFLED[::-1])):
        export(stored(tmp_path / name, task, records), task, to=to, out=tmp_path / f"{name}-out")
    first = snapshot(tmp_path / "a-out")
    assert first == snapshot(tmp_path / "b-out")
    assert not any(str(tmp_path).encode() in content for content in first.values())
    export(stored(tmp_path / "a", task, []), task, to=to, out=tmp_path / "a-out")
    assert snapshot(tmp_path / "a-out") == first


@pytest.mark.parametrize("to", UNGRADED)
def test_an_answer_that_the_run_does_not_hold_changes_the_files(to: str, task: CodeTask, tmp_path: Path):
    export(stored(tmp_path / "a", task, SHUFFLED), task, to=to, out=tmp_path / "a-out")
    export(
        stored(tmp_path / "b", task, [record("three/last", 0, 0, "L99"), *SHUFFLED[1:]]), task, to=to, out=tmp_path / "b-out"
    )
    assert snapshot(tmp_path / "a-out") != snapshot(tmp_path / "b-out")


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_is_executed(to: str, task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    flag = tmp_path / "executed"
    text = f"open({str(flag)!r}, 'w').close()"
    run = stored(tmp_path / "runs", task, [record(p.id, 0, 0, text, whole=True) for p in task.problems], n=1)
    grade(run, task, Lines(), sandbox=None, workers=1)
    flag.unlink()
    export(run, task, to=to, out=tmp_path / "out")
    assert not flag.exists()


@pytest.mark.parametrize("to", ["evalplus", "lm-eval"])
def test_answers_with_odd_characters_are_exported(to: str, task: CodeTask, tmp_path: Path):
    odd = "    return '\u2028\ud800\x00\x85é'"
    run = stored(tmp_path / "runs", task, [record(p.id, 0, 0, odd) for p in task.problems])
    export(run, task, to=to, out=tmp_path / "out")
    found = cached(tmp_path / "out") if to == "lm-eval" else rows_of_lines(tmp_path / "out" / "samples.jsonl")
    assert all(odd in str(answer[0]) for answer in found)


def rows_of_lines(path: Path) -> list[list[str]]:
    return [[json.loads(line)["solution"]] for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize("to", UNGRADED)
def test_failed_and_missing_samples_are_told(to: str, task: CodeTask, tmp_path: Path):
    notes = export(stored(tmp_path / "runs", task, SHUFFLED, n=4), task, to=to, out=tmp_path / "out")
    assert notes[0] == "the run is not finished: 6 of 12 samples are there, and no others are exported"
    assert notes[1].startswith("1 of 6 samples have no answer; they are exported as empty ones")


def test_a_run_with_a_limit_that_is_done_is_finished(task: CodeTask, tmp_path: Path):
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "x")], n=1, limit=1)
    assert not any("not finished" in note for note in export(run, task, to="lm-eval", out=tmp_path / "out"))
    assert [d["task_id"] for d in rows(tmp_path / "out" / "task" / "problems.jsonl")] == ["three/add"]


def test_a_run_without_samples_is_refused(task: CodeTask, tmp_path: Path):
    with pytest.raises(StoreError, match="has no samples to export"):
        export(stored(tmp_path / "runs", task, []), task, to="evalplus", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_problems_without_tests_are_no_programs(task: CodeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = complete(tmp_path, task)
    monkeypatch.setattr(task, "problems", [replace(p, tests="") for p in task.problems])
    with pytest.raises(UsageError, match="three has no tests of programs for three/add; --to evalplus takes runs of code"):
        export(run, task, to="evalplus", out=tmp_path / "out")


def test_noveltybench_names_the_model_without_its_place_and_says_what_it_cannot_hold(task: CodeTask, tmp_path: Path):
    run = stored(tmp_path / "runs", task, [record("three/add", 0, 0, "    return '\ud800'")], n=1, limit=1)
    samples = collect(run, task)
    run.spec["model"]["name"] = "/home/me/models/Qwen2.5-0.5B"
    made = noveltybench.content(samples)
    row = json.loads(made.files["generations.jsonl"])
    assert row["model"] == "local/Qwen2.5-0.5B"
    assert "\ufffd" in row["generations"][0]
    assert any("halves of surrogate pairs in 1 answers" in said for said in made.left_out)


def test_tests_that_no_grader_can_run_are_refused_for_lm_eval(task: CodeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = complete(tmp_path, task)
    suites = (CallSuite(name="base", inputs=lambda: [[1]]),)
    monkeypatch.setattr(task, "problems", [replace(p, suites=suites) for p in task.problems])
    with pytest.raises(DataError, match="the tests of three are data that evalplus does not have"):
        export(run, task, to="lm-eval", out=tmp_path / "out")


def test_an_unknown_format_names_the_known_ones(task: CodeTask, tmp_path: Path):
    with pytest.raises(UsageError, match=r"--to is 'evalpluss'; did you mean 'evalplus'\?"):
        export(complete(tmp_path, task), task, to="evalpluss", out=tmp_path / "out")


# the folder ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_something_else_is_left_as_it_is(task: CodeTask, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "samples.jsonl").write_text("mine\n")
    with pytest.raises(UsageError, match="is not empty and is no export of spa-bench; nothing was written"):
        export(complete(tmp_path, task), task, to="evalplus", out=out)
    assert snapshot(out) == {"samples.jsonl": b"mine\n"}


def test_an_empty_folder_is_taken_and_a_file_is_not(task: CodeTask, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    export(complete(tmp_path, task), task, to="evalplus", out=tmp_path / "empty")
    assert (tmp_path / "empty" / "samples.jsonl").exists()
    with pytest.raises(UsageError, match="which is no folder"):
        export(complete(tmp_path, task), task, to="evalplus", out=tmp_path / "empty" / "samples.jsonl")


@pytest.mark.parametrize(("other", "to"), [(True, "evalplus"), (False, "lm-eval")], ids=["another run", "another format"])
def test_a_folder_of_another_export_is_left_as_it_is(other: bool, to: str, task: CodeTask, tmp_path: Path):
    export(complete(tmp_path, task), task, to="evalplus", out=tmp_path / "out")
    before = snapshot(tmp_path / "out")
    run = stored(tmp_path / "more", task, SHUFFLED, n=7) if other else complete(tmp_path, task)
    with pytest.raises(UsageError, match=r"holds run \w+ for evalplus, this is run \w+ for .*; nothing was written"):
        export(run, task, to=to, out=tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_what_an_earlier_export_wrote_and_this_one_does_not_is_removed_and_nothing_else(
    task: CodeTask, tmp_path: Path, sandbox: InProcessJudge
):
    run, out = complete(tmp_path, task), tmp_path / "out"
    grade(run, task, Lines(), sandbox=None, workers=1)
    export(run, task, to="lm-eval", out=out)
    (tmp_path / "outside").write_text("mine")
    (out / "results.json").write_text("of lm-eval")
    manifest = json.loads((out / "export.json").read_text())
    (out / "export.json").write_text(json.dumps({**manifest, "files": [*manifest["files"], "../outside"]}))
    run.write_json("timings.json", {"finished": "2026-03-04T05:06:07+00:00"})
    export(run, task, to="lm-eval", out=out)
    [log] = (out / "logged" / "spa-bench").glob("samples_*")
    assert log.name.endswith("_2026-03-04T05-06-07.000000.jsonl")
    assert (tmp_path / "outside").exists()
    assert (out / "results.json").exists()


def test_an_interrupted_export_can_be_repeated(task: CodeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from spa_bench.publish.export import folder as module

    run, write = complete(tmp_path, task), module.put

    def stop(path: Path, content: bytes) -> None:
        if path.name == "README.md":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(module, "put", stop)
    with pytest.raises(KeyboardInterrupt):
        export(run, task, to="evalplus", out=tmp_path / "out")
    monkeypatch.undo()
    export(run, task, to="evalplus", out=tmp_path / "out")
    assert sorted(snapshot(tmp_path / "out")) == ["README.md", "export.json", "samples.jsonl"]


def test_old_results_that_evalplus_would_print_again_are_told(task: CodeTask, tmp_path: Path):
    run = stored(tmp_path / "runs", task, SHUFFLED, n=2)
    export(run, task, to="evalplus", out=tmp_path / "out")
    results = tmp_path / "out" / "samples_eval_results.json"
    results.write_text("{}")
    assert not any("earlier samples" in note for note in export(run, task, to="evalplus", out=tmp_path / "out"))
    run.record_log.append([record("three/last", 1, 0, "more")])
    assert any("earlier samples" in note for note in export(run, task, to="evalplus", out=tmp_path / "out"))
    assert results.exists()


# the command ---------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_folder_and_tells_how_to_use_it(
    task: CodeTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = complete(tmp_path, task)
    run.write_json("task_file.json", {"file": task.file})
    out = tmp_path / "out"
    assert cli.main(["export", str(run.path), "--to", "lm-eval", "--out", str(out)]) == 0
    seen = capsys.readouterr()
    assert seen.out == f"{out}\n"
    assert seen.err.endswith(f"how to use it: {out / 'README.md'}\n")


def test_the_command_ends_in_one_line_for_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["export", str(tmp_path), "--to", "evalplus", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"spa-bench: no run in {tmp_path}: spec.json is missing; give a run folder\n"


def test_problems_that_moved_are_found_by_task_file(task: CodeTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = complete(tmp_path, task)
    moved = Path(task.file).rename(tmp_path / "moved.jsonl")
    arguments = ["export", str(run.path), "--to", "evalplus", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    assert cli.main([*arguments, "--task-file", str(moved)]) == 0
