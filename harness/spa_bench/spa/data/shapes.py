"""The usual shapes of rows of instruction data, and what a row of each shape becomes.

| shape                | columns                                                                          |
|----------------------|----------------------------------------------------------------------------------|
| a pair               | prompt, completion                                                               |
| ShareGPT, messages   | conversations of from and value, or messages of role and content                 |
| OSS-Instruct         | problem, solution (with lang, seed and others that are not read)                  |
| Alpaca, Platypus     | instruction, output, and input where there is one                                |
| Dolly, Evol-Instruct | instruction, response, and context or input where there is one                   |
| question and answer  | question, answer (GSM8K); question, response (OpenOrca); query, response (MetaMath) |

A pair is text and its continuation and stays as it is. Every other shape is an instruction, which a template turns into text.
The last answer of a conversation is the completion, and the turns before it are the prompt. Turns after it are dropped, and so
are answers before the first user turn, because their questions are missing. A column `system` or `system_prompt` comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from spa_bench.cards.training import ColumnsCard
from spa_bench.errors import DataError
from spa_bench.types import Example

_SHAPES = (
    ("problem", "solution"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
)
_PROMPTS = ("prompt", *dict.fromkeys(prompt for prompt, _ in _SHAPES))
_COMPLETIONS = ("completion", *dict.fromkeys(completion for _, completion in _SHAPES))
_INPUTS = ("input", "context")  # of an instruction
_TALKS = ("messages", "conversations")
_SYSTEMS = ("system", "system_prompt")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant"}
_ROLES |= {"chatgpt": "assistant", "system": "system"}

Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Instruction:
    """An instruction with its answer, before a template turns it into text."""

    turns: Turns  # (role, text), role system, user or assistant; the user has the last one
    completion: str
    given: str = ""  # an input that belongs to the last turn


Row = Example | Instruction


def recognise(row: object, place: str, columns: ColumnsCard | None = None) -> Row:
    """The pair or instruction of `row`, by the named `columns`, else by its shape.

    Raises DataError that begins with `place`, for an unknown shape, a missing column, and empty or missing text.
    """
    recognised = _recognised(row, place, columns)
    texts = (
        (recognised.prompt,) if isinstance(recognised, Example) else (recognised.given, *(text for _, text in recognised.turns))
    )
    try:
        "".join((*texts, recognised.completion)).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: half of a surrogate pair ({error.object[error.start]!a}) is no text; remove it") from error
    return recognised


def _recognised(row: object, place: str, columns: ColumnsCard | None) -> Row:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: expected an object, got {type(row).__name__}")
    if columns is not None and columns != ColumnsCard():
        return _mapped(row, place, columns)
    # in a table every row has all columns: a column that is null does not belong to the row's shape
    for seen in ({name: value for name, value in row.items() if value is not None}, row):
        by_shape = _by_shape(seen, place)
        if by_shape is not None:
            return by_shape
    raise DataError(
        f"{place}: no shape that is known; it has {_columns(row)}; name two of them with data.columns.prompt and "
        "data.columns.completion, or one with data.columns.messages (docs/data.md has the shapes)"
    )


def _by_shape(row: Mapping[str, object], place: str) -> Row | None:
    if "prompt" in row and "completion" in row:
        return Example(_text(row, "prompt", place, empty=True), _text(row, "completion", place))
    for name in _TALKS:
        if isinstance(row.get(name), Sequence) and not isinstance(row[name], str):
            return _talk(row, name, place)
    for prompt, completion in _SHAPES:
        if prompt in row and completion in row:
            return _single(row, place, prompt, completion, _first(row, _INPUTS) if prompt == "instruction" else None)
    return None


def has_columns(row: object, columns: ColumnsCard) -> bool:
    """Whether `row` has all named columns."""
    wanted = [getattr(columns, f.name) for f in fields(columns)]
    return isinstance(row, Mapping) and all(name in row for name in wanted if name)


def _mapped(row: Mapping[str, object], place: str, columns: ColumnsCard) -> Instruction:
    for field in fields(columns):
        name = getattr(columns, field.name)
        if name and name not in row:
            raise DataError(f"{place}: no column {name!r}, which data.columns.{field.name} names; it has {_columns(row)}")
    if columns.messages:
        return _talk(row, columns.messages, place)
    prompt = columns.prompt or _first(row, _PROMPTS)
    completion = columns.completion or _first(row, [c for c in _COMPLETIONS if c != prompt])
    for what, column in (("prompt", prompt), ("completion", completion)):
        if column is None:
            raise DataError(f"{place}: which column is the {what}? Name it with data.columns.{what}; it has {_columns(row)}")
    assert prompt is not None
    assert completion is not None
    inferred = _first(row, _INPUTS) if prompt == "instruction" else None
    return _single(row, place, prompt, completion, columns.input or inferred)


def _single(row: Mapping[str, object], place: str, prompt: str, completion: str, given: str | None) -> Instruction:
    more = "" if given is None or row[given] is None else _text(row, given, place, empty=True)
    instruction = _text(row, prompt, place, empty=bool(more.strip()))
    return Instruction(
        (*_system(row, place), ("user", instruction)), _text(row, completion, place), more if more.strip() else ""
    )


def _talk(row: Mapping[str, object], name: str, place: str) -> Instruction:
    """The instruction of a conversation: its last answer, and the turns before it."""
    said = row[name]
    if not isinstance(said, Sequence) or isinstance(said, str):
        raise DataError(f"{place}: column {name!r} must be a list of turns; got {type(said).__name__}")
    turns = [_turn(turn, f"{place}, turn {i} of {name!r}") for i, turn in enumerate(said, 1)]
    last = max((i for i, (role, _) in enumerate(turns) if role == "assistant"), default=0)
    before = turns[:last]
    first = next((i for i, (role, _) in enumerate(before) if role == "user"), None)
    if first is None or before[-1][0] != "user":
        raise DataError(
            f"{place}: column {name!r} holds no answer that follows a user's turn (the roles are "
            f"{', '.join(role for role, _ in turns) or 'none'}); remove the row"
        )
    systems = tuple(turn for turn in before[:first] if turn[0] == "system") or _system(row, place)
    for what, text in (("answer", turns[last][1]), ("user's turn before it", before[-1][1])):
        if not text.strip():
            raise DataError(f"{place}: the last {what} of {name!r} is empty; remove the row")
    return Instruction((*systems, *before[first:]), turns[last][1])


def _turn(turn: object, place: str) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise DataError(f"{place}: expected from and value, or role and content; got {type(turn).__name__}")
    role, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if role not in _ROLES:
        raise DataError(f"{place}: the role is {role!r}; it can be {', '.join(_ROLES)}; remove the row or rename the role")
    if not isinstance(text, str):
        raise DataError(f"{place}: what was said must be text; got {type(text).__name__}")
    return _ROLES[str(role)], text


def _system(row: Mapping[str, object], place: str) -> Turns:
    name = next((n for n in _SYSTEMS if row.get(n)), None)
    return () if name is None else (("system", _text(row, name, place, empty=True)),)


def _text(row: Mapping[str, object], name: str, place: str, *, empty: bool = False) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise DataError(f"{place}: column {name!r} must be text; got {type(value).__name__}")
    if not empty and not value.strip():
        raise DataError(f"{place}: column {name!r} is empty; give it a text or remove the row")
    return value


def _first(row: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _columns(row: Mapping[str, object]) -> str:
    return f"the columns {', '.join(map(str, row))}" if row else "no columns"
