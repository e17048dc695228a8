"""What people score: the whole command under both rules of grading gives each case its right value or mark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from doubles import Call
from spa_bench.runs.folder import RunFolder, open_run

RULES = ("default", "evalplus")
TESTS = {
    "k/ordered": (
        'from collections import OrderedDict\n\ndef f(xs):\n    """The items, in order, each with 1."""\n',
        "    return OrderedDict((x, 1) for x in {})\n",
        "from collections import OrderedDict as O\n"
        "def check(candidate):\n    assert candidate([2, 1]) == O([(2, 1), (1, 1)])\n",
    ),
    "k/class": (
        'class Bad(ValueError):\n    pass\n\ndef f(xs):\n    """Raise Bad."""\n',
        "    {}; raise Bad('no')\n",
        "def check(candidate):\n    try:\n        candidate([])\n    except Bad:\n        return\n    assert False\n",
    ),
    "k/doc": (
        'def f(xs):\n    """Do it."""\n',
        "    return {}\n",
        "def check(candidate):\n    assert candidate.__doc__ == 'Do it.' and candidate(1) == 1\n",
    ),
}
WRONG = {"k/ordered": "sorted(xs)", "k/class": "return", "k/doc": "2"}


class Scorer:
    """Scores samples of a task in a folder of this test's own, in the real sandbox."""

    def __init__(self, call: Call, folder: Path, sandbox: str):
        self._call, self.folder, self._sandbox = call, folder, sandbox

    def rows(self, name: str, rows: Sequence[dict[str, Any]]) -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def card(self, problems: Sequence[dict[str, Any]], *lines: str) -> Path:
        self.rows("p.jsonl", problems)
        card = self.folder / "p.toml"
        card.write_text("\n".join(['description = "p"', 'file = "p.jsonl"', 'version = "1"', "seconds = 2.0", *lines]) + "\n")
        return card

    def score(self, task: object, samples: Path, rules: str, *more: object) -> RunFolder:
        out = self.folder / f"{samples.stem}-{rules}"
        options = ["--sandbox", self._sandbox, "--grading", rules, "--out", out]
        ended = self._call("score", "--task", task, "--samples", samples, *options, *more)
        assert ended.code == 0, ended.err
        [path] = out.iterdir()
        checked = self._call("verify", path)
        assert (checked.code, checked.out.strip()) == (0, f"{path}: whole"), checked.err
        return open_run(path)


@pytest.fixture
def scorer(call: Call, tmp_path: Path, bwrap: str) -> Scorer:
    return Scorer(call, tmp_path, bwrap)


def ends(folder: RunFolder) -> dict[str, tuple[str, str]]:
    """The verdict and the mark of each problem's one answer."""
    return {grade.problem: (str(grade.verdict), grade.mark) for grade in folder.grade_log.rows()}


def value(folder: RunFolder, name: str) -> float | None:
    found: float | None = folder.metrics()["estimates"].get(name, {"value": None})["value"]
    return found


@pytest.mark.parametrize("rules", RULES)
def test_any_iterable_is_right_where_sets_are_compared(rules: str, scorer: Scorer, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("evalplus")
    problem = {
        "task_id": "Mbpp/2",
        "prompt": '"""\nThe shared items of two tuples.\n"""\n',
        "entry_point": "similar_elements",
        "canonical_solution": "\ndef similar_elements(a, b):\n    return tuple(set(a) & set(b))\n",
        "base_input": [[[3, 4, 5], [5, 7, 4]]],
        "plus_input": [[[1, 2], [2, 1]]],
        "atol": 0,
    }
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(scorer.rows("mbpp.jsonl", [problem])))
    right = [
        "import numpy as np\ndef similar_elements(a, b):\n    return np.intersect1d(a, b)\n",
        "def similar_elements(a, b):\n    return (x for x in a if x in b)\n",
        "def similar_elements(a, b):\n    return {x: 0 for x in a if x in b}.keys()\n",
        "def similar_elements(a, b):\n    return filter(b.__contains__, a)\n",
    ]
    wrong = "def similar_elements(a, b):\n    return (x for x in a)\n"
    samples = scorer.rows("s.jsonl", [{"task_id": "Mbpp/2", "solution": text} for text in (*right, wrong)])
    folder = scorer.score("mbpp", samples, rules, "--set", "task.sha256=")
    assert [str(g.verdict) for g in folder.grade_log.rows()] == ["passed"] * 4 + ["wrong"]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("together", [True, False], ids=["one process", "two"])
def test_tests_that_are_code_never_say_wrong_of_what_is_right(together: bool, rules: str, scorer: Scorer):
    argument = {"k/ordered": "xs", "k/class": "pass", "k/doc": "xs"}
    problems = [
        {"task_id": i, "prompt": prompt, "entry_point": "f", "test": tests, "canonical_solution": body.format(argument[i])}
        for i, (prompt, body, tests) in TESTS.items()
    ]
    card = scorer.card(problems, f"one_process = {str(together).lower()}")
    right, wrong = (
        scorer.rows(f"{name}.jsonl", [{"task_id": i, "completion": TESTS[i][1].format(text)} for i, text in given.items()])
        for name, given in (("right", argument), ("wrong", WRONG))
    )
    unproxied = ("passed", "one process") if together else ("refused", "unproxied")
    assert ends(scorer.score(card, right, rules)) == {"k/ordered": ("passed", ""), "k/class": unproxied, "k/doc": unproxied}
    found = ends(scorer.score(card, wrong, rules))
    assert found["k/ordered"] == found["k/class"] == ("wrong", "")
    assert found["k/doc"] == (("wrong", "one process") if together else ("refused", "unproxied"))


@pytest.mark.parametrize("rules", RULES)
def test_unequal_numbers_of_samples_have_no_value_for_larger_k(rules: str, scorer: Scorer):
    bodies = {f"p/{i}": f"    return x + {i}\n" for i in (1, 2, 3)}
    card = scorer.card(
        [
            {
                "task_id": name,
                "prompt": f'def f(x):\n    """x plus {name[-1]}."""\n',
                "entry_point": "f",
                "canonical_solution": body,
                "test": f"def check(candidate):\n    assert candidate(1) == {1 + int(name[-1])}\n",
            }
            for name, body in bodies.items()
        ]
    )
    texts = [*bodies.items(), ("p/2", "    return 0\n"), *[("p/3", "    return 0\n")] * 3]
    samples = scorer.rows("s.jsonl", [{"task_id": name, "completion": text} for name, text in reversed(texts)])
    folder = scorer.score(card, samples, rules)
    assert value(folder, "pass@1") == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    assert value(folder, "pass@2") is None


@pytest.mark.parametrize("rules", RULES)
def test_an_entry_point_is_called_by_the_name_that_python_reads(rules: str, scorer: Scorer):
    problem = {
        "task_id": "n/0",
        "prompt": 'def to_\u00b5m(x):\n    """Millimetres as micrometres."""\n',
        "entry_point": "to_\u00b5m",
        "canonical_solution": "    return 1000 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 2000\n",
    }
    samples = scorer.rows("s.jsonl", [{"task_id": "n/0", "completion": "    return 1000 * x\n"}])
    assert ends(scorer.score(scorer.card([problem]), samples, rules)) == {"n/0": ("passed", "")}
