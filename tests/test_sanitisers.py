"""evalplus' sanitiser beside ours in a run: how many answers differ, and pass@1 with each."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles import mock_run
from spa_bench.cards.task import load_task_card
from spa_bench.compare.leaderboard import build_rows, find_results, markdown
from spa_bench.errors import CardError
from spa_bench.publish.show import ending
from spa_bench.runs import sanitisers
from spa_bench.runs.job import by_rules
from spa_bench.runs.reopen import task_of
from spa_bench.runs.verify import verify

NAMES = ("decorated", "plain", "wrong")
ANSWERS = {
    "decorated": "    return g(x)\n\nfrom functools import cache\n\n@cache\ndef g(x):\n    return x + 1\n",
    "plain": "    return x + 1  # as asked\n",
    "wrong": "    return x\n",
}


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card of three problems that stand where HumanEval's stand."""
    pytest.importorskip("evalplus")
    tests = "def check(candidate):\n    assert candidate(1) == 2\n"
    rows = [
        {"task_id": n, "prompt": f'def {n}(x):\n    """x + 1."""\n', "entry_point": n, "test": tests, "canonical_solution": ""}
        for n in NAMES
    ]
    data = tmp_path / "problems.jsonl"
    data.write_text("".join(json.dumps({**row, "canonical_solution": "    return x + 1\n"}) + "\n" for row in rows))
    monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(data))
    place = tmp_path / "stand-in.toml"
    place.write_text('description = "stand-in"\nproblems = "humaneval"\nversion = "1"\nmax_new_tokens = 40\n')
    return place


def test_a_run_says_in_how_many_answers_the_sanitisers_differ_and_both_values(card: Path, sandbox: Any, tmp_path: Path):
    folder = mock_run(tmp_path / "runs", card, lambda request: ANSWERS[request.problem_id], n=1)
    content = folder.read_json("sanitisers.json")
    assert content is not None
    assert (content["answers"], content["compared"], content["differ"]) == (3, 3, 1)
    assert content["pass@1"] == {"program": pytest.approx(2 / 3), "evalplus": pytest.approx(1 / 3)}
    [row] = content["verdicts"]
    assert (row["problem"], row["program"], row["evalplus"]) == ("decorated", "passed", "raised")
    assert "another program for 1 of 3 answers: pass@1 0.6667 with the default one, 0.3333 with evalplus'" in ending(folder)
    assert verify(folder, task_of(folder)) == []


def test_more_answers_than_time_allows_are_counted_as_not_compared(
    card: Path, sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = 8**2 * len(ANSWERS[NAMES[0]])  # 8 lines
    monkeypatch.setattr(sanitisers, "_BUDGET", first + 20)
    folder = mock_run(tmp_path / "runs", card, lambda request: ANSWERS[request.problem_id], n=1)
    content = folder.read_json("sanitisers.json")
    assert content is not None
    assert (content["compared"], content["differ"], content["pass@1"]["program"]) == (1, 1, 1.0)
    assert "for 1 of the first 1 of 3 answers: pass@1 1.0000" in ending(folder)


@pytest.fixture
def usual_depth() -> Iterator[None]:
    """Python's own limit of recursion, which libraries of other tests may have raised."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("usual_depth")
def test_programs_that_are_nested_too_deep_are_compared_as_they_are():
    chain = "def f(x):\n    if x == 0:\n        return 0\n" + "    elif x == 1:\n        return 1\n" * 300
    with pytest.raises(RecursionError):
        ast.dump(ast.parse(chain))
    assert sanitisers._tree(chain) == chain
    assert sanitisers._tree("x = 1  # one\n") == sanitisers._tree("x=1")


@pytest.mark.parametrize("line", ['sanitiser = "stop"', 'sanitiser = "evalplus"'])
def test_runs_with_another_sanitiser_are_not_compared(card: Path, sandbox: Any, tmp_path: Path, line: str):
    card.write_text(card.read_text() + line + "\n")
    folder = mock_run(tmp_path / "runs", card, lambda request: ANSWERS[request.problem_id], n=1)
    assert folder.read_json("sanitisers.json") is None


def test_a_page_says_where_all_its_rows_are_of_evalplus_sanitiser(card: Path, sandbox: Any, tmp_path: Path):
    mock_run(tmp_path / "ours", card, lambda request: ANSWERS[request.problem_id], n=1)
    card.write_text(card.read_text() + 'sanitiser = "evalplus"\n')
    mock_run(tmp_path / "theirs", card, lambda request: ANSWERS[request.problem_id], n=1)
    said = "Answers were sanitised as by evalplus (task.sanitiser=evalplus)."
    for places, wanted in ((["ours"], False), (["theirs"], True), (["ours", "theirs"], False)):
        rows = build_rows(find_results([tmp_path / place for place in places]))
        assert (said in markdown(rows, reference=None, command="x")) == wanted


def test_the_rules_of_evalplus_go_with_its_sanitiser_unless_another_is_named(card: Path):
    ours = load_task_card(str(card))
    assert ours.sanitiser == "program"
    assert by_rules(ours, "default", {}) == ours
    assert by_rules(ours, "evalplus", {}).sanitiser == "evalplus"
    assert by_rules(ours, "evalplus", {"sanitiser": "program"}) == ours
    cut = load_task_card(str(card), {"sanitiser": "stop"})
    assert by_rules(cut, "evalplus", {"sanitiser": "stop"}) == cut


def test_an_unknown_sanitiser_is_one_line(card: Path):
    with pytest.raises(CardError, match="did you mean 'program'"):
        load_task_card(str(card), {"sanitiser": "programm"})
