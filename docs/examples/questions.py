"""A task of one's own: questions with one short answer each, right when the words are the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spa_bench.cards import TaskCard
from spa_bench.tasks.base import TaskKind
from spa_bench.tasks.code import read_rows
from spa_bench.tasks.text import TextTask
from spa_bench.types import Problem


@dataclass(frozen=True)
class QuestionOptions:
    """The card's [options]: checked when the card is read, and part of the run's spec."""

    case: bool = False  # whether Paris and paris are different answers


class Questions(TextTask):
    """The answer is the first line, without a full stop at its end."""

    def answer(self, problem: Problem, text: str) -> str:
        """What is compared, and what a majority votes on."""
        line = text.strip().split("\n")[0].strip(" .")
        return line if self.card.options_as(QuestionOptions).case else line.lower()

    def is_right(self, problem: Problem, answer: str) -> bool:
        """Whether it is the answer of the file."""
        return answer == self.answer(problem, problem.reference)


def build(card: TaskCard) -> Questions:
    """The task of `card`, its problems read from the card's file."""
    rows = [row for _, row, _ in read_rows(Path(card.file))]
    return Questions(
        card,
        [
            Problem(id=row["task_id"], prompt=f"Question: {row['question']}\nAnswer:", reference=f" {row['answer']}")
            for row in rows
        ],
    )


KIND = TaskKind(build=build, options=QuestionOptions)
