"""Functions of a user's own tasks and metrics: they are checked by signature at load, and what they raise is one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spa_bench.cards.guard import judged
from spa_bench.cards.task import TaskCard
from spa_bench.errors import UsageError
from spa_bench.runs.job import load_task
from spa_bench.runs.own_metrics import load_metrics
from spa_bench.types import Grade

OLD = """
from spa_bench.sandbox import Limits
from spa_bench.tasks.base import TaskDefaults
from spa_bench.types import Grade, Problem, Verdict

class Task(TaskDefaults):
    name, version, found, limits, packages, runs_code = "own", "1", "here", Limits(), (), False
    problems = (Problem(id="a", prompt="x"),)

    def describe(self):
        return {"name": "own", "kind": "own_task:load", "version": "1", "problems_hash": "h", "problems_n": 1}

    def prompts(self, limit):
        return []

    def behave(self, records, judge, choices):
        return iter(())

    def record(self, completion):
        return completion

    def program(self, record):
        return record.graded

    def score(self, records, judge, choices):
        raise TypeError

def load(card):
    return Task()
"""


def own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str) -> TaskCard:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return TaskCard(name="own", description="", kind=f"{name}:load", version="1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("records, judge, choices", "records, judge"),
            r"score\(records, judge\) is called with \(records, judge, choices\): too many",
        ),
        (
            ("self, record)", "self)"),
            r"program\(\) is called with \(record\): too many",
        ),
    ],
)
def test_a_method_of_another_signature_is_refused_when_the_task_is_loaded(
    change: tuple[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    card = own_task(tmp_path, monkeypatch, OLD.replace(*change), f"old_{len(change[0])}")
    with pytest.raises(UsageError, match=message):
        load_task(card)


def _failing(error: BaseException) -> Iterator[Grade]:
    raise error
    yield


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ZeroDivisionError("by zero"),
            r"score\(\) failed: ZeroDivisionError: by zero \(.*, line \d+\) \(what is done is",
        ),
        (SystemExit("two\nlines"), r"score\(\) failed: SystemExit: two lines \("),
    ],
    ids=["exception", "exit"],
)
def test_a_score_that_fails_is_one_line_that_names_it(error: BaseException, message: str):
    with pytest.raises(UsageError, match=message):
        list(judged("own_task:load", "score", lambda: _failing(error), Grade))


def test_a_score_that_gives_something_else_is_one_line():
    given: list[Any] = [3]
    with pytest.raises(UsageError, match=r"score\(\) gave 3; it gives spa_bench\.types\.Grade, one a sample"):
        list(judged("own_task:load", "score", lambda: given, Grade))


def test_a_metric_that_takes_no_samples_is_refused_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = "from spa_bench.metrics.suite import Metric\nM = Metric(name='m', description='', compute=lambda: 1.0)\n"
    (tmp_path / "no_samples.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"--metric no_samples:M: its compute\(\) is called with \(samples\): too many"):
        load_metrics(["no_samples:M"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("name=3", "its name is 3; it stands in tables"),
        ("name='m', bounds=(0, None)", r"its bounds are \(0, None\); give two numbers, the least and the most"),
        ("name='m', bounds=(1.0, 0.0)", r"its bounds are \(1\.0, 0\.0\)"),
        ("name='m', bounds=0.5", r"its bounds are 0\.5"),
        ("name='m', alias='short'", "its alias is 'short'; short names are of spa-bench's own metrics alone"),
    ],
)
def test_what_a_metric_says_of_itself_is_checked_when_it_is_loaded(
    given: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = f"from spa_bench.metrics.suite import Metric\nM = Metric(description='', compute=lambda samples: 1.0, {given})\n"
    name = f"said_{abs(hash(given))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=message):
        load_metrics([f"{name}:M"])
