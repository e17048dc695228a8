"""What rows of each known shape become, and what the columns of a card change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.training import ColumnsCard
from spa_bench.errors import CardError, DataError
from spa_bench.spa.data.shapes import Instruction, has_columns, recognise
from spa_bench.types import Example

ASKED = Instruction((("user", "Q"),), "A")
WITH_INPUT = Instruction((("user", "Q"),), "A", "I")
OSS = {"lang": "python", "raw_index": 1, "index": 2, "seed": "x", "openai_fingerprint": None, "problem": "Q", "solution": "A"}


def said(*turns: str, names: tuple[str, str] = ("from", "value")) -> list[dict[str, str]]:
    """Turns of "role text"."""
    return [dict(zip(names, turn.split(" ", 1), strict=True)) for turn in turns]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "Q", "completion": "A", "messages": []}, Example("Q", "A")),
        ({"prompt": "", "completion": "A"}, Example("", "A")),
        ({"instruction": "Q", "input": "", "output": "A"}, ASKED),
        ({"instruction": "Q", "output": "A"}, ASKED),
        ({"instruction": "Q", "input": "I", "output": "A", "response": "B"}, WITH_INPUT),
        ({"instruction": "", "input": "I", "output": "A"}, Instruction((("user", ""),), "A", "I")),
        ({"input": None, "output": "A", "instruction": "Q", "data_source": "MATH/PRM-800K"}, ASKED),  # Open-Platypus
        (OSS, ASKED),
        ({"instruction": "Q", "context": "I", "response": "A", "category": "qa"}, WITH_INPUT),
        ({"instruction": "Q", "response": "A"}, ASKED),
        ({"question": "Q", "answer": "A"}, ASKED),
        (
            {"id": "1", "system_prompt": "S", "question": "Q", "response": "A"},
            Instruction((("system", "S"), ("user", "Q")), "A"),
        ),
        ({"system_prompt": "", "question": "Q", "response": "A"}, ASKED),
        ({"query": "Q", "response": "A", "type": "GSM"}, ASKED),
        ({"id": "x_0", "conversations": said("human Q", "gpt A")}, ASKED),
        ({"messages": said("user Q", "assistant A", names=("role", "content")), "prompt": "Q", "prompt_id": "0"}, ASKED),
        ({"prompt": None, "completion": None, "instruction": "Q", "input": None, "context": "I", "output": "A"}, WITH_INPUT),
        ({"conversations": None, "problem": "Q", "solution": "A"}, ASKED),  # a Parquet file has all columns in all rows
    ],
)
def test_a_known_shape_is_recognised(row: dict[str, Any], found: Example | Instruction):
    assert recognise(row, "here") == found


def test_the_last_answer_of_a_conversation_is_the_completion_and_the_rest_before_it_the_prompt():
    row = {"conversations": said("system S", "human Q1", "gpt A1", "human Q2", "gpt A2", "human thanks")}
    turns = (("system", "S"), ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"))
    assert recognise(row, "here") == Instruction(turns, "A2")


def test_answers_before_the_first_question_are_dropped_but_not_what_the_system_said():
    row = {"conversations": said("gpt A0", "system S", "gpt A1", "human Q", "gpt A"), "system": "not this one"}
    assert recognise(row, "here") == Instruction((("system", "S"), ("user", "Q")), "A")
    row = {"conversations": said("gpt A0", "human Q", "gpt A"), "system": "S"}
    assert recognise(row, "here") == Instruction((("system", "S"), ("user", "Q")), "A")


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], r"holds no answer that follows a user's turn \(the roles are none\); remove the row"),
        (said("human Q"), r"holds no answer that follows a user's turn \(the roles are user\)"),
        (said("gpt A", "human Q"), r"\(the roles are assistant, user\)"),
        (said("human Q", "gpt A", "gpt B"), r"\(the roles are user, assistant, assistant\)"),
        (
            said("human Q", "gpt A", "gpt B", "human C", "gpt D"),
            r"holds an answer that follows an answer \(the roles",
        ),
        (said("human Q", "narrator x", "gpt A"), r"turn 2 of 'conversations': the role is 'narrator'; it can be user, human"),
        (said("human  ", "gpt A"), r"the last user's turn before it of 'conversations' is empty"),
        (said("human Q", "gpt  "), r"the last answer of 'conversations' is empty; remove the row"),
        ([{"from": "human", "value": [1]}], r"turn 1 of 'conversations': what was said must be text; got list"),
        ([*said("human Q"), "A"], r"turn 2 of 'conversations': expected from and value, or role and content; got str"),
    ],
)
def test_a_conversation_without_an_answer_is_refused(turns: list[Any], message: str):
    with pytest.raises(DataError, match=rf"^x, row 3.*{message}"):
        recognise({"conversations": turns}, "x, row 3")


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"instruction": " ", "input": " ", "output": "A"}, "instruction"),
        ({"problem": "Q", "solution": ""}, "solution"),
        ({"question": "\n", "answer": "A"}, "question"),
    ],
)
def test_empty_text_is_an_error_that_names_place_and_column(row: dict[str, Any], column: str):
    with pytest.raises(DataError, match=rf"^x, row 3: column '{column}' is empty"):
        recognise(row, "x, row 3")


# columns -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "row", "found"),
    [
        (ColumnsCard(prompt="q", completion="a"), {"q": "Q", "a": "A", "instruction": "no", "output": "no"}, ASKED),
        (ColumnsCard(prompt="question"), {"question": "Q", "solution": "A", "answer": "B"}, ASKED),
        (ColumnsCard(completion="chosen"), {"prompt": "Q", "completion": "no", "chosen": "A"}, ASKED),
        (ColumnsCard(input="table"), {"question": "Q", "answer": "A", "table": "I"}, WITH_INPUT),
        (ColumnsCard(input="more"), {"instruction": "Q", "output": "A", "input": "no", "more": None}, ASKED),
        (
            ColumnsCard(prompt="instruction"),
            {"instruction": "Q", "output": "A", "input": "I"},
            WITH_INPUT,
        ),
        (ColumnsCard(messages="talk"), {"talk": said("human Q", "gpt A"), "prompt": "no", "completion": "no"}, ASKED),
        (ColumnsCard(prompt="prompt", completion="completion"), {"prompt": "Q", "completion": "A"}, ASKED),
    ],
)
def test_named_columns_win_over_the_shape(columns: ColumnsCard, row: dict[str, Any], found: Instruction):
    assert recognise(row, "here", columns) == found


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (
            ColumnsCard(prompt="q"),
            {"question": "Q", "answer": "A"},
            "no column 'q', which data.columns.prompt names; it has the columns",
        ),
        (ColumnsCard(messages="m"), {"x": 1}, "no column 'm', which data.columns.messages names; it has the columns x"),
        (ColumnsCard(messages="m"), {"m": "hello"}, "column 'm' must be a list of turns; got str"),
        (ColumnsCard(prompt="q"), {"q": "Q", "a": "A"}, "which column is the completion? Name it with data.columns.completion"),
        (
            ColumnsCard(completion="a"),
            {"q": "Q", "a": "A"},
            "which column is the prompt? Name it with data.columns.prompt; it has",
        ),
    ],
)
def test_columns_that_do_not_fit_are_an_error_that_says_what_there_is(columns: ColumnsCard, row: dict[str, Any], message: str):
    with pytest.raises(DataError) as caught:
        recognise(row, "x, row 3", columns)
    assert str(caught.value).startswith("x, row 3: ")
    assert message in str(caught.value)


def test_a_row_has_the_named_columns_or_not():
    assert has_columns({"q": "Q"}, ColumnsCard(prompt="q"))
    assert not has_columns({"q": "Q"}, ColumnsCard(prompt="q", completion="a"))
    assert not has_columns(["q"], ColumnsCard(prompt="q"))


def test_a_card_names_messages_or_the_other_columns():
    settings = {"data.columns.prompt": "question"}
    assert load_sampler_card("spa-influence", settings).data.columns == ColumnsCard(prompt="question")
    with pytest.raises(
        CardError, match=r"data\.columns\.messages takes the place of prompt, input and completion: name it alone"
    ):
        load_sampler_card("spa-influence", {**settings, "data.columns.messages": "talk"})


def test_every_row_of_the_page_on_data_is_recognised(tmp_path: Path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "data.md").read_text()
    lines = page.partition("```jsonl\n")[2].partition("```")[0].splitlines()
    found = [recognise(json.loads(line), f"line {i}") for i, line in enumerate(lines, 1)]
    assert isinstance(found[0], Example)
    assert [(row.completion, row.given) for row in found[1:] if isinstance(row, Instruction)] == [
        ("4", ""),
        ("4", ""),
        ("def double(x):\n    return 2 * x", ""),
        ("3", "1 2"),
        ("4", ""),
        ("Ada", "Ada wrote the first program."),
        ("4", ""),
        ("4", ""),
        ("4", ""),
    ]


def test_half_of_a_surrogate_pair_is_no_text():
    with pytest.raises(DataError, match=r"^x, row 3: half of a surrogate pair \('\\ud800'\) is no text; remove it"):
        recognise({"prompt": "p", "completion": "a \ud800"}, "x, row 3")
