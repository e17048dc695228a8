"""The columns of rows of instruction data: their usual names, whether they hold anything, and what their cells are read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from spa_bench.errors import DataError
from spa_bench.spa.data.turns import NotTrained, is_list, is_talk, turns_in, without_nulls

PAIRS = (
    ("problem", "solution"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("input", "output"),
    ("inputs", "targets"),
    ("source", "target"),
    ("user", "assistant"),
)
"""An instruction and its answer."""
OFTEN_OTHERS = ("source", "user")  # columns of PAIRS that say where a row is from, or whose it is, where it has another prompt
PROMPTS = ("prompt", "instruction", "problem", "question", "query")
COMPLETIONS = ("completion", "solution", "output", "response", "answer")
ANSWERS = (*COMPLETIONS, "target")
INPUTS = ("input", "context")  # that belong to an instruction or a question
TALKS = ("messages", "conversations", "conversation")
_TEXTS_ALONE = ("dialogue", "dialog", "chat")  # may be texts without names of who speaks
_MORE_TALKS = (*_TEXTS_ALONE, "contents", "items", "data")
CHOICES = ("choices", "options", "endings")  # of which an answer may be the number
SYSTEMS = ("system", "system_prompt", "system_message", "systemInstruction", "system_instruction", "meta_instruction")
TOOLS = ("tools", "functions")
HISTORY = "history"
PREFERENCES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
)
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
_LABELS = ("label", "kto_tag")
_TRUTH = {"true": True, "false": False, "1": 1, "0": 0, "1.0": 1, "0.0": 0}
_WORDS = {
    **dict.fromkeys(("good", "desirable", "chosen", "preferred", "yes"), True),
    **dict.fromkeys(("bad", "undesirable", "rejected", "dispreferred", "no"), False),
}
_EMPTY = frozenset({"", "[]", "{}", "null", "None"})


def filled(value: object) -> bool:
    """Whether there is anything in a column: text, or a list or object that is not empty; "[]" is an empty list."""
    return bool(value) and not (isinstance(value, str) and value.strip() in _EMPTY)


def blank(value: object) -> bool:
    """Whether a column that holds text or turns has none."""
    return value is None or (isinstance(value, str) and not value.strip()) or (not isinstance(value, str) and value in ([], {}))


def first(row: Mapping[str, object], names: Sequence[str]) -> str | None:
    """The first of `names` that is a column of `row`."""
    return next((name for name in names if name in row), None)


def listed(row: Mapping[str, object]) -> str:
    """The columns of a row, for a message."""
    return f"the columns {', '.join(map(str, row))}" if row else "no columns"


def cells(row: Mapping[str, object]) -> dict[str, object]:
    """`row` without its nulls and NaN, with turns where it holds JSON of them; an answer that is an integer is its text.

    An answer alone that is JSON of turns stays text, since the prompt may ask for that.
    """
    full = without_nulls(row)
    choice = any(filled(full.get(name)) for name in CHOICES)  # an answer that is a number is the number of one
    full |= {name: str(full[name]) for name in (*INPUTS, *(() if choice else ANSWERS)) if type(full.get(name)) is int}
    full |= {name: said["parts"] for name in SYSTEMS if isinstance(said := full.get(name), Mapping) and "parts" in said}
    asked = {name: turns for name in PROMPTS if (turns := _turns(full.get(name)))}
    if all(blank(full.get(name)) for name in PROMPTS):  # else an input is text for the prompt, JSON or not
        asked |= {name: turns for name in INPUTS if (turns := _turns(full.get(name)))}
    answers = {name: turns for name in ANSWERS if asked and (turns := _turns(full.get(name)))}
    for names in PREFERENCES:
        both = {name: turns for name in names if (turns := _turns(full.get(name)))}
        answers |= both if asked or len(both) == len(names) else {}
    return {**full, **asked, **answers}


def _turns(value: object) -> Sequence[object] | None:
    return turns_in(value) if isinstance(value, str) else None


def other_talk(row: Mapping[str, object]) -> str | None:
    """The column of a conversation in a row of no usual shape.

    Texts alone are one in columns of such a name, and in `data` where nothing but an id is beside it.
    """
    for name in _MORE_TALKS:
        value = row.get(name)
        if value and is_talk(value):
            alone = is_list(value) and not any(isinstance(turn, Mapping) for turn in value)
            if not alone or name in _TEXTS_ALONE or {"id", "data"}.issuperset(row):  # UltraChat has no other columns
                return name
    return None


def in_lower_case(row: Mapping[str, object]) -> dict[str, str]:
    """Names as they are usually written -> those of `row`, where they differ and it has nothing there (question: Question)."""
    return {new: names[0] for new, names in _others(tuple(row)).items() if row.get(new) is None and len(names) == 1}


@lru_cache(maxsize=64)  # the rows of a file have the same names
def _others(names: tuple[str, ...]) -> dict[str, list[str]]:
    others: dict[str, list[str]] = {}
    for name in names:
        if (usual := str(name).strip().lower().replace(" ", "_")) != name:
            others.setdefault(usual, []).append(name)
    return others


def check_label(row: Mapping[str, object], place: str, labels: str) -> list[str]:
    """The columns of labels that were read; `labels` is data.labels.

    Raises NotTrained for a bad label, DataError for one that may be a class, or that data.labels = "kto" does not know.
    """
    if labels == "ignore":
        return []
    read = []
    for name in _LABELS:
        column = name if name in row else next((given for new, given in in_lower_case(row).items() if new == name), name)
        value = row.get(column)
        if value is None:
            continue
        known = _known(value)
        kto = labels == "kto" or name == "kto_tag"
        if kto and known is None:
            raise DataError(f"{place}: {column} is {value!r}; for KTO it is true or false, or --set data.labels=ignore")
        if not kto and known is not None and not isinstance(_plain(value), bool):
            raise DataError(
                f"{place}: {column} is {value}: bad and good answers (KTO), or classes? Say it with data.labels=kto or "
                "data.labels=ignore"
            )
        if known is not None:
            read.append(column)
            if not known:
                raise NotTrained(place, "labelled bad")
    return read


def _plain(value: object) -> object:
    """A label without the marks of a text: "False" is False."""
    return _TRUTH.get(value.strip().lower(), value.strip().lower()) if isinstance(value, str) else value


def _known(value: object) -> bool | None:
    """Whether a label says that an answer is good; None where it says neither."""
    plain = _plain(value)
    if isinstance(plain, str):
        return _WORDS.get(plain)
    return bool(plain) if isinstance(plain, bool | int | float) and plain in (0, 1) else None
