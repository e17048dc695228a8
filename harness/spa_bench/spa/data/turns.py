"""The turns of a conversation, from whatever rows of instruction data write them as, and the answer that is trained on.

| a turn is written as                                        | where it is seen                        |
|-------------------------------------------------------------|-----------------------------------------|
| `from` and `value`, or `role` and `content`                 | ShareGPT, OpenAI, TRL, Axolotl          |
| `content` as a list of {"type": "text", "text": ...}        | OpenAI, multimodal sets without pictures|
| `tool_calls` or `function_call` of an assistant             | OpenAI                                  |
| `human` and `assistant`, or `input` and `output`, both turns| Firefly, XTuner                         |
| texts alone, the user's first                               | LIMA, UltraChat                         |
| [question, answer]                                          | the `history` of LLaMA-Factory          |

A template knows three roles. What a tool gave back is a turn of the user, because the model reads it; a call is a turn of the
assistant, as a JSON object with `name` and `arguments`, a line for each call.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeGuard

from spa_bench.errors import DataError
from spa_bench.support.text import one_line

_USERS = ("user", "human", "prompter")
_ASSISTANTS = ("assistant", "gpt", "model", "chatgpt", "bot", "ai", "chatbot")
_SYSTEMS = ("system", "developer")
_CALLS = ("function_call", "tool_call")
_RESULTS = ("tool", "function", "observation", "tool_response", "function_response", "tool_result", "ipython")
_ROLES: dict[str, Role] = {
    **dict.fromkeys(_USERS, "user"),
    **dict.fromkeys(_ASSISTANTS, "assistant"),
    **dict.fromkeys(_SYSTEMS, "system"),
    **dict.fromkeys(_CALLS, "call"),
    **dict.fromkeys(_RESULTS, "result"),
}
_SPEAKERS = ("human", "ai", "system")  # types of LangChain's turns
_ROWS = re.compile(r"\}\n ?\{")  # between the objects of an array, as numpy writes it
_TEXTS = ("text", "input_text", "output_text")  # types of parts that are text
_ASKED = ("human", "user", "input", "question", "prompt", "query", "instruction")  # names of a turn's text, and of its answer's
_ANSWERED = ("assistant", "gpt", "output", "answer", "response", "completion", "bot")
_MARKS = ("weight", "train", "training", "loss")  # of turns: OpenAI's, Axolotl's, ms-swift's
_NEVER = frozenset({"0", "0.0", "false"})
_SAID = ("value", "content", "text", "parts")
_KNOWN = frozenset({"from", "role", "type", "system", "tool_calls", "function_call", "id", "name", "tool_call_id"}).union(
    _SAID, _ASKED, _ANSWERED, _MARKS
)

Role = Literal["user", "assistant", "system", "call", "result"]


class Unusable(DataError):
    """A row of a known shape that cannot be trained on; `why` names the fault in a few words that rows share."""

    def __init__(self, message: str, why: str):
        super().__init__(message)
        self.why = why


class NotTrained(DataError):
    """A row that its own marks keep out of training; `why` names the mark in a few words that rows share."""

    def __init__(self, place: str, why: str):
        super().__init__(f"{place}: the row is {why}; it is not trained on")
        self.why = why


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: Role
    text: str
    trained: bool = True  # of an assistant: whether the row wants it trained on (OpenAI's weight, Axolotl's train)


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Whether `value` is a list or tuple; text is none."""
    return not isinstance(value, str | bytes) and isinstance(value, Sequence)


def turns_of(value: object, role: Role, place: str, name: str) -> list[Turn]:
    """The turns of a column: a text is one turn of `role`, and so are parts; else it is a turn or a list of turns.

    Raises DataError for another value.
    """
    if isinstance(value, str):
        return [Turn(role, value)]
    if isinstance(value, Mapping) and is_list(value.get("messages")):
        value = value["messages"]
    if isinstance(value, Mapping) and _columnar(value):
        value = [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]
    said = [value] if isinstance(value, Mapping) else value
    if not is_list(said):
        raise DataError(f"{place}: column {name!r} must be text or a list of turns; got {type(value).__name__}")
    if any(map(_is_part, said)) or (said and all(isinstance(part, str) for part in said)):
        return [Turn(role, text_of(said, f"{place}, column {name!r}"))]
    return [turn for i, one in enumerate(said, 1) for turn in _turns(one, f"{place}, turn {i} of {name!r}")]


