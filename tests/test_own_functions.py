"""Functions of a user's own tasks and metrics: they are checked by signature at load, and what they raise is one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spa_bench.cards.guard import judged, recording
from spa_bench.cards.task import TaskCard
from spa_bench.errors import UsageError
from spa_bench.metrics.suite import Metric, Samples
from spa_bench.runs.job import load_task
from spa_bench.runs.own_metrics import load_metrics, values_of
from spa_bench.types import Completion, Grade, Key, Record

SAMPLES = Samples(problem="a", texts=["x"], programs=None, passed=[True], failed=[False], members=1, k=1)
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
        ("name='m', missing=None", "its missing is None; it must be a text"),
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


def problem_of(change: str) -> str:
    return OLD.replace('Problem(id="a", prompt="x")', f"Problem(**{{**dict(id='a', prompt='x'), {change}}})")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("'id': 1", "id of the problem 1 is 1; it must be a text"),
        ("'prompt': None", "prompt of the problem 'a' is None; it must be a text"),
        ("'reference': None", "reference of the problem 'a' is None; it must be a text"),
        ("'tags': ['easy']", r"tags of the problem 'a' is \['easy'\]; it must be a tuple of texts"),
        ("'tags': 'easy'", "tags of the problem 'a' is 'easy'; it must be a tuple of texts"),
    ],
)
def test_a_problem_of_other_types_is_refused_when_its_task_is_loaded(
    change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    card = own_task(tmp_path, monkeypatch, problem_of(change), f"problem_{abs(hash(change))}")
    with pytest.raises(UsageError, match=message):
        load_task(card)


def test_what_a_task_asks_and_records_is_checked_where_it_is_its_own():
    def record(completion: Completion) -> Record:
        raise ValueError("no")

    def nothing(completion: Completion) -> Any:
        return None

    given = Completion(key=Key("a", 0, 0), text="x", tokens=1, finish="stop", seed=0)
    with pytest.raises(
        UsageError, match=r"task kind 'mine:load': record\(\) failed: ValueError: no \(test_own_functions\.py, line"
    ):
        recording("mine:load", record)(given)
    with pytest.raises(UsageError, match=r"task kind 'mine:load': record\(\) gave None; it gives spa_bench\.types\.Record"):
        recording("mine:load", nothing)(given)
    assert recording("code", record) is record


def test_an_error_names_the_line_of_the_user_and_no_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that takes other arguments fails where we call it, and what calls us wrongly fails within ours."""
    text = OLD.replace("def load(card)", "def load()") + (
        "\ndef words(card):\n    from spa_bench.tasks.text import TextTask\n    return TextTask(card)\n"
        "\ndef inside(card):\n    from spa_bench.support.text import before_stop\n    return before_stop(3, ['x'])\n"
    )
    card = own_task(tmp_path, monkeypatch, text, "called_wrongly")
    with pytest.raises(UsageError, match=r"failed: TypeError: load\(\) takes 0 positional arguments but 1 was given$"):
        load_task(card)
    lines = text.splitlines()
    for name, call in (("words", "    return TextTask(card)"), ("inside", "    return before_stop(3, ['x'])")):
        where = rf"failed: .* \(called_wrongly\.py, line {lines.index(call) + 1}\)$"
        with pytest.raises(UsageError, match=where):
            load_task(replace(card, kind=f"called_wrongly:{name}"))


@pytest.mark.parametrize("value", ["np.float32(0.5)", "np.array(0.5)", "np.bool_(True)", "np.int64(1)", "Fraction(1, 2)"])
def test_a_metric_may_give_numbers_of_other_types(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (
        "from fractions import Fraction\nimport numpy as np\nfrom spa_bench.metrics.suite import Metric\n"
        f"M = Metric(name='m', description='', compute=lambda samples: {value})\n"
    )
    name = f"number_{abs(hash(value))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    [metric] = load_metrics([f"{name}:M"])
    assert values_of(metric, [SAMPLES]) in ([0.5], [1.0])


def test_a_value_outside_its_bounds_is_an_error():
    metric = Metric(name="m", description="", compute=lambda samples: 5.0, bounds=(0.0, 1.0))
    with pytest.raises(UsageError, match=r"metric 'm' is 5\.0 on problem a, outside its bounds \(0\.0, 1\.0\)"):
        values_of(metric, [SAMPLES])
