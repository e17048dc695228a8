"""Riddles with more than one right answer."""

from __future__ import annotations

from spa_bench.cards import TaskCard
from spa_bench.tasks.text import TextTask
from spa_bench.types import Problem

RIDDLES = {
    "clock": ("What has hands but cannot clap?", ["a clock", "a watch"]),
    "towel": ("What gets wetter the more it dries?", ["a towel"]),
}


class Riddles(TextTask):
    """Right when it has the words of one of the answers, which are in the problem's `tags`."""

    def is_right(self, problem: Problem, answer: str) -> bool:
        """Whether one of them is in the text."""
        return any(right in answer.lower() for right in problem.tags)


def build(card: TaskCard) -> Riddles:
    """The task, its problems from the table above."""
    problems = [
        Problem(id=f"riddles/{name}", prompt=f"{question} The answer is", reference=f" {right[0]}", tags=tuple(right))
        for name, (question, right) in RIDDLES.items()
    ]
    return Riddles(card, problems, found="in the package spa-examples")
