"""Rows as LLaMA-Factory, TRL, Axolotl and OpenAI have them: what is trained on, what is left out, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError
from spa_bench.spa.data.reading import Reading, reading_of
from spa_bench.spa.data.shapes import Instruction, recognise
from spa_bench.spa.data.sources import read_rows
from spa_bench.spa.data.turns import Unusable
from spa_bench.types import Example

Q = {"role": "user", "content": "Q"}
S = {"role": "system", "content": "S"}
A = {"role": "assistant", "content": "A"}
BAD = {"role": "assistant", "content": "BAD"}
ASKED = Instruction((("user", "Q"),), "A")
TALKED = Instruction((("user", "Q1"), ("assistant", "A1"), ("user", "Q")), "A")
CALL = '{"name": "add", "arguments": {"x": 1}}'
CALLS = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}]


def said(*turns: str) -> list[dict[str, str]]:
    return [dict(zip(("from", "value"), turn.split(" ", 1), strict=True)) for turn in turns]


def read(rows: list[Any], **data: Any) -> Reading:
    return reading_of([(f"x.jsonl, line {i}", row) for i, row in enumerate(rows, 1)], "x.jsonl", DataCard(**data))


# nothing is dropped in silence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "history",
    [[["Q1", "A1"]], '[["Q1", "A1"]]', [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]],
)
@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Q", "input": "", "output": "A"},
        {"question": "Q", "answer": "A"},
        {"prompt": "Q", "completion": "A"},
        {"prompt": "Q", "response": "A"},
        {"messages": [Q, A]},
        {"instruction": "Q", "chosen": "A", "rejected": "BAD"},
    ],
    ids=lambda row: "-".join(row),
)
def test_a_history_comes_before_the_question(row: dict[str, Any], history: Any):
    assert recognise({**row, "history": history}, "here") == TALKED
    assert recognise({**row, "history": []}, "here") == recognise(row, "here")


def test_a_system_text_comes_before_the_history():
    row = {"instruction": "Q", "input": "I", "output": "A", "system": "S", "history": [["Q1", "A1"]]}
    turns = (("system", "S"), ("user", "Q1"), ("assistant", "A1"), ("user", "Q"))
    assert recognise(row, "here") == Instruction(turns, "A", "I")


def test_calls_and_results_in_a_history_are_the_assistants_and_the_users():
    row = {"instruction": "Q", "output": "A", "history": said("human Q1", f"function_call {CALL}", "observation 2", "gpt A1")}
    turns = (("user", "Q1"), ("assistant", CALL), ("user", "2"), ("assistant", "A1"), ("user", "Q"))
    assert recognise(row, "here") == Instruction(turns, "A")


def test_a_broken_history_is_named():
    with pytest.raises(Unusable, match=r"^x, row 3, turn 1 of 'history': expected a question and an answer, two texts"):
        recognise({"instruction": "Q", "output": "A", "history": [["Q1", None]]}, "x, row 3")


def test_a_system_text_beside_a_pair_makes_it_a_conversation():
    assert recognise({"system": "S", "prompt": "Q", "completion": "A"}, "here") == Instruction(
        (("system", "S"), ("user", "Q")), "A"
    )


def test_a_context_belongs_to_a_question_and_two_inputs_are_ambiguous():
    assert recognise({"context": "C", "question": "Q", "answer": "A"}, "here") == Instruction((("user", "Q"),), "A", "C")
    row = {"instruction": "Q", "output": "A", "input": "I", "context": "C"}
    with pytest.raises(DataError, match=r"columns 'input' and 'context' both hold an input; name one with data.columns.input"):
        recognise(row, "here")
    assert recognise({**row, "input": ""}, "here") == Instruction((("user", "Q"),), "A", "C")


# labels and preferences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "completion": "A"},
        {"prompt": [Q], "completion": [A]},
        {"messages": [Q, A]},
        {"instruction": "Q", "input": "", "output": "A"},
    ],
    ids=lambda row: "-".join(row),
)
@pytest.mark.parametrize("column", ["label", "kto_tag"])
def test_answers_that_are_labelled_bad_are_not_trained_on(row: dict[str, Any], column: str):
    found = read([{**row, column: True}, {**row, column: False}, {**row, column: "False"}, {**row, column: None}])
    assert found.rows == [recognise(row, "here")] * 2
    assert found.numbers == [1, 4]
    assert found.left_out == {"labelled bad": 2}
    assert "4 rows: 2 " in found.told
    assert "left out: 2 (labelled bad)" in found.told


def test_a_label_of_0_or_1_may_be_a_class_and_has_to_be_explained():
    rows = [{"prompt": "Q", "completion": "A", "label": 1}, {"prompt": "Q", "completion": "B", "label": 0}]
    with pytest.raises(DataError, match=r"line 1: label is 1: bad and good answers \(KTO\), or classes\? Say it with data.lab"):
        read(rows)
    assert read(rows, labels="kto").rows == [Example("Q", "A")]
    assert read(rows, labels="ignore").rows == [Example("Q", "A"), Example("Q", "B")]
    assert read([{**rows[0], "label": "positive"}, {**rows[1], "label": 2}]).left_out == {}


def test_a_file_of_bad_answers_alone_is_refused():
    with pytest.raises(DataError, match=r"^x\.jsonl: none of its 1 rows can be used: 1 \(labelled bad\)$"):
        read([{"prompt": "Q", "completion": "A", "label": False}])


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (  # LLaMA-Factory's sharegpt: the chosen answer continues the conversation
            {
                "conversations": said("human Q1", "gpt A1", "human Q"),
                "chosen": said("gpt A")[0],
                "rejected": said("gpt BAD")[0],
            },
            TALKED,
        ),
        ({"messages": [Q, A], "chosen": [Q, A], "rejected": [Q, BAD], "prompt": "Q"}, ASKED),  # UltraFeedback
        ({"messages": [Q, A], "chosen": "A", "rejected": "BAD"}, ASKED),  # the conversation ends with the chosen answer
        ({"prompt": [Q], "chosen": [A], "rejected": [BAD]}, ASKED),  # TRL
        ({"chosen": [Q, A], "rejected": [Q, BAD]}, ASKED),  # TRL, the prompt within
        ({"prompt": "Q", "chosen": "A", "rejected": "BAD"}, Example("Q", "A")),
        ({"prompt": "Q", "completion": "no", "chosen": "A", "rejected": "BAD"}, Example("Q", "A")),
        ({"instruction": "Q", "input": "I", "chosen": "A", "rejected": "BAD"}, Instruction((("user", "Q"),), "A", "I")),
        (
            {"system": "S", "question": "Q", "chosen": "A", "rejected": "BAD"},
            Instruction((("system", "S"), ("user", "Q")), "A"),
        ),
        ({"instruction": "Q", "chosen_response": "A", "rejected_response": "BAD"}, ASKED),
        ({"input": {"messages": [Q]}, "preferred_output": [A], "non_preferred_output": [BAD]}, ASKED),  # OpenAI
        ({"chosen": "\n\nHuman: Q1\n\nAssistant: A1\n\nHuman: Q\n\nAssistant: A", "rejected": "BAD"}, TALKED),  # HH-RLHF
        ({"prompt": "Q", "completion": "A", "chosen": None, "rejected": None}, Example("Q", "A")),
        ({"instruction": "Q", "input": "I", "chosen": [A], "rejected": [BAD]}, Instruction((("user", "Q"),), "A", "I")),
        ({"prompt": [Q], "chosen": [S, Q, A], "rejected": [S, Q, BAD]}, Instruction((("system", "S"), ("user", "Q")), "A")),
    ],
)
def test_of_a_preference_the_chosen_answer_is_trained_on(row: dict[str, Any], found: Any):
    assert recognise(row, "here") == found


def test_a_preference_without_a_prompt_or_without_a_chosen_answer_is_no_example():
    with pytest.raises(DataError, match="column 'chosen' has no prompt before it"):
        recognise({"chosen": "The sky is blue.", "rejected": "The sky is green."}, "here")
    found = read([{"prompt": "Q", "chosen": None, "rejected": "BAD"}, {"prompt": "Q", "chosen": "A", "rejected": None}])
    assert found.rows == [Example("Q", "A")]
    assert found.left_out == {"a rejected answer alone (column 'chosen' is null)": 1}


def test_a_conversation_that_ends_with_another_answer_than_the_chosen_one_is_refused():
    with pytest.raises(Unusable, match=r"\(the roles are user, assistant, assistant\)"):
        recognise({"messages": [Q, BAD], "chosen": "A", "rejected": "BAD"}, "here")


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"weight": 0.0}, {"weight": "0"}, {"train": "False"}])
def test_an_answer_that_its_turn_keeps_out_of_training_is_not_the_completion(mark: dict[str, Any]):
    turns = [Q, A, {"role": "user", "content": "Q2"}, {**BAD, **mark}]
    assert recognise({"messages": turns}, "here") == ASKED
    first = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1", **mark}, Q, {**A, "weight": 1}]
    assert recognise({"messages": first}, "here") == TALKED
    found = read([{"messages": [Q, {**A, **mark}]}, {"messages": [Q, A]}])
    assert found.left_out == {"without an answer that is trained on (weight 0, or train = false)": 1}


def test_two_answers_in_one_column_are_not_joined():
    with pytest.raises(DataError, match=r"column 'output' must be text; got a list of 2 texts"):
        recognise({"instruction": "Q", "output": ["A", "BAD"]}, "here")


# what a turn may be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Q", "answer": "A"},
        {"prompt": "Q", "response": "A"},
        {"input": "Q", "output": "A"},
        {"conversation": [Q, A]},
        {"conversation": said("human Q", "gpt A")},
        {"conversation": [{"human": "Q", "assistant": "A"}]},
        {"conversation": [{"input": "Q", "output": "A"}]},
        {"messages": [], "conversation": [Q, A]},
        {"messages": json.dumps([Q, A])},
        {"messages": {"role": ["user", "assistant"], "content": ["Q", "A"]}},
        {"messages": [{"role": "User", "content": "Q"}, {"role": "bot", "content": "A"}]},
        {"messages": [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "parts": [{"text": "A"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q", "image": None}]}, A]},
        {"messages": [Q, {"role": "assistant", "content": [{"type": "text", "text": "A"}]}]},
        {"prompt": [{"type": "text", "text": "Q"}], "completion": [A]},
        {"prompt": [Q], "completion": [Q, A]},
    ],
    ids=json.dumps,
)
def test_a_question_and_its_answer_are_read_however_they_are_written(row: dict[str, Any]):
    assert recognise(row, "here") == ASKED


def test_parts_of_a_text_are_joined_and_others_are_refused_by_name():
    parts = [{"type": "text", "text": "one "}, {"type": "input_text", "text": "two"}]
    assert recognise({"messages": [{"role": "user", "content": parts}, A]}, "here") == Instruction((("user", "one two"),), "A")
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    with pytest.raises(
        Unusable, match=r"^x, row 3, turn 1 of 'messages': .* part 2 is of type 'image_url'; only text can be re"
    ):
        recognise({"messages": [{"role": "user", "content": [parts[0], picture]}, A]}, "x, row 3")


@pytest.mark.parametrize("column", ["image", "images", "videos", "audios"])
def test_a_row_with_a_picture_is_refused(column: str):
    with pytest.raises(Unusable, match=f"column '{column}' holds what is no text"):
        recognise({"messages": [Q, A], column: ["x.jpg"]}, "here")
    assert recognise({"messages": [Q, A], column: []}, "here") == ASKED


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        (
            {"messages": [Q, {"role": "assistant", "content": None, "tool_calls": CALLS}, {"role": "tool", "content": "2"}, A]},
            (("user", "Q"), ("assistant", CALL), ("user", "2")),
        ),
        (
            {
                "messages": [
                    Q,
                    {"role": "assistant", "content": "Well:", "tool_calls": CALLS * 2},
                    {"role": "tool", "content": "2"},
                    {"role": "tool", "content": "3"},
                    A,
                ]
            },
            (("user", "Q"), ("assistant", f"Well:\n{CALL}\n{CALL}"), ("user", "2\n\n3")),
        ),
        (
            {
                "messages": [
                    Q,
                    {"role": "assistant", "content": None, "function_call": CALLS[0]["function"]},
                    {"role": "function", "name": "add", "content": "2"},
                    A,
                ]
            },
            (("user", "Q"), ("assistant", CALL), ("user", "2")),
        ),
        (
            {"conversations": said("human Q", f"function_call {CALL}", "observation 2", "gpt A")},
            (("user", "Q"), ("assistant", CALL), ("user", "2")),
        ),
        (
            {"conversations": said("human Q", "gpt Well:", f"function_call {CALL}", "observation 2", "gpt A"), "tools": "[]"},
            (("user", "Q"), ("assistant", f"Well:\n{CALL}"), ("user", "2")),
        ),
        (
            {"conversations": said("human Q", "gpt A"), "system": "S", "tools": '[{"name": "add"}]'},
            (("system", 'S\n\nTools:\n[{"name": "add"}]'), ("user", "Q")),
        ),
        ({"messages": [Q, A], "tools": [{"name": "add"}]}, (("system", 'Tools:\n[{"name": "add"}]'), ("user", "Q"))),
        ({"messages": [{"role": "developer", "content": "S"}, Q, A]}, (("system", "S"), ("user", "Q"))),
    ],
)
def test_calls_are_the_assistants_and_their_results_the_users(row: dict[str, Any], turns: tuple[tuple[str, str], ...]):
    assert recognise(row, "here") == Instruction(turns, "A")


@pytest.mark.parametrize("calls", [json.dumps(CALLS), json.dumps(CALLS[0]), json.dumps([{**CALLS[0], "index": None}])])
@pytest.mark.parametrize("column", ["tool_calls", "function_call"])
def test_calls_may_be_json(calls: str, column: str):
    assert recognise({"messages": [Q, {"role": "assistant", "content": "Well:", column: calls}]}, "here") == Instruction(
        (("user", "Q"),), f"Well:\n{CALL}"
    )


def test_no_call_is_lost_in_silence():
    for none in ("", "[]", "null", "None"):
        assert recognise({"messages": [Q, {**A, "tool_calls": none}]}, "here") == ASKED
    with pytest.raises(
        DataError, match=r"turn 2 of 'messages': its calls are the text 'add\(1\)'; write them as objects or JSON"
    ):
        recognise({"messages": [Q, {**A, "tool_calls": "add(1)"}]}, "here")


def test_a_result_before_the_first_question_is_a_turn_of_the_user():
    result = {"role": "tool", "content": "2"}
    assert recognise({"messages": [result, A]}, "here") == Instruction((("user", "2"),), "A")
    turns = (("user", "2"), ("system", "S"), ("user", "Q"))
    assert recognise({"messages": [result, S, Q, A]}, "here") == Instruction(turns, "A")


def test_a_call_that_is_the_last_answer_is_the_completion():
    row = {"conversations": said("human Q", f"function_call {CALL}", "observation 2")}
    assert recognise(row, "here") == Instruction((("user", "Q"),), CALL)


# nulls, empty texts, and what is said --------------------------------------------------------------------------------


def test_a_null_in_json_counts_as_absent_too():
    assert recognise({"messages": json.dumps([{**Q, "value": None, "from": None}, {**A, "tool_calls": None}])}, "here") == ASKED


@pytest.mark.parametrize("completion", ["completion", "response"])
def test_a_null_behind_a_prompt_of_turns_cannot_be_used(completion: str):
    with pytest.raises(Unusable, match=rf"^here: column '{completion}' is null; give it a text or remove the row"):
        recognise({"prompt": [Q], completion: None}, "here")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [S, Q], "completion": [Q, A]},
        {"prompt": [Q], "completion": [S, Q, A]},
        {"prompt": [S, Q], "completion": [S, Q, A]},
        {"question": "Q", "answer": [S, Q, A]},
        {"prompt": "Q", "response": [Q, A], "system": "S"},
    ],
)
def test_a_prompt_that_its_completion_repeats_is_asked_once(row: dict[str, Any]):
    assert recognise(row, "here") == Instruction((("system", "S"), ("user", "Q")), "A")


@pytest.mark.parametrize("answer", ["A", [A], [{"type": "text", "text": "A"}]])
def test_an_input_is_read_however_the_answer_is_written(answer: object):
    assert recognise({"instruction": "Q", "input": "I", "output": answer}, "here") == Instruction((("user", "Q"),), "A", "I")


def test_a_null_counts_as_absent_at_any_depth(tmp_path: Path):
    rows = [
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "history": None},
        {"conversations": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"conversations": [{"role": "user", "content": "Q"}, {**BAD, "weight": None, "tool_calls": None}]},
    ]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert '"role": null' in json.dumps(read_rows(str(tmp_path / "x.parquet"))[0][1])
    found = reading_of(read_rows(str(tmp_path / "x.parquet")), "x.parquet", DataCard())
    assert found.rows == [ASKED, ASKED, Instruction((("user", "Q"),), "BAD")]


def test_rows_that_cannot_be_used_are_counted_and_left_out_if_the_card_says_so():
    good = {"instruction": "Q", "output": "A"}
    rows = [good, {**good, "output": ""}, {**good, "output": None}, {"messages": [Q]}, {"messages": None}, good]
    with pytest.raises(DataError) as caught:
        read(rows)
    assert str(caught.value) == (
        "x.jsonl, line 2: column 'output' is empty; give it a text or remove the row; 4 of 6 rows cannot be used: mend them, "
        "or leave them out with --set data.unusable=drop"
    )
    found = read(rows, unusable="drop")
    assert (found.rows, found.numbers) == ([ASKED, ASKED], [1, 6])
    assert found.left_out == {
        "an empty column 'output'": 2,
        "no answer that follows a user's turn": 1,
        "an empty column 'messages'": 1,
    }
    with pytest.raises(DataError, match="line 2: no shape that is known"):  # another shape is no empty text
        read([good, {"text": "a"}], unusable="drop")


def test_the_line_about_a_file_has_shapes_columns_and_what_is_left_out():
    rows = [
        {"id": 1, "prompt": "Q", "completion": "A", "label": True, "meta": None},
        {"id": 2, "prompt": "Q", "completion": "A", "label": False, "score": 1},
        {"id": 3, "instruction": "Q", "input": "I", "output": "A"},
        {"id": 4, "instruction": "Q", "input": "", "output": "A", "history": [["Q1", "A1"]]},
    ]
    assert read(rows).told == (
        "x.jsonl: 4 rows: 1 pairs (prompt, completion, label), 2 instructions (instruction, input, output, history); left out: "
        "1 (labelled bad); columns that are not read: id, score"
    )


# files ---------------------------------------------------------------------------------------------------------------

ROWS = [{"prompt": f"p{i}", "completion": f"c{i}\n"} for i in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = 'prompt,completion,label\np0,"c0\n",\np1,"c1\n",\np2,"c2\n",true\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.jsonl", LINES),
        ("x.json", LINES),
        ("x.json", "\n" + LINES),
        ("x.json", json.dumps(ROWS, indent=1)),
        ("x.csv", TABLE),
        ("x.tsv", TABLE.replace(",", "\t")),
        ("x.jsonl", "\ufeff" + LINES),
    ],
)
def test_a_file_is_read_plain_and_gzipped(name: str, text: str, tmp_path: Path):
    (tmp_path / name).write_text(text, newline="")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    for file in (tmp_path / name, tmp_path / f"{name}.gz"):
        found = reading_of(read_rows(str(file)), str(file), DataCard())
        assert found.rows == [Example(f"p{i}", f"c{i}\n") for i in range(3)]


def test_a_row_of_a_table_is_named_by_the_line_it_begins_on(tmp_path: Path):
    (tmp_path / "x.csv").write_text('prompt,completion\n"a\nb",c\nd,\n')
    with pytest.raises(DataError, match=r"x\.csv, line 4: column 'completion' is null"):
        reading_of(read_rows(str(tmp_path / "x.csv")), "x.csv", DataCard())
    (tmp_path / "x.csv").write_text("prompt,completion\na,b,c\n")
    with pytest.raises(DataError, match=r"x\.csv, line 2: the row has another number of cells than the first line has names"):
        read_rows(str(tmp_path / "x.csv"))
    (tmp_path / "x.csv").write_text("prompt,completion,completion,,\na,b,c,,\n")
    with pytest.raises(DataError, match=r"x\.csv, line 1: two columns are named 'completion'; rename or remove one"):
        read_rows(str(tmp_path / "x.csv"))
    (tmp_path / "x.csv").write_text("prompt,completion,,\na,b,,\n")  # as spreadsheets end their lines
    assert len(read_rows(str(tmp_path / "x.csv"))) == 1
    (tmp_path / "x.csv").write_text("prompt,completion\na," + "b" * 200_000 + "\n")
    assert len(read_rows(str(tmp_path / "x.csv"))) == 1  # longer than what csv allows by default


@pytest.mark.parametrize("content", [gzip.compress(LINES.encode(), mtime=0)[:-12], b"\x1f\x8b", b"no gzip"])
def test_a_broken_archive_is_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "x.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"^cannot read the examples in .*x\.jsonl\.gz: [^\n]+$"):
        read_rows(str(tmp_path / "x.jsonl.gz"))


# what other tools write ----------------------------------------------------------------------------------------------

LISTED = [Q, A]
WRITTEN = [{"role": "user", "content": "Q"}, {"content": "A", "role": "assistant"}]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": ["Q", "A"], "source": "x"},  # LIMA
        {"id": "0", "data": ["Q", "A"]},  # UltraChat
        {"dialogue": LISTED},
        {"contents": [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "parts": [{"text": "A"}]}]},  # Gemini
        {"messages": [{"type": "human", "content": "Q"}, {"type": "ai", "content": "A"}]},  # LangChain
        {"messages": [{"role": " user", "content": "Q"}, {"role": "assistant\n", "content": "A"}]},
        {"messages": [{"user": "Q"}, {"assistant": "A"}]},
        {"conversation": [{"Human": "Q", "Assistant": "A"}]},
        {"conversations": [{"human": "Q", "gpt": "A"}]},
        {"conversation": [{"input": "Q", "output": None}], "chosen": LISTED, "rejected": [Q, BAD]},  # Capybara
        {"messages": [Q], "completion": "A"},
        {"messages": [Q], "response": [A]},
        {"conversations": said("human Q"), "answer": "A"},
        {"messages": repr(WRITTEN)},  # a table that pandas wrote
        {"messages": repr(WRITTEN).replace("}, {", "}\n {")},  # and of numpy's arrays
        {"prompt": json.dumps([Q]), "chosen": json.dumps([A]), "rejected": json.dumps([BAD])},
        {"prompt": repr([Q]), "completion": repr([A])},
        {"chosen": json.dumps([Q, A]), "rejected": json.dumps([Q, BAD])},
        {"Question": "Q", "Complex_CoT": "C", "Response": "A"},
        {"instruction": "Q", "completion": "A"},
        {"question": "Q", "solution": "A"},
        {"prompt": "Q", "output": "A"},
        {"input": "Q", "target": "A"},
        {"inputs": "Q", "targets": "A"},
        {"user": "Q", "assistant": "A", "source": "x"},
    ],
    ids=json.dumps,
)
def test_rows_of_other_tools_are_read(row: dict[str, Any]):
    assert recognise(row, "here") == ASKED


RECORDS = json.dumps([{"name": "Bob", "role": "admin"}, {"from": "A", "to": "B"}])


@pytest.mark.parametrize("text", [RECORDS, json.dumps([{"name": "Bob", "role": "user"}]), repr([{"role": "user"}])])
def test_json_that_only_looks_like_turns_is_text(text: str):
    assert recognise({"prompt": text, "completion": "A"}, "here") == Example(text, "A")
    assert recognise({"question": text, "answer": "A"}, "here") == Instruction((("user", text),), "A")


@pytest.mark.parametrize("text", [RECORDS, json.dumps([Q, A])])
def test_an_input_that_belongs_to_an_instruction_is_text(text: str):
    assert recognise({"instruction": "Q", "input": text, "output": "A"}, "here") == Instruction((("user", "Q"),), "A", text)


@pytest.mark.parametrize("name", ["choices", "options"])
def test_a_number_beside_choices_is_no_answer(name: str):
    row = {"question": "Q", name: ["a", "b"], "answer": 1}
    with pytest.raises(DataError, match=f"here: column 'answer' is 1, which may be the number of one of the {name}; write"):
        recognise(row, "here")
    assert recognise(row | {"answer": "b"}, "here") == Instruction((("user", "Q"),), "b")
    assert recognise(row | {name: None}, "here") == Instruction((("user", "Q"),), "1")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "source": "gsm8k", "target": "A"},
        {"question": "Q", "items": ["x", "A"], "target": "A"},
        {"instruction": "Q", "chat": [Q, BAD], "solution": "A"},
        {"chat": [Q], "response": "A"},
        {"dialog": ["Q", "A"], "act": [1, 2]},
        {"messages": [Q, A, {"role": "user", "content": "Thanks"}], "target": 1},
        {"messages": [Q], "answer": "A"},
    ],
    ids=str,
)
def test_a_column_of_another_meaning_is_no_question(row: dict[str, Any]):
    assert recognise(row, "here") == ASKED


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1, "items": ["apple", "pear"]},
        {"title": "T", "contents": ["one", "two"]},
        {"data": ["apple", "pear"], "label": 3},
        {"user": "alice", "prompt": "Q", "assistant": "gpt-4"},
    ],
    ids=str,
)
def test_lists_of_texts_and_names_of_people_are_no_conversation(row: dict[str, Any]):
    with pytest.raises(DataError, match="no shape that is known"):
        recognise(row, "here")


@pytest.mark.parametrize("names", [("problem", "solution", "answer"), ("prompt", "completion", "output")])
def test_an_answer_that_is_null_is_not_replaced_by_another_column(names: tuple[str, str, str]):
    with pytest.raises(Unusable, match=f"column '{names[1]}' is null"):
        recognise({names[0]: "Q", names[1]: None, names[2]: "42"}, "here")


def test_two_texts_of_one_side_in_one_turn_are_named():
    with pytest.raises(DataError, match="turn 1 of 'conversation': 'input' and 'instruction' can both be what one side said"):
        recognise({"conversation": [{"instruction": "I", "input": "N", "output": "O"}]}, "here")
    assert recognise({"conversation": [{"input": "", "instruction": "Q", "output": "A"}]}, "here") == ASKED


def test_a_conversation_that_goes_on_in_another_column_is_not_trained_on_its_earlier_answer():
    row = {"messages": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}, Q], "output": "A"}
    assert recognise(row, "here") == TALKED
    assert recognise({"messages": [Q, A], "output": "B"}, "here") == ASKED


def test_an_answer_that_is_json_of_turns_is_text_behind_a_prompt_of_text():
    assert recognise({"prompt": "Q", "completion": json.dumps([A])}, "here") == Example("Q", json.dumps([A]))


@pytest.mark.parametrize("mark", [{"training": False}, {"loss": False}, {"loss": 0}, {"weight": "0"}, {"train": "false"}])
def test_every_tools_mark_keeps_an_answer_out_of_training(mark: dict[str, Any]):
    turns = [Q, A, {"role": "user", "content": "Q2"}, {**BAD, **mark}]
    assert recognise({"messages": turns}, "here") == ASKED


def test_two_columns_that_can_both_be_the_answer_are_named():
    with pytest.raises(DataError, match=r"columns 'solution' and 'target' can both be the completion; name one with data.colu"):
        recognise({"question": "Q", "solution": "A", "target": "B"}, "here")


@pytest.mark.parametrize("label", ["good", "Bad", "undesirable", "1.0", 0.0, "no"])
def test_a_label_in_other_words_is_asked_about_and_known_with_kto(label: object):
    row = {"prompt": "Q", "completion": "A", "label": label}
    with pytest.raises(DataError, match="or classes"):
        read([row])
    good = label in ("good", "1.0")
    assert read([row, {**row, "label": True}], labels="kto").left_out == ({} if good else {"labelled bad": 1})


def test_a_label_that_kto_does_not_know_is_an_error():
    for name, labels in (("label", "kto"), ("kto_tag", "auto")):
        with pytest.raises(DataError, match=f"line 1: {name} is 'positive'; for KTO it is true or false"):
            read([{"prompt": "Q", "completion": "A", name: "positive"}], labels=labels)
    assert read([{"Prompt": "Q", "Completion": "A", "Label": " False"}] * 2 + [{"instruction": "Q", "output": "A"}]).left_out


@pytest.mark.parametrize(
    "row",
    [
        {
            "prompt": {"role": None, "content": None},
            "messages": [{"role": None, "content": None}],
            "question": "Q",
            "answer": "A",
        },
        {"chosen": {"role": None}, "rejected": [{"role": None}], "question": "Q", "answer": "A"},
        {"messages": [Q, A, {"role": None, "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "text", "text": None}]}, A]},
        {"instruction": "Q", "output": "A", "history": [[None, None]]},
        {"instruction": "Q", "output": "A", "input": float("nan"), "history": "None", "tools": "null"},
        {"prompt": "", "completion": "", "instruction": "Q", "output": "A"},
        {"conversations": [], "chosen": "", "rejected": "", "instruction": "Q", "output": "A"},
    ],
    ids=str,
)
def test_what_holds_nothing_but_nulls_counts_as_absent_and_empty_columns_leave_room_for_others(row: dict[str, Any]):
    assert recognise(row, "here") == ASKED


def test_an_input_that_is_an_empty_list_is_an_input_and_a_number_is_its_text():
    assert recognise({"instruction": "Q", "input": "[]", "output": "A"}, "here") == Instruction((("user", "Q"),), "A", "[]")
    assert recognise({"question": "2 + 2", "answer": 4}, "here") == Instruction((("user", "2 + 2"),), "4")


def test_the_line_about_a_file_names_the_fields_of_turns_that_are_not_read():
    found = read([{"messages": [Q, {**A, "reasoning_content": "R", "name": "x"}], "good": False}])
    assert found.told.endswith("; columns that are not read: good; fields of turns that are not read: reasoning_content")


MERGED: list[tuple[dict[str, Any], dict[str, Any]]] = [  # two rows of one table, and of no other columns
    ({"prompt": "Q", "completion": "A"}, {"system": "", "instruction": "Q", "completion": "A"}),
    (
        {"prompt": "Q", "completion": "A"},
        {"contents": [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "text": "A"}]},
    ),
    ({"prompt": "Q", "completion": "A"}, {"data": ["Q", "A"]}),
    ({"instruction": "Q", "response": "A"}, {"Prompt": "Q", "Response": "A"}),
    ({"messages": [Q, A]}, {"conversations": said("human Q", "gpt A")}),
    ({"messages": [Q, {**A, "tool_calls": CALLS}]}, {"messages": [{"user": "Q"}, {"assistant": "A"}]}),
    ({"prompt": [Q], "chosen": [A], "rejected": [BAD]}, {"messages": [Q, A]}),
    ({"conversations": [{"input": "Q", "output": "A"}]}, {"conversations": said("human Q", "gpt A")}),
]


@pytest.mark.parametrize("rows", MERGED, ids=range(len(MERGED)))
def test_rows_of_two_kinds_in_one_table_are_read_as_each_alone(rows: tuple[dict[str, Any], dict[str, Any]]):
    columns = dict.fromkeys(name for row in rows for name in row)
    for order in (rows, rows[::-1]):
        table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in order])
        assert [recognise(row, "here") for row in table.to_pylist()] == [recognise(row, "here") for row in order]
