import json
from pathlib import Path

import pytest

from spa_bench.errors import DataError
from spa_bench.spa.data import hash_examples, load_examples, load_queries, read_pairs
from spa_bench.types import Example

SET = [Example(f"p{i}", f"c{i}") for i in range(20)]


def write(folder: Path, content: object, name: str) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_jsonl_rows_of_prompt_and_completion_are_taken_as_they_are(tmp_path: Path):
    text = '{"prompt": " a\\n", "completion": " b ", "more": 1}\n\n{"prompt": "", "completion": "c"}'
    assert read_pairs(write(tmp_path, text, "x.jsonl")) == [Example(" a\n", " b "), Example("", "c")]


def test_a_json_list_of_instructions_is_put_into_alpacas_template(tmp_path: Path):
    rows = [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Greet.", "input": "", "output": "Hi"}]
    first, second = read_pairs(write(tmp_path, rows, "x.json"))
    assert first == Example(
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a response "
        "that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n",
        "3",
    )
    assert second == Example(
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nGreet.\n\n### Response:\n",
        "Hi",
    )


def test_an_instruction_needs_no_input(tmp_path: Path):
    [pair] = read_pairs(write(tmp_path, '{"instruction": "Greet.", "output": "Hi"}\n', "x.jsonl"))
    assert "### Input" not in pair.prompt


def test_code_alpaca_is_read_whole(data: Path):
    file = data / "codealpaca" / "new_codealpaca.json"
    if not file.is_file():
        pytest.skip(f"no CodeAlpaca in {data}")
    found = load_examples(str(file))
    assert len(found) == len(json.loads(file.read_text())) == 4535
    assert all(e.prompt.endswith("### Response:\n") for e in found)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt"\n', r"x\.jsonl, line 2 is not valid JSON"),
        (
            "x.jsonl",
            '\n{"prompt": "a", "n": 1}\n',
            r"x\.jsonl, line 2: no shape that is known; it has the columns prompt, n; name two of them with data\.columns",
        ),
        ("x.jsonl", "{}", r"line 1: no shape that is known; it has no columns"),
        ("x.jsonl", "[1]", r"line 1: expected an object, got list"),
        ("x.jsonl", '{"prompt": 1, "completion": "b"}', r"line 1: column 'prompt' must be text; got int"),
        ("x.jsonl", '{"prompt": "a", "completion": " \\n"}', r"line 1: column 'completion' is empty; give it a text or remove"),
        ("x.jsonl", '{"instruction": "a", "output": null}', r"line 1: column 'output' is null; give it a text or remove"),
        ("x.jsonl", " \n", r"x\.jsonl holds no examples"),
        ("x.json", "[]", r"x\.json holds no examples"),
        ("x.json", "[", r"x\.json is not valid JSON"),
        ("x.json", "{}", r"x\.json must hold a list of rows; got dict"),
        ("x.json", [{"prompt": "a", "completion": "b"}, {"output": "b"}], r"x\.json, row 2: no shape"),
    ],
)
def test_a_bad_row_is_an_error_that_names_its_place(tmp_path: Path, name: str, content: object, message: str):
    path = write(tmp_path, content, name)
    with pytest.raises(DataError, match=message):
        read_pairs(path)
    with pytest.raises(DataError, match=message):
        load_queries(str(path), SET, 0)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot read the examples in .*nowhere\.jsonl: No such file"):
        load_examples(str(tmp_path / "nowhere.jsonl"))


def test_bytes_that_are_no_text_are_named(tmp_path: Path):
    (tmp_path / "x.jsonl").write_bytes(b'{"prompt": "\xff", "completion": "b"}\n')
    with pytest.raises(DataError, match=r"cannot read the examples in .*x\.jsonl"):
        read_pairs(tmp_path / "x.jsonl")


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path):
    row = json.dumps({"prompt": "a\u2028b", "completion": "a\x85b"}, ensure_ascii=False)
    assert read_pairs(write(tmp_path, row + "\n", "x.jsonl")) == [Example("a\u2028b", "a\x85b")]


def test_sampled_queries_are_distinct_examples_fixed_by_the_seed():
    found = load_queries("sample:7", SET, 3)
    assert len(set(found)) == 7
    assert set(found) <= set(SET)
    assert load_queries("sample:7", SET, 3) == found
    assert load_queries("sample:7", SET, 4) != found


@pytest.mark.parametrize("source", ["sample:0", "sample:21", "sample:x", "sample:", "sample:-1"])
def test_a_sample_that_the_set_cannot_give_is_refused(source: str):
    with pytest.raises(
        DataError, match=rf"data\.queries is '{source}': sample:M takes M different examples of the set, 1 to 20"
    ):
        load_queries(source, SET, 0)


def test_an_example_that_is_there_twice_is_one_query_at_most():
    assert len(set(load_queries("sample:3", [*SET[:3], *SET[:3]], 0))) == 3
    with pytest.raises(DataError, match="1 to 3"):
        load_queries("sample:4", [*SET[:3], *SET[:3]], 0)


def test_queries_may_come_from_a_file(tmp_path: Path):
    path = write(tmp_path, '{"prompt": "a", "completion": "b"}\n', "q.jsonl")
    assert load_queries(str(path), SET, 0) == [Example("a", "b")]


def test_the_hash_depends_on_every_text_and_on_the_order():
    hashes = {
        hash_examples(s)
        for s in (
            [],
            SET,
            SET[::-1],
            SET[:-1],
            [*SET[:-1], Example("p19", "c")],
            [Example("p0c0", ""), *SET[1:]],
            [Example("p0", "c0", ""), *SET[1:]],
        )
    }
    assert len(hashes) == 7
    assert hash_examples(list(SET)) == hash_examples(SET)