def talk_of(value: object, place: str, name: str) -> list[Turn]:
    """The turns of a column that is a conversation. Raises DataError for anything but turns."""
    if isinstance(value, str):
        if (unpacked := _unpacked(value)) is None:
            raise DataError(f"{place}: column {name!r} must be a list of turns; got str")
        value = unpacked
    if is_list(value) and value and all(isinstance(turn, str) for turn in value):
        return [Turn("assistant" if i % 2 else "user", str(text)) for i, text in enumerate(value)]
    if is_list(value) and any(isinstance(turn, str) for turn in value):
        number = next(i for i, turn in enumerate(value, 1) if isinstance(turn, str))
        raise DataError(f"{place}, turn {number} of {name!r}: expected from and value, or role and content; got str")
    return turns_of(value, "user", place, name)


def is_talk(value: object) -> bool:
    """Whether a column that may hold a conversation does: a list, JSON of a list, or lists side by side."""
    if isinstance(value, str):
        return _unpacked(value) is not None
    return is_list(value) or (isinstance(value, Mapping) and _columnar(value))


def history_of(value: object, place: str, name: str) -> list[Turn]:
    """The earlier turns in a column `history`: pairs of question and answer, or turns; empty where there are none.

    Raises DataError for another value, and Unusable for a pair that is not two texts.
    """
    if value is None or value == [] or (isinstance(value, str) and value.strip() in {"", "None", "null"}):
        return []
    if isinstance(value, str) and (unpacked := _json_list(value)) is not None:
        value = unpacked
    if not is_list(value):
        raise DataError(f"{place}: column {name!r} must be a list of pairs or of turns; got {type(value).__name__}")
    turns: list[Turn] = []
    for number, pair in enumerate(value, 1):
        where = f"{place}, turn {number} of {name!r}"
        if pair == []:  # of nulls
            continue
        if is_list(pair):
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise Unusable(f"{where}: expected a question and an answer, two texts; remove the row", f"a broken {name}")
            turns += [Turn("user", str(pair[0])), Turn("assistant", str(pair[1]))]
        else:
            turns += _turns(pair, where)
    return turns


def text_of(value: object, place: str) -> str:
    """A text, or the texts of a list of parts joined. Raises DataError, and Unusable for parts of another type."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and _is_part(value):
        value = [value]
    if not is_list(value):
        raise DataError(f"{place} must be text; got {type(value).__name__}")
    if value and all(isinstance(part, str) for part in value):  # several answers, as often as one in pieces
        raise DataError(f"{place} must be text; got a list of {len(value)} texts")
    texts = []
    for number, part in enumerate(value, 1):
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, Mapping):
            raise DataError(f"{place} must be text; got list of {type(part).__name__}")
        kind = part.get("type", "text")
        if kind in _TEXTS and set(part) == {"type"}:  # its text is null
            continue
        if kind not in _TEXTS or not isinstance(part.get("text"), str):
            raise Unusable(
                f"{place}: part {number} is of type {kind!r}; only text can be read: remove the row", "parts that are no text"
            )
        texts.append(str(part["text"]))
    return "".join(texts)


def fields_not_read(value: object) -> list[str]:
    """The fields of a column's turns that hold something and are not read, such as `reasoning_content`."""
    if isinstance(value, str):
        return []
    turns = [value] if isinstance(value, Mapping) else value if is_list(value) else []
    names = {str(name): found for turn in turns if isinstance(turn, Mapping) for name, found in turn.items() if found}
    return [name for name in names if name.lower() not in _KNOWN]


def as_text(value: object) -> str:
    """Descriptions or arguments as text: a text as it is, anything else as JSON, in which a date of a table is a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def without_nulls(value: Mapping[str, object]) -> dict[str, object]:
    """`value` without the nulls in it, at any depth, and without objects that hold nothing else; NaN is pandas' null."""
    return {name: one for name, found in value.items() if (one := _pruned(found)) is not None}


