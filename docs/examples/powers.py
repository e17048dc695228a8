"""Problems of code made by a function instead of a file: one power a problem."""

from __future__ import annotations

from spa_bench.cards import TaskCard
from spa_bench.types import Problem


def problems(card: TaskCard) -> tuple[list[Problem], str]:
    """The problems, and where they were found."""
    return [power(exponent) for exponent in (2, 3, 4)], "made by powers.py"


def power(exponent: int) -> Problem:
    """Continue a function that raises x to that power."""
    return Problem(
        id=f"powers/{exponent}",
        prompt=f'def power(x):\n    """Return x to the power of {exponent}."""\n',
        reference=f"    return x**{exponent}\n",
        tests=f"def check(candidate):\n    for x in range(-3, 4):\n        assert candidate(x) == x**{exponent}\n",
        entry_point="power",
    )
