"""Logs: what was appended is there or is found to be missing, whatever happens to process, disk or machine."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from spa_bench.errors import StoreError
from spa_bench.runs import log as module
from spa_bench.runs.log import Log
from spa_bench.support.files import put, put_parts, replace_file, sweep, write_text
from spa_bench.types import Grade, Record, Verdict


def record(draw: int, text: str = "    return 1") -> Record:
    return Record(problem="p", member=0, draw=draw, raw=text, graded=text, finish="stop", tokens=3, seed=99)


@pytest.fixture
def log(tmp_path: Path) -> Log[Record]:
    return Log(tmp_path / "records.jsonl", Record, "salt")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to make a file larger, as it does when the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_rows_come_back_in_order(log: Log[Record]):
    rows = [record(2), record(0, 'odd " \\ \u2028 ü\ud800 , "sum": "'), record(1)]
    log.append(rows[:2])
    log.append(rows[2:])
    assert log.rows() == rows
    assert log.faults() == []


def test_verdicts_come_back_as_verdicts(tmp_path: Path):
    log = Log(tmp_path / "grades.jsonl", Grade, "salt")
    log.append([Grade(problem="p", member=0, draw=0, verdict=Verdict.WRONG, message="why")])
    assert log.rows()[0].verdict is Verdict.WRONG


def test_every_cut_of_the_file_gives_the_whole_rows_before_it(log: Log[Record]):
    rows = [record(i) for i in range(3)]
    log.append(rows)
    data = log.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        log.path.write_bytes(data[:cut])
        kept = sum(end <= cut for end in ends)
        assert log.rows() == rows[:kept]
        log.append(rows[kept:])
        assert log.path.read_bytes() == data


def test_any_changed_byte_is_found(log: Log[Record]):
    log.append([record(i) for i in range(3)])
    data = log.path.read_bytes()
    for place in range(len(data)):
        log.path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert log.faults(), place


@pytest.mark.parametrize("broken", [b"{}", b"", b'{"problem": "p"', b"\xff\xfe", b"null"])
def test_a_broken_line_with_whole_ones_behind_it_is_an_error_that_names_it(log: Log[Record], broken: bytes):
    log.append([record(0), record(1)])
    first, second = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(first + broken + b"\n" + second)
    with pytest.raises(StoreError, match=r"records\.jsonl, line 2 is damaged .*remove the line and run again"):
        log.rows()


def test_lines_that_an_interrupted_machine_left_as_zeros_are_redone(log: Log[Record]):
    log.append([record(0), record(1)])
    whole = log.path.read_bytes()
    first, second = whole.splitlines(keepends=True)
    log.path.write_bytes(first + b"\0" * len(second) + b"\n" + b"\0" * 50)
    assert log.rows() == [record(0)]
    log.append([record(1)])
    assert log.path.read_bytes() == whole


def test_lines_with_another_salt_do_not_pass_and_are_never_cut_off_in_silence(log: Log[Record]):
    log.append([record(0), record(1)])
    other = Log(log.path, Record, "another salt")
    before = log.path.read_bytes()
    for use in (other.rows, lambda: other.append([record(2)])):
        with pytest.raises(StoreError, match="not one line fits its checksum"):
            use()
    assert log.path.read_bytes() == before


def test_a_key_that_is_there_twice_is_an_error_that_names_the_line(log: Log[Record]):
    log.append([record(0), record(1), record(0, "other")])
    with pytest.raises(StoreError, match=r"line 3 repeats"):
        log.rows()
    assert log.faults() == [f"{log.path}: 1 keys are there twice"]


def test_a_full_disk_keeps_what_was_there_and_says_what_to_do(log: Log[Record]):
    log.append([record(0)])
    before = log.path.read_bytes()
    with (
        files_no_larger_than(len(before) + 40),
        pytest.raises(StoreError, match=r"cannot write .*records\.jsonl: File too large; what it held is safe"),
    ):
        log.append([record(1)])
    assert log.path.read_bytes() == before
    log.append([record(1)])
    assert log.rows() == [record(0), record(1)]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "metrics.json"
    replace_file(path, b"old")
    with files_no_larger_than(100), pytest.raises(StoreError, match=r"cannot write .*metrics\.json"):
        replace_file(path, b"x" * 200)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    assert path.read_bytes() == b"old"


def test_a_text_that_names_a_folder_of_odd_bytes_is_written(tmp_path: Path):
    write_text(tmp_path / "board.md", f"spa-bench leaderboard {os.fsdecode(b'caf' + bytes([0xE9]))}")
    assert (tmp_path / "board.md").read_text(encoding="utf-8") == "spa-bench leaderboard caf\ufffd"


def test_two_writers_of_one_file_do_not_write_into_each_others(tmp_path: Path):
    path = tmp_path / "metrics.json"

    def slow() -> Iterator[bytes]:
        yield b"the first "
        put(path, b"the second")  # of another thread, or of a process with the same number in another container
        yield b"and whole"

    put_parts(path, slow())
    assert path.read_bytes() == b"the first and whole"
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_what_a_killed_process_left_half_written_is_swept_and_a_living_ones_is_not(tmp_path: Path):
    (tmp_path / ".metrics.json.4194399.new").write_text("half")  # above the largest pid
    (tmp_path / ".metrics.json.1.new").write_text("of a process that lives")
    (tmp_path / "metrics.json").write_text("whole")
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".metrics.json.1.new", "metrics.json"]


def test_settling_sorts_and_drops_a_broken_end(log: Log[Record]):
    rows = [record(i) for i in (3, 1, 2, 0)]
    log.append(rows)
    with log.path.open("ab") as stream:
        stream.write(b"torn")
    log.settle({"p": 0})
    assert log.rows() == sorted(rows, key=lambda r: r.draw)
    assert log.faults() == []


def test_settling_a_settled_file_does_not_write(log: Log[Record], monkeypatch: pytest.MonkeyPatch):
    log.append([record(0), record(1)])
    monkeypatch.setattr(module, "replace_parts", lambda *_: pytest.fail("written"))
    log.settle({"p": 0})
    assert log.rows() == [record(0), record(1)]


def test_settling_goes_by_the_places_of_the_problems_first(log: Log[Record]):
    rows = [replace(record(draw), problem=problem, member=member) for problem in "ab" for member in (1, 0) for draw in (1, 0)]
    log.append(rows)
    log.settle({"b": 0, "a": 1})
    assert [r.key for r in log.rows()] == [(p, m, d) for p in "ba" for m in (0, 1) for d in (0, 1)]


def test_counting_takes_no_broken_line_and_no_key_twice(log: Log[Record]):
    log.append([record(0), record(1)])
    assert log.count_whole() == 2
    log.append([record(1)])
    with pytest.raises(StoreError, match="1 keys are there twice"):
        log.count_whole()
    log.path.write_bytes(log.path.read_bytes()[:-5])
    with pytest.raises(StoreError, match="line 3 is broken or torn"):
        log.count_whole()


def test_texts_that_rows_have_in_common_are_in_memory_once(log: Log[Record], tmp_path: Path):
    log.append([replace(record(0, "one"), failure="no room"), replace(record(1, "two"), graded="tw", failure="no room")])
    one, two = log.rows()
    assert one.graded is one.raw
    assert (two.raw, two.graded) == ("two", "tw")
    assert one.failure is two.failure
    assert one.finish is two.finish
    assert one.problem is two.problem


def test_lines_longer_than_the_look_back_are_recognised(log: Log[Record]):
    long = random.Random(0).choices("abc\n", k=200_000)
    log.append([record(0, "".join(long))])
    log.append([record(1)])
    log.path.write_bytes(log.path.read_bytes()[:-5])
    log.append([record(1)])
    assert [r.draw for r in log.rows()] == [0, 1]
