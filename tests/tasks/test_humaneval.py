"""HumanEval and the ways to find it."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spa_bench.cards.task import load_task_card
from spa_bench.errors import DataError
from spa_bench.grading import Grader
from spa_bench.runs.job import load_task
from spa_bench.sandbox import choose
from spa_bench.tasks import evalplus
from spa_bench.tasks.code import CodeTask, read_problems
from spa_bench.tasks.data_folder import data_folder
from spa_bench.types import Record, Verdict

CARD = load_task_card("humaneval")
WAYS = ("SPA_BENCH_DATA", "HUMANEVAL_OVERRIDE_PATH", "evalplus")


@pytest.fixture
def file(data: Path) -> Path:
    return data / "humaneval" / "HumanEval.jsonl.gz"


@pytest.fixture
def no_evalplus(monkeypatch: pytest.MonkeyPatch) -> None:
    """evalplus cannot be imported."""
    for name in [n for n in sys.modules if n == "evalplus" or n.startswith("evalplus.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "evalplus", None)


def test_the_override_variable_leads_to_the_file(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(file))
    monkeypatch.setenv("SPA_BENCH_DATA", str(tmp_path))  # comes second
    task = load_task(CARD)
    assert len(task.problems) == 164
    assert task.found == f"{file} (by HUMANEVAL_OVERRIDE_PATH)"


def test_the_data_folder_leads_to_the_file(file: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    task = load_task(CARD)
    assert [task.problems[0].id, task.problems[-1].id] == ["HumanEval/0", "HumanEval/163"]
    assert task.found == f"{file} (by SPA_BENCH_DATA)"


def test_openai_s_file_and_evalplus_file_ask_and_test_the_same(data: Path, file: Path):
    """HumanEval/115 is the one prompt that evalplus changed; its references are other solutions."""
    ours = [evalplus._well_formed(p) for p in read_problems(file)]
    theirs = [evalplus._well_formed(p) for p in read_problems(data / "humanevalplus" / "HumanEvalPlus.jsonl.gz")]
    assert [replace(p, reference="") for p in ours] == [replace(p, reference="") for p in theirs]


def test_evalplus_own_download_leads_to_the_file(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    from evalplus.data import humaneval

    cached = tmp_path / "cached.jsonl.gz"
    shutil.copy(file, cached)

    def ready() -> str:
        print("Downloading dataset")
        return str(cached)

    monkeypatch.setattr(humaneval, "_ready_human_eval_plus_path", ready)
    task = load_task(CARD)
    assert len(task.problems) == 164
    assert task.found == f"{cached} (by evalplus)"
    assert capsys.readouterr().out == ""  # stdout is for results


def test_where_evalplus_cannot_download_the_error_names_all_three_ways(monkeypatch: pytest.MonkeyPatch):
    from evalplus.data import humaneval

    def refuse() -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(humaneval, "_ready_human_eval_plus_path", refuse)
    with pytest.raises(DataError, match="no route to host") as error:
        load_task(CARD)
    assert all(way in str(error.value) for way in WAYS)


@pytest.mark.usefixtures("no_evalplus")
def test_without_evalplus_the_error_names_all_three_ways_and_the_pip_command():
    with pytest.raises(DataError) as error:
        load_task(CARD)
    message = str(error.value)
    assert all(way in message for way in WAYS)
    assert "pip install 'spa-bench[evalplus]'" in message
    assert "\n" not in message


@pytest.mark.usefixtures("no_evalplus")
def test_a_data_folder_without_humaneval_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SPA_BENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"SPA_BENCH_DATA \({tmp_path}\) holds no humaneval/HumanEval\.jsonl\.gz"):
        load_task(CARD)


def test_variables_that_lead_nowhere_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SPA_BENCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"SPA_BENCH_DATA is '.*nowhere', which is no folder"):
        load_task(CARD)
    monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"HUMANEVAL_OVERRIDE_PATH leads to .*gone, which is no file"):
        load_task(CARD)


def test_the_places_are_looked_up_when_asked_and_not_when_imported(data: Path, monkeypatch: pytest.MonkeyPatch):
    assert data_folder() is None
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    assert data_folder() == data


def test_all_canonical_solutions_pass(data: Path, bwrap: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    task = load_task(CARD)
    assert isinstance(task, CodeTask)
    records = [
        Record(problem=p.id, member=0, draw=0, raw=p.reference, graded=task.cut(p.reference), finish="stop", tokens=1, seed=0)
        for p in task.problems
    ]
    grades = list(task.score(records, Grader(sandbox=choose(bwrap), cache=tmp_path, limits=task.limits)))
    assert len(grades) == 164
    assert [(g.problem, g.message) for g in grades if g.verdict != Verdict.PASSED] == []
