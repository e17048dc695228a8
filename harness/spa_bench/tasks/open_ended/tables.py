"""Files about answers that a user gives: the class of each answer, or its quality.

A row names its problem by `id` or `problem`, and its answer by the text (`answer`) or by `member` and `draw`. A text counts for
the answers with this very text, and for those that are exactly equivalent where the file has not their own. A row of
NoveltyBench's partitions.jsonl, with the lists `generations` and `partition`, gives the classes of all its answers.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from spa_bench.errors import DataError
from spa_bench.support.text import did_you_mean, one_line, shortened
from spa_bench.tasks.open_ended.asking import LEAST, MOST
from spa_bench.tasks.open_ended.partition import name_of
from spa_bench.tasks.open_ended.prompts import read_lines
from spa_bench.types import Record

Value = TypeVar("Value", str, float)
Named = tuple[str, object]  # (problem, an answer's text, or (member, draw))

REWARDS = (-7.71875, -6.28125, -6.0, -5.71875, -5.5, -5.0, -4.375, -3.4375, -2.046875)
"""NoveltyBench's thresholds on the reward of Skywork-Reward-Gemma-2-27B-v0.2: a reward above i of them has the score 1 + i."""


def score_of_reward(reward: float) -> float:
    """The score, 1 to 10, of a raw reward, as NoveltyBench's released code maps it."""
    return 1.0 + bisect.bisect_left(REWARDS, reward)


def read_classes(path: Path, known: Sequence[str]) -> dict[Named, str]:
    """What an answer is called -> its class. `known` are the ids of the task's problems.

    Raises DataError for a row of another shape, an unknown problem, and an answer with two classes.
    """
    return _table(path, known, "class", _classes)


def read_scores(path: Path, known: Sequence[str]) -> dict[Named, float]:
    """What an answer is called -> its quality, 1 to 10. Raises as read_classes, and for a score outside that range."""
    return _table(path, known, "score", _score)


def values_for(records: Sequence[Record], table: Mapping[Named, Value], path: Path, what: str) -> list[Value]:
    """The value of each record. Raises DataError where an answer has none, or two, by its text and by its place or by texts."""
    found: list[Value] = []
    missing: list[Record] = []
    alike = _alike(table)
    for record in records:
        by_place = table.get((record.problem, (record.member, record.draw)))
        by_text = table.get((record.problem, record.graded.strip()))
        equal = alike.get((record.problem, name_of(record.graded)), {})
        if by_text is None and (by_place is None or len(equal) == 1):
            by_text = _only(equal, record, path, what)
        if by_text is not None and by_place is not None and by_text != by_place:
            raise DataError(
                f"{path} contradicts itself: the answer of member {record.member}, draw {record.draw} to {record.problem} has "
                f"the {what} {by_place!r} by its place and {by_text!r} by its text; give each answer one"
            )
        value = by_place if by_place is not None else by_text
        if value is None:
            missing.append(record)
        else:
            found.append(value)
    if missing:
        first = missing[0]
        raise DataError(
            f"{path} has no {what} for {len(missing)} of {len(records)} answers; the first is of member {first.member}, draw "
            f"{first.draw} to {first.problem}: {one_line(first.graded, 60)!r}; add a row for each"
        )
    return found


def _alike(table: Mapping[Named, Value]) -> dict[tuple[str, str], dict[Value, str]]:
    """(problem, hash of a text) -> the values of texts that are exactly equivalent, each with the first text that has it."""
    found: dict[tuple[str, str], dict[Value, str]] = {}
    for (problem, name), value in table.items():
        if isinstance(name, str):
            found.setdefault((problem, name_of(name)), {}).setdefault(value, name)
    return found


def _only(values: Mapping[Value, str], record: Record, path: Path, what: str) -> Value | None:
    """The one value in `values`, or None where there is none. Raises DataError where there are several."""
    if len(values) > 1:
        (one, first), (other, second) = list(values.items())[:2]
        raise DataError(
            f"{path} has no row for the answer of member {record.member}, draw {record.draw} to {record.problem}, "
            f"{one_line(record.graded, 60)!r}, and to equal texts it gives the {what} {one!r} ({one_line(first, 30)!r}) and "
            f"{other!r} ({one_line(second, 30)!r}); add a row for it"
        )
    return next(iter(values), None)


def _table(
    path: Path, known: Sequence[str], what: str, read: Callable[[str, dict[str, Any]], Iterator[tuple[object, Value]]]
) -> dict[Named, Value]:
    table: dict[Named, Value] = {}
    problems = set(known)
    for place, row in read_lines(path, f"{what}es" if what == "class" else f"{what}s"):
        if not isinstance(row, dict):
            raise DataError(f"{place} is {json.dumps(row)[:60]}; it must be an object with id, answer and {what}")
        problem = row.get("problem", row.get("id"))
        if not isinstance(problem, str) or problem not in problems:
            raise DataError(f"{place}: the task has no problem {problem!r}{did_you_mean(str(problem), known)}")
        for name, value in read(place, row):
            before = table.setdefault((problem, name), value)
            if before != value:
                raise DataError(
                    f"{place} contradicts an earlier line: this answer to {problem} has the {what} {before!r} there and "
                    f"{value!r} here; give each answer one"
                )
    if not table:
        raise DataError(f"{path} is empty; a line is an object with id, answer and {what}")
    return table


def _classes(place: str, row: dict[str, Any]) -> Iterator[tuple[object, str]]:
    if "partition" in row:
        texts, classes = row.get("generations"), row["partition"]
        if not isinstance(texts, list) or not isinstance(classes, list) or len(texts) != len(classes):
            raise DataError(f"{place}: partition must have a class for each of generations")
        for text, number in zip(texts, classes, strict=True):
            yield _text_name(place, text), _class(place, number)
        return
    if "class" not in row:
        raise DataError(f"{place} lacks 'class'; a row has id, answer (or member and draw) and class")
    yield _name(place, row), _class(place, row["class"])


def _class(place: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{place}: class is {json.dumps(value)[:60]}; it must be a text or a whole number")
    return str(value)


def _score(place: str, row: dict[str, Any]) -> Iterator[tuple[object, float]]:
    key = "reward" if "reward" in row else "score"
    value = row.get(key)
    endless = isinstance(value, float) and not math.isfinite(value)  # a whole number may be too large to ask
    if isinstance(value, bool) or not isinstance(value, int | float) or endless:
        raise DataError(f"{place}: {key} is {json.dumps(value)[:60]}; it must be a number")
    if key == "score" and not LEAST <= value <= MOST:
        said = shortened(str(value), 60)
        raise DataError(
            f"{place}: score is {said}; a quality lies between {LEAST:g} and {MOST:g} (a raw reward is called reward)"
        )
    quality = score_of_reward(value) if key == "reward" else float(value)
    if row.get("score", quality) != quality:
        said = json.dumps(row["score"])[:60]
        raise DataError(f"{place}: score is {said} and reward {value} is a score of {quality:g}; give one of them")
    yield _name(place, row), quality


def _name(place: str, row: dict[str, Any]) -> object:
    if "answer" in row:
        return _text_name(place, row["answer"])
    member, draw = row.get("member", 0), row.get("draw")
    if type(member) is not int or type(draw) is not int:
        raise DataError(f"{place} names no answer; give its text as answer, or member and draw")
    return member, draw


def _text_name(place: str, text: object) -> str:
    if not isinstance(text, str):
        raise DataError(f"{place}: an answer is {json.dumps(text)[:60]}; it must be a text")
    return text.strip()
