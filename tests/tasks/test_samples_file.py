"""Completions of others, in evalplus' sample format (spa_bench.runs.import_samples)."""

import gzip
import json
from pathlib import Path

import pytest

from doubles import RIGHT, InProcessJudge, Lines
from spa_bench.cards.task import load_task_card
from spa_bench.errors import DataError
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import import_samples, read_samples
from spa_bench.runs.job import load_task
from spa_bench.tasks.code import CodeTask
from spa_bench.types import Key, Record

ALL = [{"task_id": i, "completion": c} for i, c in RIGHT.items()]


@pytest.fixture
def task(three: Path) -> CodeTask:
    loaded = load_task(load_task_card(str(three)))
    assert isinstance(loaded, CodeTask)
    return loaded


def write(folder: Path, rows: list[object], name: str = "s.jsonl") -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def only(records: list[Record], problem: str) -> list[Record]:
    return [r for r in records if r.problem == problem]


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_the_rows_of_a_problem_are_its_draws_in_order(task: CodeTask, tmp_path: Path, name: str):
    rows = [ALL[0], "", {"task_id": "three/add", "completion": "    return 0\n"}, *ALL[1:]]
    records = read_samples(write(tmp_path, rows, name), task, cut=False)
    assert [r.key for r in records] == [
        Key("three/add", 0, 0),
        Key("three/add", 0, 1),
        Key("three/double", 0, 0),
        Key("three/last", 0, 0),
    ]
    assert [r.graded for r in only(records, "three/add")] == ["    return a + b", "    return 0"]


def test_a_solution_that_begins_with_the_prompt_is_stored_without_it(task: CodeTask, tmp_path: Path):
    solution = task.problems[0].prompt + RIGHT["three/add"]
    records = read_samples(write(tmp_path, [{"task_id": "three/add", "solution": solution}, *ALL[1:]]), task, cut=False)
    [record] = only(records, "three/add")
    assert (record.graded, record.whole, record.raw) == ("    return a + b", False, solution)
    assert task.program(record) == solution.rstrip()


def test_another_solution_is_a_whole_program(task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    solution = "import operator\n\nadd = operator.add\n\nprint(1)"
    path = write(tmp_path, [{"task_id": "three/add", "solution": solution}, *ALL[1:]])
    [record] = only(read_samples(path, task, cut=True), "three/add")
    assert (record.graded, record.whole) == (solution, True)
    assert task.program(record) == solution
    assert [str(g.verdict) for g in task.score([record], sandbox)] == ["passed"]


def test_a_completion_that_repeats_the_prompt_is_taken_as_it_is(task: CodeTask, tmp_path: Path):
    completion = task.problems[0].prompt + RIGHT["three/add"]
    path = write(tmp_path, [{"task_id": "three/add", "completion": completion}, *ALL[1:]])
    [record] = only(read_samples(path, task, cut=False), "three/add")
    assert record.graded == completion.rstrip()


def test_completions_are_cut_at_the_stop_strings_only_when_asked(task: CodeTask, tmp_path: Path):
    long = RIGHT["three/add"] + "\ndef more():\n    pass\n"
    path = write(tmp_path, [{"task_id": "three/add", "completion": long}, *ALL[1:]])
    assert only(read_samples(path, task, cut=False), "three/add")[0].graded == long.rstrip()
    assert only(read_samples(path, task, cut=True), "three/add")[0].graded == "    return a + b"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ALL, '{"task_id": '], r"s\.jsonl, line 4 is not valid JSON"),
        ([*ALL, []], r"line 4 lacks a task_id"),
        ([{"completion": "x"}], r"line 1 lacks a task_id"),
        ([{"task_id": 3, "completion": "x"}], r"line 1: task_id is the number 3; the ids of task three are texts"),
        (
            [{"task_id": "three/ad", "completion": "x"}],
            r"line 1: task three has no problem 'three/ad'; did you mean 'three/add'\?",
        ),
        ([{"task_id": "zzz", "completion": "x"}], r"no problem 'zzz'; its ids run from three/add to three/last"),
        (ALL[:1], r"has no sample for three/double \(2 of 3 problems are missing\); every problem needs one"),
        ([], r"s\.jsonl holds no samples"),
        (["", " "], r"s\.jsonl holds no samples"),
        ([{"task_id": "three/add"}], r"line 1 has neither completion nor solution"),
        ([{"task_id": "three/add", "completion": None}], r"line 1: completion is null; an answer without text"),
        ([{"task_id": "three/add", "solution": ["a"]}], r"line 1: solution must be one text; got list \(repeat the task_id"),
    ],
)
def test_bad_input_is_an_error_that_names_place_and_value(task: CodeTask, tmp_path: Path, rows: list[object], message: str):
    with pytest.raises(DataError, match=message):
        read_samples(write(tmp_path, rows), task, cut=False)


