"""Reads answers with stated probabilities that stand in JSON, or in Python's literals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from spa_bench.samplers.asking.fences import is_program
from spa_bench.samplers.asking.loose_json import complete_texts, value_at
from spa_bench.samplers.asking.stated_numbers import Raw, are_probabilities

_TEXTS = ("text", "response", "answer", "solution", "code", "program", "completion", "content")
_NUMBERS = ("probability", "prob", "p", "likelihood", "confidence", "probabilities", "probs", "weights")
_ALONE = re.compile(r"(?:[^\s{\[<:][^\n{\[<]*:[ \t]*\n\s*)?(?:(?:`{3,}|~{3,})[^\n]*\n\s*)?(?=[{\[])")
_PLACE = re.compile(r"\{|^[ \t]*\[", re.MULTILINE)
_BROKEN_LIST = re.compile(r"^[ \t]*(?=\[\s*[\"'])", re.MULTILINE)
_HOLDS_ANSWERS = re.compile(rf"[{{\[](?=.*[\"'](?:{'|'.join((*_TEXTS, *_NUMBERS))})s?[\"']\s*:)", re.DOTALL)
_MOST_TRIES = 500  # places where a value may begin and does not: each try may read to the end of the reply
_DEEPEST = 4


def is_json(text: str) -> bool:
    """Whether a reply is JSON from its beginning, behind a fence or a line that ends with a colon."""
    return bool(_ALONE.match(text.lstrip()))


def objects(text: str, finished: bool, program: bool) -> list[Raw]:
    """Answers in JSON objects: in those that state a probability, or in a reply that is JSON from its beginning.

    What holds a list of answers is passed through, so that a list that breaks off still has its whole answers. In a reply that
    is JSON, lists of texts are answers, and so are objects of answers and their numbers.
    """
    alone = is_json(text)
    found = [raw for value in _values(text, alone) for raw in _answers(value, alone, program)]
    if alone and not found and (broken := _BROKEN_LIST.search(text)) and not _ends(text, broken.end()):
        found = [Raw(one, "") for one in complete_texts(text[broken.end() :]) if _may_be(one, program)]
    return found if alone or any(raw.said for raw in found) else []


def is_broken(text: str) -> bool:
    """Whether a text is an object or a list of answers that breaks off."""
    text = text.strip()
    if not _HOLDS_ANSWERS.match(text):
        return False
    return not _ends(text, 0)


def _ends(text: str, place: int) -> bool:
    """Whether a value that begins at `place` comes to its end."""
    try:
        value_at(text, place)
    except ValueError:
        return False
    return True


def _values(text: str, alone: bool) -> Iterator[object]:
    """The values that begin with a brace, or in a reply that is JSON with a bracket at the beginning of a line."""
    place, tries = 0, 0
    while tries < _MOST_TRIES and (opening := _PLACE.search(text, place)):
        place = opening.end()
        if opening[0] != "{" and not alone:
            continue
        try:
            value, place = value_at(text, place - 1)
        except ValueError:
            tries += 1
        else:
            yield value


def _answers(value: object, alone: bool, program: bool, deep: int = 0) -> Iterator[Raw]:
    """The answers in a value: an object with a text, or those in the values that others hold."""
    if deep > _DEEPEST:
        return
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and _is_number(value[1]):
            yield Raw(value[0], str(value[1]))
        elif value and all(isinstance(one, str) for one in value):
            yield from (Raw(one, "") for one in value if alone and _may_be(one, program))
        else:
            for item in value:
                yield from _answers(item, alone, program, deep + 1)
    elif isinstance(value, dict):
        keys = {str(key).strip().lower(): one for key, one in value.items()}
        own = list(_own(keys)) or (list(_by_answer(value, program)) if alone else [])
        yield from own
        for inner in () if own else value.values():
            yield from _answers(inner, alone, program, deep + 1)


def _own(keys: Mapping[str, object]) -> Iterator[Raw]:
    """The answer of an object that has a text, or those of one that has a list of texts and a list of numbers."""
    numbers = [keys[name] for name in _NUMBERS if name in keys]
    number = "" if not numbers or isinstance(numbers[0], bool | list | dict | None) else str(numbers[0])
    for name in _TEXTS:
        said = keys.get(name)
        if number and _are_texts(said):
            said = "\n".join(said)
        if isinstance(said, str | int | float) and not isinstance(said, bool):
            yield Raw(str(said), number)
            return
    texts = [one for name, one in keys.items() if isinstance(one, str) and name not in _NUMBERS]
    if number and len(texts) == 1:
        yield Raw(texts[0], number)
        return
    lists = [one for name, one in keys.items() if name not in _NUMBERS and _are_texts(one)]
    beside = [one for one in numbers if isinstance(one, list)]
    if len(lists) == len(beside) == 1 and len(lists[0]) == len(beside[0]):
        yield from (Raw(text, str(one)) for text, one in zip(lists[0], beside[0], strict=True))


def _by_answer(value: Mapping[object, object], program: bool) -> Iterator[Raw]:
    """The answers of an object that has them for keys, with probabilities that sum to 100 if above 1; or behind numbers."""
    texts = [one for key, one in value.items() if isinstance(one, str) and str(key)[-1:].isdigit()]
    if texts and len(texts) == len(value) and all(_may_be(one, program) for one in texts):
        yield from (Raw(one, "") for one in texts)
        return
    if not value or any(str(key).strip().lower() in _NUMBERS or not _may_be(str(key), program) for key in value):
        return
    said = [str(one) for one in value.values() if isinstance(one, str) or _is_number(one)]
    if len(said) == len(value) and are_probabilities(said):
        yield from (Raw(str(key), one) for key, one in zip(value, said, strict=True))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _may_be(text: str, program: bool) -> bool:
    return is_program(text) if program else any(c.isalnum() for c in text)
