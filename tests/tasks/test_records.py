"""What a task makes of a completion keeps all that the completion says."""

from __future__ import annotations

import dataclasses

import pytest

from spa_bench.cards.task import TaskCard, load_task_card
from spa_bench.runs.job import load_task
from spa_bench.tasks.text import TextTask
from spa_bench.types import Completion, Key, Problem, Record


class Words(TextTask):
    """Every answer is right."""

    def answer(self, problem: Problem, text: str) -> str:
        return text

    def is_right(self, problem: Problem, answer: str) -> bool:
        return True


TASKS = {
    "code": lambda: load_task(load_task_card("mini-code")),
    "text": lambda: Words(TaskCard(name="w", description="words", kind="mine:build"), [Problem(id="one", prompt="1 =")]),
    "lm-eval": lambda: load_task(load_task_card("mini-nlu")),
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_record_has_every_field_of_its_completion(kind: str):
    task = TASKS[kind]()
    key = Key(task.problems[0].id, 1, 2)
    completion = Completion(
        key=key, text="    return 1", tokens=3, finish="length", seed=4, failure="", spent=5, whole=False, choice=6
    )
    record = task.record(completion)
    assert (record.key, record.raw, record.tokens, record.finish) == (key, "    return 1", 3, "length")
    assert (record.seed, record.spent, record.choice) == (4, 5, 6)
    failed = task.record(dataclasses.replace(completion, failure="no room", text="", choice=0))
    assert (failed.failure, failed.choice) == ("no room", 0)


def test_a_completion_survives_the_way_into_a_record_and_back():
    completion = Completion(
        key=Key("p", 1, 2), text="a b", tokens=3, finish="stop", seed=4, failure="none", spent=5, whole=False, choice=6
    )
    record = Record.of(completion, "a", whole=True)
    assert record.completion == completion
    assert (record.graded, record.whole) == ("a", True)
    assert {f.name for f in dataclasses.fields(Record)} == {"problem", "member", "draw", "raw", "graded"} | {
        f.name for f in dataclasses.fields(Completion) if f.name not in {"key", "text"}
    }