def turns_in(text: str) -> Sequence[object] | None:
    """The turns that a text holds as JSON, or as Python writes lists, where each has a known role and says something."""
    found = _unpacked(text)
    return found if found is not None and all(map(_speaks, found)) else None


def _speaks(turn: object) -> bool:
    if not isinstance(turn, Mapping) or not any(key in turn for key in (*_SAID, "tool_calls", "function_call")):
        return False
    role = turn.get("from", turn.get("role"))
    return isinstance(role, str) and role.strip().lower() in _ROLES


def behind(before: list[Turn], said: list[Turn]) -> list[Turn]:
    """The turns `said` behind those `before` them, which `said` may repeat; a system's turn counts for no repetition."""
    asked, spoken = ([turn for turn in turns if turn.role != "system"] for turns in (before, said))
    if not asked or len(spoken) == len(asked) or spoken[: len(asked)] != asked:
        return [*before, *said]
    systems = [] if len(spoken) < len(said) else [turn for turn in before if turn.role == "system"]
    return [*systems, *said]


def joined(turns: Sequence[Turn]) -> list[Turn]:
    """The turns in the three roles of a template: a call joins the answer that it ends, and results that follow one another."""
    mended: list[Turn] = []
    before: Role | None = None
    for turn in turns:
        if turn.role == "call" and before in {"assistant", "call"}:
            last = mended.pop()
            text = f"{last.text}\n{turn.text}" if last.text.strip() else turn.text
            mended.append(Turn("assistant", text, last.trained and turn.trained))
        elif turn.role == "result" and before == "result":
            mended.append(Turn("user", f"{mended.pop().text}\n\n{turn.text}"))
        else:
            roles: dict[Role, Role] = {"call": "assistant", "result": "user"}
            mended.append(Turn(roles.get(turn.role, turn.role), turn.text, turn.trained))
        before = turn.role
    return mended


def answered(turns: Sequence[Turn], place: str, name: str) -> tuple[list[Turn], str]:
    """(the turns from the first of the user on that lead to the last answer, that answer).

    Raises NotTrained where no answer is to be trained on, and Unusable where no answer follows a turn of the user, or one of
    the two is empty, or an answer follows an answer.
    """
    mended = joined(turns)
    answers = [i for i, turn in enumerate(mended) if turn.role == "assistant"]
    wanted = [i for i in answers if mended[i].trained]
    if answers and not wanted:
        raise NotTrained(place, "without an answer that is trained on (weight 0, or train = false)")
    last = wanted[-1] if wanted else 0
    before = mended[:last]
    first = next((i for i, turn in enumerate(before) if turn.role == "user"), None)
    roles = ", ".join(turn.role for turn in mended) or "none"
    if first is None or before[-1].role != "user":
        raise Unusable(
            f"{place}: column {name!r} holds no answer that follows a user's turn (the roles are {roles}); remove the row",
            "no answer that follows a user's turn",
        )
    before = before[first:]
    if any(a.role == b.role == "assistant" for a, b in pairwise(before)):
        raise Unusable(
            f"{place}: column {name!r} holds an answer that follows an answer (the roles are {roles}); remove the row",
            "an answer that follows an answer",
        )
    for what, text in (("answer", mended[last].text), ("user's turn before it", before[-1].text)):
        if not text.strip():
            raise Unusable(f"{place}: the last {what} of {name!r} is empty; remove the row", f"an empty {what}")
    return before, mended[last].text


def _turns(turn: object, place: str) -> list[Turn]:
    """The turn, or both turns where question and answer are written together."""
    if not isinstance(turn, Mapping):
        raise DataError(f"{place}: expected from and value, or role and content; got {type(turn).__name__}")
    role = turn.get("from", turn.get("role", turn.get("type") if turn.get("type") in _SPEAKERS else None))
    if role is None and (both := _both(turn, place)):
        return both
    kind = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if kind is None:
        raise DataError(f"{place}: the role is {role!r}; it can be {', '.join(_ROLES)}; remove the row or rename the role")
    return [Turn(kind, _said(turn, kind, place), _is_trained(turn))]


