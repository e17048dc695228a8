"""evalplus' sanitiser beside ours, on the same answers: in how many they differ, and pass@1 with each.

Only the answers in which they differ are graded twice. evalplus' sanitiser parses every run of an answer's lines, which takes
time with the square of its lines and with its length. So answers are compared as long as a fixed budget allows, and how many
were is said.
"""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from spa_bench.runs.folder import SANITISERS, RunFolder, from_elsewhere
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import task_card_of
from spa_bench.tasks.answer_text import parse
from spa_bench.tasks.base import Judge, Task
from spa_bench.types import Grade, Key, Record

_BENCHMARKS = frozenset({"humaneval", "humaneval-plus", "mbpp-plus"})  # on which evalplus' numbers are known
_BUDGET = 2_000_000_000  # lines squared × characters, summed over different answers: minutes where all lines are statements


def to_compare(folder: RunFolder) -> bool:
    """Whether the run is of a benchmark of evalplus', sanitised by ours, and evalplus is installed; and not compared yet."""
    task = folder.spec["task"]
    return (
        task["kind"] == "code"
        and task["sanitiser"] == "program"
        and task["problems"] in _BENCHMARKS
        and not from_elsewhere(folder.spec)
        and importlib.util.find_spec("evalplus") is not None
        and folder.read_json(SANITISERS) is None
    )


def compare_sanitisers(folder: RunFolder, task: Task, judge: Judge) -> None:
    """Write sanitisers.json: the answers in which evalplus' sanitiser gives another program, and pass@1 with each sanitiser.

    Programs are compared without layout and comments. All samples have grades.
    """
    other = load_task(replace(task_card_of(folder), sanitiser="evalplus"))
    mixture = folder.spec["sampler"].get("kind", "mixture") == "mixture"
    grades, records = folder.grades(), folder.record_log.rows()
    compared: list[Record] = []
    differ: list[Record] = []
    seen: set[tuple[str, str]] = set()
    cost = 0
    for record in records:
        if (answer := (record.problem, record.raw)) not in seen:
            cost += (record.raw.count("\n") + 1) ** 2 * len(record.raw)
            seen.add(answer)
        if cost > _BUDGET:
            break
        compared.append(record)
        if record.raw.strip() and not record.failure:
            theirs = other.record(replace(record.completion, whole=record.whole and not mixture))
            if _tree(other.program(theirs)) != _tree(task.program(record)):
                differ.append(theirs)
    found = {g.key: g for g in other.score(differ, judge, ())}
    ours = {r.key: grades[r.key] for r in compared}
    content = {
        "answers": len(records),
        "compared": len(compared),
        "differ": len(differ),
        "pass@1": {"program": _pass_at_1(ours), "evalplus": _pass_at_1({**ours, **found})},
        "verdicts": [_row(key, ours[key], found[key]) for key in ours if key in found],
    }
    folder.write_json(SANITISERS, content)


def _row(key: Key, mine: Grade, theirs: Grade) -> dict[str, object]:
    return {**key._asdict(), "program": str(mine.verdict), "evalplus": str(theirs.verdict)}


def _pass_at_1(grades: Mapping[Key, Grade]) -> float | None:
    """The mean over problems of the part of samples that pass."""
    each: dict[str, list[bool]] = {}
    for key, grade in grades.items():
        each.setdefault(key.problem, []).append(grade.verdict == "passed")
    means: Sequence[float] = [sum(passed) / len(passed) for passed in each.values()]
    return math.fsum(means) / len(means) if means else None


def _tree(program: str) -> str:
    """The program without its layout, or with it where Python cannot parse it or it is nested too deep to be written."""
    tree = parse(program)
    try:
        return program if tree is None else ast.dump(tree)
    except RecursionError:  # a chain of some hundred `elif` is enough
        return program
