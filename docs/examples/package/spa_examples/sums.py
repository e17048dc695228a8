"""Sums of two numbers, made from a seed."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from spa_bench.cards import TaskCard
from spa_bench.tasks.text import TextTask
from spa_bench.types import Problem

CARD = "sums.toml"


@dataclass(frozen=True)
class SumOptions:
    """The card's [options]."""

    problems: int = 20
    digits: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("problems", "digits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


OPTIONS = SumOptions


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
    options, draw = card.options, random.Random(card.options.seed)
    problems = []
    for i in range(options.problems):
        a, b = (draw.randrange(10**options.digits) for _ in "ab")
        problems.append(Problem(f"sums/{i}", f"{a} + {b} =", f" {a + b}"))
    return Sums(card, problems, found=f"made from seed {options.seed}")
