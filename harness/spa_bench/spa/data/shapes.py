"""The usual shapes of rows of instruction data, and what a row of each shape becomes.

| shape                | columns                                                                               |
|----------------------|---------------------------------------------------------------------------------------|
| preference           | chosen and rejected (DPO): the chosen answer, after the prompt or the turns before it  |
| a pair               | prompt, completion; as lists of turns they are a conversation (TRL)                   |
| ShareGPT, messages   | messages, conversations or conversation: turns, see `turns`                           |
| OSS-Instruct         | problem, solution (with lang, seed and others that are not read)                      |
| Alpaca, Platypus     | instruction, output, and input where there is one                                     |
| Dolly, Evol-Instruct | instruction, response, and context or input where there is one                        |
| question and answer  | question or query, with answer or response; prompt, with response or answer; and input, output |
| others               | inputs, targets; source, target; user, assistant; any other two of the names above    |

A pair is text and its continuation and stays as it is. Every other shape is an instruction, which a template turns into text.
The last answer of a conversation is the completion, and the turns before it are the prompt. Turns after it are dropped, and so
are answers before the first user turn, because their questions are missing. `history` holds earlier turns; `system` or
`system_prompt` comes first, and the descriptions in `tools` follow it.

A null counts as absent, at any depth. A row that a label calls bad (KTO) is not trained on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from spa_bench.cards.training import ColumnsCard
from spa_bench.errors import DataError
from spa_bench.spa.data.columns import (
    ANSWERS,
    CHOICES,
    COMPLETIONS,
    HISTORY,
    INPUTS,
    MEDIA,
    OFTEN_OTHERS,
    PAIRS,
    PREFERENCES,
    PROMPTS,
    SYSTEMS,
    TALKS,
    TOOLS,
    blank,
    cells,
    check_label,
    filled,
    first,
    in_lower_case,
    listed,
    other_talk,
)
from spa_bench.spa.data.turns import (
    NotTrained,
    Turn,
    Unusable,
    answered,
    as_text,
    behind,
    history_of,
    is_list,
    is_talk,
    joined,
    talk_of,
    text_of,
    turns_of,
)
from spa_bench.types import Example

_PAIRS = (*PAIRS, ("prompt", "completion"))
_TRANSCRIPT = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")  # of Anthropic's HH-RLHF

Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Instruction:
    """An instruction with its answer, before a template turns it into text."""

    turns: Turns  # (role, text), role system, user or assistant; the user has the last one
    completion: str
    given: str = ""  # an input that belongs to the last turn


Row = Example | Instruction


@dataclass(frozen=True)
class Recognised:
    """A row, and how it was read."""

    row: Row
    shape: str  # rows of this shape, in words
    read: tuple[str, ...]  # the columns that were read


def recognise(row: object, place: str, columns: ColumnsCard | None = None) -> Row:
    """The pair or instruction of `row`, by the named `columns`, else by its shape.

    Raises DataError that begins with `place`, for an unknown shape, a missing column, and empty or missing text.
    """
    return recognised(row, place, columns).row


def recognised(row: object, place: str, columns: ColumnsCard | None = None, labels: str = "auto") -> Recognised:
    """As `recognise`, with the columns that were read. `labels` is data.labels: auto, kto or ignore.

    Raises NotTrained for a row that its label calls bad, Unusable for one of a known shape that cannot be trained on (empty
    text, no answer, pictures), and DataError for any other fault.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: expected an object, got {type(row).__name__}")
    full = cells(row)
    marks = check_label(full, place, labels)
    readers = [(_Reader(full, row, place, columns), dict[str, str]())]
    if columns in (None, ColumnsCard()) and (usual := in_lower_case(row)):  # Question, Answer
        own = set(usual.values())
        raw = {name: value for name, value in row.items() if name not in own} | {n: row[given] for n, given in usual.items()}
        readers.append((_Reader(cells(raw), raw, place, None), usual))
    tried = ((reader.recognised(empty=empty), usual) for empty in (False, True) for reader, usual in readers)
    found, usual = next(((one, usual) for one, usual in tried if one is not None), (None, {}))
    if found is None:
        raise DataError(
            f"{place}: no shape that is known; it has {listed(row)}; name two of them with data.columns.prompt and "
            "data.columns.completion, or one with data.columns.messages (docs/how-to/data.md has the shapes)"
        )
    one = found.row
    texts = (one.prompt,) if isinstance(one, Example) else (one.given, *(text for _, text in one.turns))
    try:
        "".join((*texts, one.completion)).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: half of a surrogate pair ({error.object[error.start]!a}) is no text; remove it") from error
    return replace(found, read=(*(usual.get(name, name) for name in found.read), *marks))


