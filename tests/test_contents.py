"""Files of a run with checksums that fit and values of other types: one StoreError that says what and where."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from report_runs import made_run
from spa_bench.errors import StoreError
from spa_bench.runs.contents import FILES, REST, SPEC, fault, row_check
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.support.text import one_line, visible
from spa_bench.types import Choices, Grade, Record

RECORD: dict[str, Any] = {
    "problem": "p", "member": 0, "draw": 0, "raw": "r", "graded": "g", "finish": "stop", "tokens": 1, "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "shape", "said"),
    [
        (1, int, ""),
        (True, int, "it is True, not a whole number"),
        (1, (float, None), ""),
        (None, (float, None), ""),
        ("x", (float, None), "it is 'x', not a number or null"),
        ([1, None], [(int, float, None)], ""),
        ([1, "x"], [(int, float, None)], "[1] is 'x', not a whole number or a number or null"),
        ({"a": 1}, {"a": int, "b?": str}, ""),
        ({"b": "x"}, {"a": int, "b?": str}, "it lacks 'a'"),
        ({"a": 1, "b": 2}, {"a": int, "b?": str}, "b is 2, not a text"),
        ({"a": {"x": [1, {}]}}, {REST: {"x": [int]}}, "a.x[1] is an object, not a whole number"),
        ([], {"a": int}, "it is a list, not an object"),
        ({"a": 10**400}, {"a": str}, "a is a huge number, not a text"),
    ],
)
def test_a_fault_says_its_place_the_value_and_what_it_must_be(content: object, shape: Any, said: str):
    assert fault(content, shape) == said


def test_every_row_that_we_write_fits_and_a_wrong_field_is_named():
    check = row_check(Record)
    assert check(RECORD) == ""
    assert check({**RECORD, "choice": None, "spent": 3}) == ""
    assert check({**RECORD, "draw": [0]}) == "draw is a list, not a whole number"
    assert check({**RECORD, "graded": 3}) == "graded is 3, not a text"
    assert row_check(Grade)({"problem": "p", "member": 0, "draw": 0, "verdict": "passed"}) == ""
    assert row_check(Choices)({"matrices": {"kl": [[0.0, 1], ["x"]]}}) == "matrices.kl[1][0] is 'x', not a number"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return made_run(tmp_path, n=2)


def test_a_whole_run_fits(run: RunFolder):
    assert fault(run.spec, SPEC) == ""
    for name, shape in FILES.items():
        if (content := run.read_json(name)) is not None:
            assert fault(content, shape) == ""


def test_a_json_file_with_other_types_is_refused(run: RunFolder):
    run.write_json("judged.json", {"by": [{}]})
    with pytest.raises(StoreError, match=r"judged\.json is no file of a run of this version: by\[0\] lacks 'sandbox'"):
        run.read_json("judged.json")


def test_a_place_of_problems_that_is_a_list_is_refused(run: RunFolder):
    run.write_json("task_file.json", {"file": ["three.jsonl"]})
    with pytest.raises(StoreError, match=r"task_file\.json is no file of a run of this version: file is a list, not a text"):
        run.read_json("task_file.json")


def test_a_row_with_other_types_is_refused(run: RunFolder):
    body = json.dumps({**RECORD, "member": [0]})
    salt = f"{run.hash}/records.jsonl".encode() + b"\0"
    checksum = hashlib.blake2b(salt + body.encode(), digest_size=8).hexdigest()
    (run.path / "records.jsonl").write_text(f'{body[:-1]}, "sum": "{checksum}"}}\n')
    with pytest.raises(StoreError, match=r"another version of spa-bench \(member is a list, not a whole number\)"):
        run.record_log.rows()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("versions", {"python": 3}, r"versions\.python is 3, not a text"),
        ("noise_floor", None, "noise_floor is None, not true or false or a whole number"),  # a list of runs counts its rows
    ],
)
def test_a_spec_with_other_types_is_refused(run: RunFolder, key: str, value: object, said: str):
    (run.path / "spec.json").write_text(json.dumps({**run.spec, key: value}))
    with pytest.raises(StoreError, match=f"is no spec of a run: {said}"):
        open_run(run.path)


def test_what_moves_the_cursor_or_turns_text_round_is_shown_as_an_escape():
    assert visible("a\x1b[31m\0é\u202e\ud800\n\tb") == "a\\u001b[31m\\u0000é\\u202e\\ud800\n\tb"
    assert visible("zero\u200bwidth, line\u2028end, 🎲 漢") == "zero\\u200bwidth, line\\u2028end, 🎲 漢"


def test_one_line_has_no_line_ends_and_no_more_characters_than_it_may():
    assert one_line(ValueError(" a\n\tb  c ")) == "a b c"
    assert [one_line("ab  cd", most) for most in (6, 5, 4)] == ["ab cd", "ab cd", "ab …"]
    assert one_line(" \n") == ""