def _both(turn: Mapping[str, object], place: str) -> list[Turn]:
    """The turns of an object whose names say who speaks: the system's, the user's and the assistant's, of those that it has."""
    said = {str(name).lower(): value for name, value in turn.items()}
    names = {"system": ("system",), "user": _ASKED, "assistant": _ANSWERED}
    there = {role: [name for name in some if name in said] for role, some in names.items()}
    for some in there.values():
        if len(more := [name for name in some if said[name]]) > 1:
            raise DataError(f"{place}: {' and '.join(map(repr, more))} can both be what one side said; leave one of them")
        some.sort(key=lambda name: not said[name])
    found = {role: next(iter(some), None) for role, some in there.items()}
    if not (found["user"] or found["assistant"]):
        return []
    roles: tuple[Role, ...] = ("system", "user", "assistant")
    return [
        Turn(role, text_of(said[name], place), role != "assistant" or _is_trained(turn))
        for role in roles
        if (name := found[role]) and (role != "system" or said[name])
    ]


def _said(turn: Mapping[str, object], role: Role, place: str) -> str:
    calls = _calls(turn, place)
    value = next((turn[key] for key in _SAID if key in turn), None)
    if value is None and calls:
        return calls
    if role in {"call", "result"} and value is not None and not (is_list(value) and all(map(_is_part, value))):
        return as_text(value)
    if value is None:
        raise Unusable(f"{place}: nothing was said; remove the row", "a turn without text")
    text = text_of(value, f"{place}: what was said")
    return "\n".join(part for part in (text, calls) if part.strip()) if calls else text


def _calls(turn: Mapping[str, object], place: str) -> str:
    """The calls of an assistant's turn, a JSON object a line; empty without any."""
    lines = []
    for call in (*_listed(turn.get("tool_calls"), place), *_listed(turn.get("function_call"), place)):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise DataError(f"{place}: a call must be an object with name and arguments; got {call!r}")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            with suppress(ValueError):  # the model's own text, valid or not
                arguments = json.loads(arguments)
        lines.append(json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False, default=str))
    return "\n".join(lines)


def _listed(calls: object, place: str) -> Sequence[object]:
    """The calls of a column, which may be one call, none, or JSON of these. Raises DataError for other text."""
    if isinstance(calls, str):
        try:
            calls = _pruned(json.loads(calls)) if calls.strip() not in {"", "None"} else None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{place}: its calls are the text {one_line(calls, 60)!r}; write them as objects or JSON"
            ) from error
    return calls if is_list(calls) else [calls] if calls else []


def _is_trained(turn: Mapping[str, object]) -> bool:
    marks = [turn[key] for key in _MARKS if key in turn]
    marks = [mark.strip().lower() in _NEVER if isinstance(mark, str) else mark in (False, 0) for mark in marks]
    return not any(marks)


def _is_part(value: object) -> bool:
    return (
        isinstance(value, Mapping) and "type" in value and not {"role", "from"} & set(value) and value["type"] not in _SPEAKERS
    )


def _columnar(value: Mapping[str, object]) -> bool:
    """Whether `value` has the lists of a list's fields side by side, as the library datasets gives a sequence of structs."""
    lists = [one for one in value.values() if is_list(one)]
    return len(lists) == len(value) >= 2 and len({len(one) for one in lists}) == 1 and bool({"from", "role"} & set(value))


def _unpacked(text: str) -> Sequence[object] | None:
    """The turns of a conversation that a column holds as JSON text; None for any other text."""
    found = _json_list(text)
    if not found or not all(isinstance(turn, Mapping) and {"from", "role"} & set(turn) for turn in found):
        return None
    return found


def _json_list(text: str) -> list[object] | None:
    """The list that a text holds, as JSON or as Python (or numpy) writes one with objects; None for any other text."""
    text = text.strip()
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if not text.startswith(("[{'", '[{"', "[['", '[["')):
            return None
        try:
            found = ast.literal_eval(_ROWS.sub("},{", text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    found = _pruned(found)
    return found if isinstance(found, list) else None


def _pruned(value: object) -> object:
    """`value` without nulls at any depth; None for a null, for NaN, and for an object that holds nothing else."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return without_nulls(value) or (None if value else value)
    if is_list(value):
        return [one for found in value if (one := _pruned(found)) is not None]
    return None if isinstance(value, float) and math.isnan(value) else value
