"""What the readers of samples share: the answers that they find, and which problem a row is of."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from spa_bench.errors import DataError
from spa_bench.support.text import did_you_mean
from spa_bench.tasks.base import TextsTask
from spa_bench.types import Problem


@dataclass(frozen=True)
class GivenAnswer:
    """One text for one problem."""

    place: str
    problem: Problem
    text: str
    # completion: continues the prompt; solution: a whole program, that may begin with the prompt; chat: a reply, prose included
    kind: Literal["completion", "solution", "chat"]


@dataclass(frozen=True)
class Found:
    """The answers of a file in its order, with what the reader should be told."""

    answers: list[GivenAnswer]
    notes: tuple[str, ...] = ()


def did_you_mean_id(name: str, known: Mapping[str, Problem]) -> str:
    """A close problem id, or the first and the last one."""
    hint = did_you_mean(name, known)
    ids = list(known)
    return hint if "did you mean" in hint else f"; its ids run from {ids[0]} to {ids[-1]}"


def one_text(value: object, place: str, what: str) -> str:
    """`value`, where it is a text. Raises DataError."""
    if value is None:
        raise DataError(
            f'{place}: {what} is null; an answer without text is "" and counts as failed, and a row that was never '
            "answered is left out (--partial)"
        )
    if not isinstance(value, str):
        raise DataError(f"{place}: {what} must be one text; got {type(value).__name__} (repeat the task_id for more samples)")
    return value


def problem_called(place: str, name: object, said: Sequence[object], task: TextsTask) -> Problem:
    """The problem with the id `name`; for a number the one whose id ends in it, where `said` shows that it is the same."""
    known = {p.id: p for p in task.problems}
    if isinstance(name, int):
        ending = [p for p in task.problems if p.id.rpartition("/")[2] == str(name)]
        if len(ending) != 1:
            raise DataError(f"{place}: the id is the number {name}, and {len(ending)} problems of task {task.name} end in it")
        return fitting(place, f"id {name}", ending[0], said, task)
    if not isinstance(name, str) or name not in known:
        raise DataError(f"{place}: task {task.name} has no problem {name!r}{did_you_mean_id(str(name), known)}")
    return known[name]


def fitting(place: str, what: str, problem: Problem, said: Sequence[object], task: TextsTask) -> Problem:
    """`problem`, where its function, or else its prompt, is in `said`: a number alone may be of another task or order."""
    wanted = problem.entry_point or task.question(problem).strip()
    if not names(json.dumps(said, ensure_ascii=False), json.dumps(wanted, ensure_ascii=False)[1:-1]):
        raise DataError(f"{place}: {what} would be {problem.id} of task {task.name}, but the question there is another")
    return problem


def names(text: str, name: str) -> bool:
    """Whether `name` is in a text, as Python reads names."""
    return name in text or unicodedata.normalize("NFKC", name) in unicodedata.normalize("NFKC", text)


def mapping(value: object) -> Mapping[str, object]:
    """`value`, where it is an object, else one without fields."""
    return value if isinstance(value, dict) else {}