def test_a_file_that_cannot_be_read_is_named(task: CodeTask, tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot read the samples in .*nowhere\.jsonl"):
        read_samples(tmp_path / "nowhere.jsonl", task, cut=False)
    (tmp_path / "s.jsonl").write_bytes(b'{"task_id": "\xff"}')
    with pytest.raises(DataError, match=r"cannot read the samples in .*s\.jsonl"):
        read_samples(tmp_path / "s.jsonl", task, cut=False)


def test_a_damaged_gzip_file_is_named(task: CodeTask, tmp_path: Path):
    path = write(tmp_path, ALL * 20, "s.jsonl.gz")
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read the samples in .*s\.jsonl\.gz"):
        read_samples(path, task, cut=False)


def test_a_bad_file_leaves_no_run_folder(task: CodeTask, tmp_path: Path):
    path = write(tmp_path, ALL[:1])
    with pytest.raises(DataError):
        import_samples(path, task, tmp_path / "out", label="s", cut=False, sandbox="bwrap")
    assert not (tmp_path / "out").exists()


def test_equal_numbers_of_samples_are_n_and_are_measured(task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    path = write(tmp_path, [*ALL, *({**row, "completion": "    return None"} for row in ALL)])
    folder = import_samples(path, task, tmp_path / "out", label="s", cut=False, sandbox="bwrap")
    grade(folder, task, Lines(), sandbox=None, workers=1)
    found = folder.read_json("metrics.json")
    assert (folder.spec["n"], found["k"]) == (2, 2)
    assert found["values"]["pass@1"] == [0.5] * 3
    assert found["values"]["diversity_score[exact]"] == [1.0] * 3


def test_with_unequal_numbers_what_depends_on_n_is_missing_with_a_reason(
    task: CodeTask, tmp_path: Path, sandbox: InProcessJudge
):
    path = write(tmp_path, [*ALL, {"task_id": "three/add", "completion": "    return None"}])
    folder = import_samples(path, task, tmp_path / "out", label="s", cut=False, sandbox="bwrap")
    grade(folder, task, Lines(), sandbox=None, workers=1)
    found = folder.read_json("metrics.json")
    assert folder.spec["n"] is found["n"] is None
    assert found["values"]["pass@1"] == [0.5, 1.0, 1.0]
    assert found["k"] == 1  # the k that every problem allows
    assert found["estimates"]["vendi"]["value"] is None
    assert found["estimates"]["vendi"]["reason"]


def test_the_same_file_is_the_same_run_and_another_is_not(task: CodeTask, tmp_path: Path):
    def folder(rows: list[object]) -> Path:
        path = write(tmp_path, rows)
        return import_samples(path, task, tmp_path / "out", label="s", cut=False, sandbox="bwrap").path

    first = folder(list(ALL))
    assert folder(list(ALL)) == first
    assert folder([*ALL, ALL[0]]) != first
    assert len((first / "records.jsonl").read_text().splitlines()) == 3


def test_sampler_and_model_are_called_as_the_label_says(task: CodeTask, tmp_path: Path):
    folder = import_samples(write(tmp_path, list(ALL)), task, tmp_path / "out", label="mine", cut=True, sandbox="bwrap")
    assert folder.spec["sampler"]["name"] == folder.spec["model"]["name"] == "mine"
    assert folder.spec["sampler"]["cut"] is True
    assert folder.path.name.startswith("three-mine-")
