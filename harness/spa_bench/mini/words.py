"""One task family of the code world as a target of synthesis: pipelines over words, some to aim at and others to measure with.

None is a problem of mini-code, and no task is in both halves.
"""

from __future__ import annotations

import random
from functools import lru_cache

from spa_bench.mini.data import forbidden
from spa_bench.mini.world import Task, draw_style, draw_training_task
from spa_bench.types import Example

FAMILY = "str"  # the element of the pipelines
HALF = 128  # pairs to aim at, and as many to measure with


@lru_cache(maxsize=1)
def _pairs() -> tuple[Example, ...]:
    rng = random.Random("mini-words-1")
    tasks: dict[tuple[str, ...], Task] = {}
    while len(tasks) < 2 * HALF:
        task = draw_training_task(rng)
        if task.element == FAMILY and task.identity not in forbidden():
            tasks.setdefault(task.identity, task)
    return tuple(Example(task.prompt, task.solution(draw_style(task, rng), rng)) for task in tasks.values())


def instructions() -> list[Example]:
    """128 pairs of different tasks, the targets."""
    return list(_pairs()[:HALF])


def queries() -> list[Example]:
    """128 pairs of other tasks of the family, which are held out."""
    return list(_pairs()[HALF:])
