"""Samples of some problems of a task: `score --partial`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT
from spa_bench.cards.task import load_task_card
from spa_bench.compare.leaderboard.check import _faults as faults
from spa_bench.compare.leaderboard.results import from_runs
from spa_bench.compare.leaderboard.rows import build_rows
from spa_bench.errors import DataError
from spa_bench.runs.folder import RunFolder, problem_count
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import import_samples
from spa_bench.runs.job import load_task
from spa_bench.runs.measure import measure
from spa_bench.runs.verify import verify
from spa_bench.support.console import Reporter
from spa_bench.tasks.code import CodeTask

ALL = [{"task_id": name, "completion": text} for name, text in RIGHT.items()]


@pytest.fixture
def task(three: Path) -> CodeTask:
    loaded = load_task(load_task_card(str(three)))
    assert isinstance(loaded, CodeTask)
    return loaded


def scored(task: CodeTask, folder: Path, rows: list[dict[str, str]], *, partial: bool = True) -> RunFolder:
    folder.mkdir(exist_ok=True)
    file = folder / "s.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = import_samples(file, task, folder / "runs", label="mine", cut=False, partial=partial, sandbox="none")
    grade(run, task, Reporter(), sandbox="none", workers=1)
    return run


@pytest.fixture
def some(task: CodeTask, tmp_path: Path, sandbox: Any) -> RunFolder:
    return scored(task, tmp_path / "some", [{**ALL[0], "completion": "    return 0"}, *ALL[2:]])


def test_a_file_that_covers_some_problems_is_refused_with_the_option_that_takes_it(task: CodeTask, tmp_path: Path):
    with pytest.raises(DataError, match=r"\(1 of 3 problems are missing\); .* or --partial measures the 2 that are there$"):
        scored(task, tmp_path, [ALL[0], *ALL[2:]], partial=False)


def test_the_metrics_are_of_the_problems_that_are_there(some: RunFolder, task: CodeTask):
    content = some.metrics()
    assert content["problems"] == ["three/add", "three/last"]
    assert content["values"]["pass@1"] == [0.0, 1.0]
    assert content["estimates"]["pass@1"]["value"] == 0.5
    assert problem_count(some.spec) == 2
    assert verify(some, task) == []


def test_the_count_is_in_spec_table_and_result(some: RunFolder):
    assert some.spec["sampler"]["name"] == "mine (2 of 3 problems)"
    assert some.spec["sampler"]["partial"]["problems"] == 2
    results = from_runs([some])
    [row] = build_rows(results)
    assert row.label == "mine (2 of 3 problems)"
    assert row.title.endswith("2 of 3 problems")
    assert [fault for fault in faults(results[0]) if "sandbox" not in fault] == []


def test_a_partial_run_shares_no_row_and_no_table_with_others(some: RunFolder, task: CodeTask, tmp_path: Path):
    whole = scored(task, tmp_path / "whole", ALL)
    other = scored(task, tmp_path / "other", ALL[:2])
    assert "partial" not in whole.spec["sampler"]
    rows = build_rows(from_runs([some, whole, other]))
    assert len({row.result["group_hash"] for row in rows}) == 3
    assert len({row.table_key for row in rows}) == 3


def test_a_partial_run_that_lost_a_problem_is_not_whole(some: RunFolder, task: CodeTask):
    lines = (some.path / "records.jsonl").read_text().splitlines(keepends=True)
    (some.path / "records.jsonl").write_text(lines[0])
    assert any("there are samples of 1 problems, and the spec says 2, or other ones" in fault for fault in verify(some, task))
    with pytest.raises(DataError, match="the spec says 2, or other ones; run the same command again to finish the run"):
        measure(some, task)


def test_a_result_that_says_other_problems_than_its_spec_is_faulty(some: RunFolder):
    [result] = from_runs([some])
    changed = json.loads(json.dumps(result))
    changed["spec"]["sampler"]["partial"]["hash"] = "0" * 32
    assert any("there are samples of 2 problems, and the spec says 2, or other ones" in fault for fault in faults(changed))
    changed["spec"]["sampler"]["partial"]["problems"] = 3
    assert any("its spec says that it covers 3 of 3 problems" in fault for fault in faults(changed))


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [0, 2, 4, 1, 3, 5], [5, 4, 3, 2, 1, 0]])
def test_samples_in_any_order_are_whole(order: list[int], task: CodeTask, tmp_path: Path, sandbox: Any):
    rows = [{"task_id": name, "completion": text} for name in RIGHT for text in (RIGHT[name], "    return 0")]
    assert verify(scored(task, tmp_path, [rows[i] for i in order], partial=False), task) == []