def has_columns(row: object, columns: ColumnsCard) -> bool:
    """Whether `row` has all named columns."""
    wanted = [getattr(columns, f.name) for f in fields(columns)]
    return isinstance(row, Mapping) and all(name in row for name in wanted if name)


class _Reader:
    """One row while it is read: `row` without nulls, `raw` as it came, and the columns that were read of it."""

    def __init__(self, row: Mapping[str, object], raw: Mapping[str, object], place: str, columns: ColumnsCard | None):
        self.row, self.raw, self.place = row, raw, place
        self.columns = columns if columns != ColumnsCard() else None
        self.read: list[str] = []

    def recognised(self, *, empty: bool) -> Recognised | None:
        """The row, and how it was read; None where no shape fits. `empty`: also by columns of which all hold nothing."""
        for name in MEDIA:
            if self.row.get(name):
                raise Unusable(
                    f"{self.place}: column {name!r} holds what is no text, and only text can be read; remove the row",
                    "pictures, sound or films",
                )
        if self.columns is not None:
            found: tuple[str, Row] | None = ("columns that the card names", self._mapped(self.columns))
        else:
            found = self._by_shape(empty=empty)
        return found and Recognised(found[1], found[0], tuple(name for name in self.row if name in self.read))

    def _by_shape(self, *, empty: bool) -> tuple[str, Row] | None:
        """(rows of this shape, the row); None where no shape fits."""
        if found := self._of_usual_shape(empty=empty):
            return found
        if empty:
            if name := first(self.raw, [name for name in TALKS if name not in self.row]):
                raise Unusable(f"{self.place}: column {name!r} is null; remove the row", f"an empty column {name!r}")
            return None
        if found := self._other_pair():
            return found
        name = other_talk(self.row)
        return None if name is None else ("conversations", self._conversation(name))

    def _of_usual_shape(self, *, empty: bool) -> tuple[str, Row] | None:
        """The row by the first shape that fits; `empty`: also by columns of which all are empty."""
        row = self.row

        def there(*names: str) -> bool:
            return empty or not all(blank(row.get(name)) for name in names)

        for chosen, rejected in PREFERENCES:
            if rejected in self.raw and chosen in self.raw and (chosen in row or rejected in row) and there(chosen, rejected):
                return "preferences", self._preferred(chosen, rejected)
        if "prompt" in row and "completion" in row and there("prompt", "completion"):
            return "pairs", self._pair("prompt", "completion")
        if (talk := self._talk_column()) and there(talk):
            return "conversations", self._conversation(talk)
        asked = [name for name in PROMPTS if not blank(row.get(name))]
        for seen in (row, self.raw) if empty else (row,):  # a null in the answer is a fault of that row
            for prompt, completion in _PAIRS:
                fits = prompt in seen and completion in seen and not (prompt in OFTEN_OTHERS and asked)
                if fits and there(prompt, completion):
                    return "instructions", self._single(prompt, completion, prompt not in {"problem", "input"})
        return None

    def _other_pair(self) -> tuple[str, Row] | None:
        """The row by one column that asks and one that answers, which no usual shape puts together.

        None where a usual shape of the same question has a null for its answer: another answer may be its last line alone.
        """
        prompts, answers = ([name for name in names if not blank(self.row.get(name))] for names in (PROMPTS, ANSWERS))
        prompts = prompts or ([] if blank(self.row.get("input")) else ["input"])
        if not prompts or not answers or any(prompt in prompts and name in self.raw for prompt, name in _PAIRS):
            return None
        for names, what in ((prompts, "prompt"), (answers, "completion")):
            if len(names) > 1:
                raise DataError(
                    f"{self.place}: columns {' and '.join(map(repr, names))} can both be the {what}; name one with "
                    f"data.columns.{what}"
                )
        return "instructions", self._single(prompts[0], answers[0], prompts[0] not in INPUTS)

    def _talk_column(self) -> str | None:
        """The column of a conversation: the first that has a turn, else the first of all."""
        there = [name for name in TALKS if name in self.row and is_talk(self.row[name])]
        return next((name for name in there if self.row[name]), there[0] if there else None)

    def _conversation(self, name: str) -> Row:
        """A conversation; where it ends with a question, the answer may be in a column of its own."""
        turns = talk_of(self.row[name], self.place, self._use(name))
        numbers = any(turn.role == "assistant" for turn in turns)  # then a number says something about the conversation
        answers = [column for column in ANSWERS if not blank(self.row.get(column))]
        answers = [column for column in answers if not (numbers and type(self.raw.get(column)) is int)]
        if turns and turns[-1].role in {"user", "result"} and len(answers) == 1:
            said = turns_of(self.row[self._use(answers[0])], "assistant", self.place, answers[0])
            return self._talk(behind(turns, said), answers[0])
        return self._talk(turns, name)

    def _preferred(self, chosen: str, rejected: str) -> Row:
        row = self.row
        self.read.append(rejected)
        if chosen not in row:
            raise NotTrained(self.place, f"a rejected answer alone (column {chosen!r} is null)")
        answer = row[self._use(chosen)]
        talk = self._talk_column()
        prompt = next((name for name in (*PROMPTS, "input") if name in row), None)
        asked = row.get("input")
        if talk is None and isinstance(asked, Mapping):  # OpenAI's: the input holds the messages, and the tools
            self.row = row = {**row, **{name: asked[name] for name in TOOLS if name in asked}}
            talk = prompt = "input"
        if isinstance(answer, str) and (spoken := _transcript(answer)):
            return self._talk(spoken, chosen)
        said = turns_of(answer, "assistant", self.place, chosen)
        if talk is None and prompt is not None and is_list(row[prompt]):
            talk = prompt
        before = turns_of(row[self._use(talk)], "user", self.place, talk) if talk else []
        if before[-len(said) :] == said:  # the conversation ends with the chosen answer already
            before = before[: -len(said)]
        if any(turn.role == "user" for turn in said) and (not before or said[: len(before)] == before or said[0] in before):
            if prompt is not None:
                self.read.append(prompt)  # its text is a turn of the chosen conversation
            return self._talk(said, chosen)
        if talk is not None:
            return self._talk(behind(before, said), chosen)
        if prompt is None:
            raise DataError(f"{self.place}: column {chosen!r} has no prompt before it; it has {listed(self.raw)}")
        if prompt == "prompt" and isinstance(answer, str):
            return self._pair(prompt, chosen)
        return self._single(prompt, chosen, prompt != "input")

    def _pair(self, prompt: str, completion: str) -> Row:
        """Text and its continuation; a conversation where one is turns, or a system text or history comes first."""
        row = self.row
        asked, answer = row[self._use(prompt)], row[self._use(completion)]
        before = [*self._system(), *self._history()]
        if not before and not any(is_list(value) or isinstance(value, Mapping) for value in (asked, answer)):
            return Example(self._text(prompt, empty=True), self._text(completion))
        return self._turns(asked, answer, prompt, completion)

    def _turns(self, asked: object, answer: object, prompt: str, completion: str) -> Instruction:
        """The instruction of a prompt and a completion of which one is turns."""
        before = turns_of(asked, "user", self.place, prompt)
        return self._talk(behind(before, turns_of(answer, "assistant", self.place, completion)), completion)

    def _mapped(self, columns: ColumnsCard) -> Row:
        for field in fields(columns):
            name = getattr(columns, field.name)
            if name and name not in self.raw:
                raise DataError(
                    f"{self.place}: no column {name!r}, which data.columns.{field.name} names; it has {listed(self.raw)}"
                )
        if columns.messages:
            if columns.messages not in self.row:
                raise Unusable(f"{self.place}: column {columns.messages!r} is null; remove the row", "an empty conversation")
            return self._talk(talk_of(self.row[self._use(columns.messages)], self.place, columns.messages), columns.messages)
        prompt = columns.prompt or first(self.row, PROMPTS)
        completion = columns.completion or first(self.row, [c for c in COMPLETIONS if c != prompt])
        for what, column in (("prompt", prompt), ("completion", completion)):
            if column is None:
                raise DataError(
                    f"{self.place}: which column is the {what}? Name it with data.columns.{what}; it has {listed(self.raw)}"
                )
        assert prompt is not None
        assert completion is not None
        if columns.input and columns.input in self.row:
            return self._single(prompt, completion, False, columns.input)
        return self._single(prompt, completion, prompt == "instruction" and not columns.input)

    def _single(self, prompt: str, completion: str, inputs: bool, given: str | None = None) -> Instruction:
        """An instruction and its answer; `inputs`: an input that the row has belongs to the instruction."""
        row, given = self.row, self._input({prompt, completion}) if inputs else given
        more = "" if given is None else self._text(given, empty=True)
        more = more if more.strip() else ""
        if completion not in row:
            raise self._null(completion)
        if type(row[completion]) is int and (choices := next((name for name in CHOICES if filled(row.get(name))), None)):
            raise DataError(
                f"{self.place}: column {completion!r} is {row[completion]}, which may be the number of one of the {choices}; "
                "write the answer itself as text"
            )
        if is_list(row.get(prompt)) or not isinstance(row[completion], str):
            talk = self._turns(row.get(prompt, ""), row[completion], self._use(prompt), self._use(completion))
            return replace(talk, given=more)
        instruction = self._text(prompt, empty=bool(more))
        before = (*self._system(), *self._history())
        answer = self._text(completion)
        return Instruction((*map(_spoken, before), ("user", instruction)), answer, more)

    def _input(self, taken: set[str]) -> str | None:
        """The column that holds an instruction's input. Raises DataError where two of them do."""
        there = [name for name in INPUTS if name not in taken and not blank(self.row.get(name))]
        if len(there) > 1:
            raise DataError(
                f"{self.place}: columns {' and '.join(map(repr, there))} both hold an input; name one with data.columns.input"
            )
        return there[0] if there else None

    def _talk(self, turns: Sequence[Turn], name: str) -> Instruction:
        """The instruction of a conversation: its last answer, and the turns before it."""
        turns = [*self._history(), *turns]
        before, answer = answered(turns, self.place, name)
        start = next(i for i, turn in enumerate(turns) if turn.role in {"user", "result"})  # where `before` begins
        own = [turn for turn in turns[:start] if turn.role == "system"]
        return Instruction((*map(_spoken, self._system(own)), *map(_spoken, before)), answer)

    def _system(self, own: Sequence[Turn] = ()) -> list[Turn]:
        """The system's turns: a conversation's `own`, else the row's, and the tools that the row describes behind them."""
        name = next((n for n in SYSTEMS if self.row.get(n)), None)
        systems = list(own)
        if not systems and name is not None:
            systems = [Turn("system", self._text(name, empty=True))]
        tools = next((n for n in TOOLS if filled(self.row.get(n))), None)
        if tools is None:
            return systems
        text = as_text(self.row[self._use(tools)])
        before = [turn.text for turn in systems if turn.text.strip()]
        return [Turn("system", "\n\n".join([*before, f"Tools:\n{text}"]))]

    def _history(self) -> list[Turn]:
        turns = joined(history_of(self.row.get(HISTORY), self.place, HISTORY))
        if turns:
            self._use(HISTORY)
        return turns

    def _text(self, name: str, *, empty: bool = False) -> str:
        self._use(name)
        if name not in self.row:
            if empty:
                return ""
            raise self._null(name)
        value = text_of(self.row[name], f"{self.place}: column {name!r}")
        if not empty and not value.strip():
            raise Unusable(
                f"{self.place}: column {name!r} is empty; give it a text or remove the row", f"an empty column {name!r}"
            )
        return value

    def _null(self, name: str) -> Unusable:
        return Unusable(f"{self.place}: column {name!r} is null; give it a text or remove the row", f"an empty column {name!r}")

    def _use(self, name: str) -> str:
        self.read.append(name)
        return name


def _transcript(text: str) -> list[Turn]:
    """The turns of a text with `Human:` and `Assistant:` before them, as HH-RLHF has; empty for any other text."""
    pieces = _TRANSCRIPT.split(text)
    if len(pieces) < 5 or pieces[0].strip():
        return []
    roles = pieces[1::2]
    return [Turn("user" if role == "Human" else "assistant", said) for role, said in zip(roles, pieces[2::2], strict=True)]


def _spoken(turn: Turn) -> tuple[str, str]:
    return turn.role, turn.text
