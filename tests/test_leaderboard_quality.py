"""A board warns where samplers of different quality are compared, and says who measured a row where boards mix measurers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from doubles import Call
from made_up import made_up
from spa_bench.compare.leaderboard import as_csv, build_rows, check, find_results, markdown, marked, save, save_all
from spa_bench.compare.leaderboard.quality import quality_line
from spa_bench.errors import UsageError

OURS, THEIRS = "spa-bench", "A. Person | <b>x</b> [lab](https://x.test)"


def _board(*qualities: float) -> list[Any]:
    return [made_up(f"s{i}", quality=quality, spread=0.5, seed=i) for i, quality in enumerate(qualities)]


def test_rows_of_different_quality_are_named_in_one_line():
    rows = build_rows(_board(0.6, 0.6, 0.2))
    line = quality_line(rows)
    assert line.startswith("pass@1 of s2 is resolved below the best, so that")
    assert "\n" not in line
    [warned] = [x for x in markdown(rows, reference=None, command="x").splitlines() if x.startswith("**Different quality**")]
    assert warned == f"**Different quality**: {line}"


@pytest.mark.parametrize("board", [_board(0.6), _board(0.6, 0.6)])
def test_rows_of_equal_quality_and_a_single_one_are_not_warned_of(board: list[Any]):
    rows = build_rows(board)
    assert quality_line(rows) == ""
    assert "Different quality" not in markdown(rows, reference=None, command="x")


def test_a_line_names_at_most_six_rows():
    line = quality_line(build_rows(_board(0.8, *[0.2] * 8)))
    assert "and 2 more is resolved" in line


@pytest.mark.parametrize(("qualities", "warned"), [((0.6, 0.2), True), ((0.6, 0.6), False)])
def test_the_page_and_the_site_warn_too(qualities: tuple[float, float], warned: bool, tmp_path: Path, call: Call):
    pytest.importorskip("altair")
    save_all(_board(*qualities), tmp_path / "results" / "t.json")
    assert call("report", tmp_path / "results", "--out", tmp_path / "page").code == 0
    assert call("report", tmp_path / "results", "--site", "-o", tmp_path / "site").code == 0
    for page in (tmp_path / "page" / "index.html", tmp_path / "site" / "index.html", tmp_path / "site" / "t.html"):
        assert ("<strong>Different quality</strong>: pass@1 of s1" in page.read_text()) == warned, page


# who measured --------------------------------------------------------------------------------------------------------


def test_who_measured_is_saved_and_stays_when_it_is_saved_again(tmp_path: Path, call: Call):
    file = save(made_up("wide", quality=0.6, spread=0.9), tmp_path / "runs")
    done = call("leaderboard", file, "--save", tmp_path / "results", "--measured-by", THEIRS)
    assert done.code == 0, done.err
    [path] = (tmp_path / "results").iterdir()
    assert check(path) == []
    assert json.loads(path.read_text())["measured_by"] == THEIRS
    assert json.loads(call("leaderboard", path, "--json").out)[0]["measured_by"] == THEIRS
    assert [result["measured_by"] for result in find_results([file, path])] == [THEIRS]  # the one that says it counts
    done = call("leaderboard", path, "--save", tmp_path / "again", "--measured-by", OURS)
    assert done.code == 2
    assert "wide on t was measured by 'A. Person" in done.err


@pytest.mark.parametrize("line", ["", " ", "two\nlines", "x" * 201, "\x1b[31m"])
def test_only_one_printable_line_says_who_measured(line: str):
    with pytest.raises(
        UsageError, match=r"--measured-by is .*; it takes one line of printable text, of at most 200 characters"
    ):
        marked([made_up("wide", quality=0.6, spread=0.9)], line)


def test_measured_by_needs_save(tmp_path: Path, call: Call):
    file = save(made_up("wide", quality=0.6, spread=0.9), tmp_path)
    done = call("leaderboard", file, "--measured-by", "me")
    assert (done.code, done.err) == (2, "spa-bench: --measured-by stands in the files that --save writes; give --save too\n")


def test_a_line_that_is_too_long_is_a_fault_of_a_file(tmp_path: Path):
    result = {**made_up("wide", quality=0.6, spread=0.9), "measured_by": "x" * 201}
    assert any("measured_by has 201 characters" in fault for fault in check(save(result, tmp_path)))


def test_a_board_says_who_measured_in_a_column_only_where_rows_differ_in_it():
    one, two = _board(0.6, 0.5)
    page = markdown(build_rows(marked([one, two], OURS)), reference=None, command="x")
    assert "Measured by spa-bench." in page
    assert "measured by" not in page
    mixed = markdown(build_rows([*marked([one], OURS), *marked([two], THEIRS)]), reference=None, command="x")
    head = next(line for line in mixed.splitlines() if line.startswith("| sampler"))
    assert head.rstrip(" |").endswith("measured by")
    assert "A. Person \\| &lt;b&gt;x&lt;/b&gt; [lab]\\(https://x.test)" in mixed  # neither a cell, nor a tag, nor a link
    half = markdown(build_rows([*marked([one], OURS), two]), reference=None, command="x")
    assert "| not said" in half
    lines = csv.DictReader(io.StringIO(as_csv(build_rows([*marked([one], OURS), two]))))
    assert {line["sampler"]: line["measured_by"] for line in lines} == {"s0": OURS, "s1": ""}


def test_pages_show_who_measured_escaped(tmp_path: Path, call: Call):
    pytest.importorskip("altair")
    one, two = _board(0.6, 0.5)
    save_all([*marked([one], OURS), *marked([two], THEIRS)], tmp_path / "results" / "t.json")
    assert call("report", tmp_path / "results", "--site", "-o", tmp_path / "site").code == 0
    for page in (tmp_path / "site" / "index.html", tmp_path / "site" / "t.html"):
        text = page.read_text()
        assert ">measured by</th>" in text
        assert "&lt;b&gt;" in text
        assert "<b>x</b>" not in text
