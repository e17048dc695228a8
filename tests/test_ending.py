"""The line that ends a run, and the exit code of runs in which nothing could be judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import SANDBOX, Call, Done
from spa_bench.publish.show import ending
from spa_bench.runs.folder import RunFolder, open_run


@pytest.fixture
def score(call: Call, three: Path, tmp_path: Path) -> Call:
    """`score` of the given answers, one for each of the three problems."""

    def called(*answers: object) -> Done:
        names = [json.loads(line)["task_id"] for line in (tmp_path / "three.jsonl").read_text().splitlines()]
        file = tmp_path / "answers.jsonl"
        rows = [{"task_id": name, "solution": answer} for name, answer in zip(names, answers, strict=True)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return call("score", "--task", three, "--samples", file, "--out", tmp_path / "runs", "--sandbox", SANDBOX)

    return called


def test_the_last_line_says_why_answers_were_refused(score: Call):
    done = score("", "def f(): pass\n", "  ")
    assert done.code == 0, done.err
    assert "2 refused: the answer is empty" in done.out.splitlines()[-1]


def test_a_run_in_which_nothing_was_judged_is_no_success(score: Call):
    done = score("", "", "\n")
    assert done.code == 1
    assert "3 refused: the answer is empty" in done.out.splitlines()[-1]
    last = done.err.splitlines()[-1]
    assert "every answer was refused, so nothing was judged; see why: spa-bench show " in last


def test_nothing_is_said_of_refusals_where_there_are_none(score: Call):
    done = score("def f(): pass\n", "x = 1\n", "y = 2\n")
    assert done.code == 0
    assert "refused" not in done.out + done.err


def test_many_reasons_of_refusals_are_counted(score: Call, tmp_path: Path):
    assert score("", "", "").code == 1
    folder = open_run(next((tmp_path / "runs").iterdir()))
    assert _refused_for("abbccc", folder) == ["3 refused: c", "2 refused: b", "1 refused: a"]
    named = ["1 refused: a", "1 refused: b", "1 refused: c"]
    assert _refused_for("abcd", folder) == [*named, "1 refused: d"]
    assert _refused_for("abcdef", folder) == [*named, "3 refused for 3 more reasons (grades.jsonl)"]


def _refused_for(reasons: str, folder: RunFolder) -> list[str]:
    """What the line that ends the run of `folder` says behind the verdicts if its answers were refused for `reasons`."""
    first = folder.grade_log.rows()[0]
    folder.grade_log.replace(replace(first, draw=draw, message=why) for draw, why in enumerate(reasons))
    return ending(folder).partition("  (")[0].split("; ")[1:]
