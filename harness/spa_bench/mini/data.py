"""The code world's data sets, drawn from seeds: 120 problems, a skewed instruction set and the queries.

`python -m spa_bench.mini.data DIR` writes them as files for reading. The package draws them when it needs them, and a test
pins their hashes.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from spa_bench.cards.task import TaskCard
from spa_bench.mini.families import FAMILIES
from spa_bench.mini.styles import STYLES
from spa_bench.mini.world import Task, draw_family, draw_pipeline, draw_style, draw_training_task, is_held_out, run
from spa_bench.types import Example, Problem

MODEL = Path(__file__).resolve().parent / "model"  # the embedded base model
LEVELS = {1: 36, 2: 44, 3: 32, 4: 8}  # problems of mini-code by number of steps; level 1 counts six families
PAIRS = 768
QUERIES = 48
SKEW = {"nested-loop": 0.6}  # share of the plain loop among the pipelines: real instruction data is skewed too


@lru_cache(maxsize=1)
def _tasks() -> tuple[Task, ...]:
    """The tasks of mini-code: level 1 of seen sequences, levels 2 and 3 of held-out ones, level 4 of four steps."""
    rng = random.Random("mini-code-1")
    tasks = [draw_family(rng, family) for family in rng.sample(FAMILIES, 6)]
    for level, count in LEVELS.items():
        wanted = count - 6 if level == 1 else count
        known = {t.identity for t in tasks}
        while wanted:
            task = draw_pipeline(rng, level=level)
            fresh = task.identity not in known and (level in (1, 4) or is_held_out(task.key))
            if fresh and (checks := _checks(task, rng)) and len(set(checks.values())) >= 3:
                tasks.append(task)
                known.add(task.identity)
                wanted -= 1
    return tuple(tasks)


def _checks(task: Task, rng: random.Random) -> dict[str, str]:
    """Up to ten different calls with their results, as source text."""
    body = task.solution(task.styles()[0], random.Random(0))
    results: dict[str, str] = {}
    for _ in range(40):
        arguments = task.inputs(rng)
        call = ", ".join(map(repr, arguments))
        results[call] = repr(run(task, body, copy.deepcopy(arguments)))
        if len(results) == 10:
            break
    return results


def problems(card: TaskCard) -> tuple[list[Problem], str]:
    """mini-code in HumanEval's shape: 120 problems, 6 to 10 assertions each."""
    return list(_problems()), "embedded, drawn from a seed"


@lru_cache(maxsize=1)
def _problems() -> tuple[Problem, ...]:
    drawn = []
    for number, task in enumerate(_tasks()):
        rng = random.Random(f"mini-code-tests-{number}")
        lines = [f"    assert candidate({call}) == {result}\n" for call, result in _checks(task, rng).items()]
        reference = task.solution(draw_style(task, rng, _weights(task)), rng)
        level = max(task.level, 1)
        tests = "def check(candidate):\n" + "".join(lines)
        drawn.append(
            Problem(
                id=f"mini-code/{number}",
                prompt=task.prompt,
                reference=reference,
                tests=tests,
                entry_point=task.function,
                tags=(f"level-{level}",),
            )
        )
    return tuple(drawn)


def _weights(task: Task) -> dict[str, float]:
    """Style weights that give the plain loop its share of SKEW, whatever other styles the task has."""
    others = len([s for s in task.styles() if s not in SKEW])
    return {name: share / (1 - share) * max(others, 1) for name, share in SKEW.items()}


@lru_cache(maxsize=1)
def forbidden() -> frozenset[tuple[str, ...]]:
    """The identities of the tasks of mini-code, which no training pair has."""
    return frozenset(task.identity for task in _tasks())


@lru_cache(maxsize=1)
def _instructions() -> tuple[tuple[Example, str], ...]:
    rng = random.Random("mini-instruct-1")
    pairs: list[tuple[Example, str]] = []
    while len(pairs) < PAIRS:
        task = draw_training_task(rng)
        if task.identity not in forbidden():
            style = draw_style(task, rng, _weights(task))
            pairs.append((Example(task.prompt, task.solution(style, rng)), style))
    return tuple(pairs)


def instructions() -> list[Example]:
    """768 pairs, none of them a problem of mini-code; six in ten of the pipelines are written as a plain loop."""
    return [example for example, _ in _instructions()]


def styles() -> list[str]:
    """The style of each pair of instructions(), to inspect a partition with; nothing in the harness trains on it."""
    return [style for _, style in _instructions()]


def queries() -> list[Example]:
    """48 pairs that stand for a user's wishes: pipelines of one to three steps, with all styles equally often."""
    rng = random.Random("mini-queries-1")
    names = list(STYLES)
    pairs: list[Example] = []
    while len(pairs) < QUERIES:
        task = draw_pipeline(rng, level=rng.choice((1, 2, 3)))
        style = names[len(pairs) % len(names)]
        if style in task.styles() and task.identity not in forbidden() and not is_held_out(task.key):
            pairs.append(Example(task.prompt, task.solution(style, rng)))
    return pairs


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    card = TaskCard(name="mini-code", description="")
    rows: list[dict[str, object]] = [
        {
            "task_id": p.id,
            "prompt": p.prompt,
            "entry_point": p.entry_point,
            "canonical_solution": p.reference,
            "test": p.tests,
            "tags": p.tags,
        }
        for p in problems(card)[0]
    ]
    _lines(folder / "mini-code.jsonl", rows)
    makers: dict[str, Callable[[], list[Example]]] = {"instructions": instructions, "queries": queries}
    for name, make in makers.items():
        _lines(folder / f"{name}.jsonl", [{"prompt": e.prompt, "completion": e.completion} for e in make()])


def _lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1] if len(sys.argv) > 1 else "mini-data"))
