"""Sums of two numbers, made from a seed."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from spa_bench.cards import TaskCard
from spa_bench.tasks.base import TaskKind
from spa_bench.tasks.text import TextTask
from spa_bench.types import Problem


@dataclass(frozen=True)
class SumOptions:
    """The card's [options]."""

    problems: int = 20
    digits: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, number in (("problems", self.problems), ("digits", self.digits)):
            if number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")


class Sums(TextTask):
    """The answer is the first number of the text."""

    def answer(self, problem: Problem, text: str) -> str:
        """Its digits without leading zeros; nothing where there is no number."""
        number = re.search(r"-?\d+", text)
        return str(int(number[0])) if number else ""

    def is_right(self, problem: Problem, answer: str) -> bool:
        """Whether it is the sum."""
        return answer == problem.reference.strip()


def build(card: TaskCard) -> Sums:
    """The task of `card`; equal options give equal problems."""
    options = card.options_as(SumOptions)
    draw = random.Random(options.seed)
    problems = []
    for i in range(options.problems):
        a, b = (draw.randrange(10**options.digits) for _ in "ab")
        problems.append(Problem(id=f"sums/{i}", prompt=f"{a} + {b} =", reference=f" {a + b}"))
    return Sums(card, problems, found=f"made from seed {options.seed}")


KIND = TaskKind(build=build, options=SumOptions, card="sums.toml")
