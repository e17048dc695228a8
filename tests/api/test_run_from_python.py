"""`run` and `score`: the keywords reach the run, answers are taken in every form, and a script needs no guard."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import spa_bench as sb
from doubles import RIGHT, SANDBOX, WRONG, Call
from spa_bench.api.run import RunKeywords, run, score
from spa_bench.api.values import as_words
from spa_bench.runs.options import RunOptions, ScoreOptions

# what the options of a run are called here, where the name differs; those that objects and dataclasses of options hold
KNOWN = {"seeds": "seed", "rules": "grading", "loading": "device", "judge": "sandbox", "executor": "workers"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# run -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "function"), [(RunOptions, run), (ScoreOptions, score)])
def test_every_option_of_a_command_is_a_keyword(options: Any, function: Any):
    keywords = inspect.signature(function).parameters
    assert {KNOWN.get(field.name, field.name) for field in fields(options)} - keywords.keys() == set()


def test_the_keywords_for_type_checkers_are_those_of_run():
    declared = [name for name, one in inspect.signature(run).parameters.items() if one.kind is one.KEYWORD_ONLY]
    assert [name for name in declared if name != "seed"] == list(RunKeywords.__annotations__)


def test_a_run_is_that_of_the_command_with_the_same_options(call: Call):
    options = {"decoding.temperature": 0.5, "task": {"seconds": 2.0}}
    made = sb.run("base", "mini-code", engine="mock", n=2, seed=3, limit=2, settings=options, until="generate", quiet=True)
    words = ["--set", "decoding.temperature=0.5", "--set", "task.seconds=2.0", "--until", "generate"]
    done = call(
        "run", "--sampler", "base", "--task", "mini-code", "--engine", "mock", "--n", 2, "--seed", 3, "--limit", 2, *words
    )  # fmt: skip
    assert done.out.strip() == str(made.path)
    assert made.spec["sampler"]["decoding"]["temperature"] == 0.5


def test_settings_become_the_words_of_the_command_line():
    assert as_words({"a.b": 1, "c": {"d": "x y", "e": [1, 2]}, "f": True, "g": 1e-05}) == (
        "a.b=1", 'c.d="x y"', "c.e=[1, 2]", "f=true", "g=1e-05",
    )  # fmt: skip


def test_quiet_prints_nothing_and_otherwise_the_plan_is_on_stderr(capsys: pytest.CaptureFixture[str]):
    sb.run("base", "mini-code", engine="mock", n=1, limit=1, until="generate", quiet=True)
    assert capsys.readouterr() == ("", "")
    sb.run("base", "mini-code", engine="mock", n=1, limit=1, until="generate", out="other")
    said = capsys.readouterr()
    assert said.out == ""
    assert "samples: 1 problems × n = 1 × 1 seed = 1" in said.err


def test_a_run_that_was_stopped_is_resumed(three: Path, sandbox: object):
    asked = []

    def answer(request: sb.Request) -> str:
        """Stops in the middle, the first time."""
        asked.append(request.key)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return RIGHT[request.problem_id]

    model = sb.FunctionModel(answer, "answers 1")
    with pytest.raises(KeyboardInterrupt):
        sb.run("base", three, model=model, n=2, sandbox=SANDBOX, quiet=True)
    done = sb.run("base", three, model=model, n=2, sandbox=SANDBOX, quiet=True)
    assert done.metrics["pass@1"].value == 1.0
    assert len(asked) < 12


# score ---------------------------------------------------------------------------------------------------------------

ROWS = [(problem, text) for problem in RIGHT for text in (RIGHT[problem], WRONG)]
FORMS: dict[str, Any] = {
    "mapping": {problem: [RIGHT[problem], WRONG] for problem in RIGHT},
    "records": [{"problem": problem, "text": text} for problem, text in ROWS],
    "completions": [{"task_id": problem, "completion": text} for problem, text in ROWS],
    "arrays": {problem: np.array([RIGHT[problem], WRONG]) for problem in RIGHT},
    "series of lists": pd.DataFrame(ROWS, columns=["problem", "text"]).groupby("problem").text.apply(list),
    "series of texts": pd.Series([text for _, text in ROWS], index=[problem for problem, _ in ROWS]),
    "frame": pd.DataFrame(ROWS, columns=["problem", "text"]),
    "frame of completions": pd.DataFrame(ROWS, columns=["task_id", "completion"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_answers_in_every_form_are_scored_alike(form: str, three: Path, sandbox: object):
    run = sb.score(three, FORMS[form], name="mine", sandbox=SANDBOX, quiet=True)
    table = run.samples()
    assert dict(zip(zip(table.problem, table.draw, strict=True), table.verdict, strict=True)) == {
        (problem, draw): ["passed", "wrong"][draw] for problem in RIGHT for draw in (0, 1)
    }
    assert (run.sampler, run.n) == ("mine", 2)


def test_a_file_and_the_same_values_in_python_are_the_same_answers(three: Path, sandbox: object):
    rows = "".join(json.dumps({"task_id": problem, "completion": text}) + "\n" for problem, text in ROWS)
    Path("mine.jsonl").write_text(rows)
    one = sb.score(three, "mine.jsonl", sandbox=SANDBOX, quiet=True)
    other = sb.score(three, FORMS["completions"], name="mine", sandbox=SANDBOX, quiet=True)
    assert one.path == other.path
    assert sb.score(three, ["mine.jsonl"], sandbox=SANDBOX, quiet=True).path == one.path


def test_a_text_that_is_not_indented_is_a_whole_program(three: Path, sandbox: object):
    program = {"three/add": ["def add(a, b):\n    return a + b\n"], "three/double": ["def double(x):\n    return 2 * x\n"]}
    run = sb.score(three, program, partial=True, sandbox=SANDBOX, quiet=True)
    assert set(run.samples().verdict) == {"passed"}
    assert run.sampler == "samples (2 of 3 problems)"


def test_samples_of_a_run_can_be_scored_again(three: Path, sandbox: object):
    first = sb.score(three, FORMS["mapping"], name="first", sandbox=SANDBOX, quiet=True)
    again = sb.score(three, first.samples(), name="again", sandbox=SANDBOX, quiet=True)
    assert again.samples().verdict.tolist() == first.samples().verdict.tolist()


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({}, "samples is empty; give one answer to a problem at least"),
        ([], "samples is empty; give one answer to a problem at least"),
        (5, "samples is 5; give a path, several paths, {problem: [text, ...]}, a Series of texts by problem, a list "),
        ({"three/add": 5}, "samples['three/add'] is 5; it must be a text or a list of texts"),
        ({"three/add": b"x"}, "samples['three/add'] is b'x'; it must be a text or a list of texts"),
        (pd.Series({"three/add": None}), "samples['three/add'] is None; it must be a text or a list of texts"),
        (
            pd.DataFrame([["three/add", "x", "y"]], columns=["problem", "text", "text"]),
            "the DataFrame has several columns text; leave one of them",
        ),
        ({"three/add": [None]}, "samples, line 1: text is null; an answer without text is "),
        ({"three/ad": ["x"]}, "samples, line 1: task three has no problem 'three/ad'; did you mean 'three/add'?"),
        ({"three/add": ["x"]}, "samples has no sample for three/double (2 of 3 problems are missing)"),
        ([{"problem": "three/add"}], "samples[0] lacks text, completion or solution; it has problem"),
        ([{"text": "x"}], "samples[0] lacks problem; it has text"),
        ([{"problem": "three/add", "text": "x"}, 7], "samples[1] is 7; a record has a problem and a text"),
        (
            [{"problem": "three/add", "text": object}],
            "samples[0] is {'task_id': 'three/add', 'text': <class 'object'>}, which ",
        ),
        ([{"problem": 3, "text": "x"}], "samples, line 1: task_id is the number 3; the ids of task three are texts"),
        (pd.DataFrame({"id": ["a"]}), "the DataFrame lacks a column problem; it has id"),
        (pd.DataFrame({"problem": ["three/add"], "text": [float("nan")]}), "samples, line 1: text must be one text; got float"),
        ("nowhere.jsonl", "cannot read the samples in nowhere.jsonl: No such file or directory"),
    ],
)
def test_answers_that_cannot_be_taken_are_one_line(samples: Any, said: str, three: Path):
    with pytest.raises(sb.SpaBenchError) as error:
        sb.score(three, samples, sandbox=SANDBOX, quiet=True)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


# scripts -------------------------------------------------------------------------------------------------------------

SCRIPT = """
print("the script runs")
import spa_bench as sb

class Numbers(sb.TextTask):
    def is_right(self, problem, answer):
        return answer.startswith(problem.reference.strip())

problems = [sb.Problem(id=str(k), prompt=f"After {k} comes", reference=f" {k + 1}") for k in range(40)]
task = Numbers(sb.TaskCard(name="numbers", description="x", version="1", max_new_tokens=8), problems)
answers = {str(k): [f"{k + 1} and {draw}" for draw in range(25)] for k in range(40)}
run = sb.score(task, answers, quiet=True)
print(run.metrics["pass@1"].value, run.metrics["vendi"].value > 1)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once_where_measuring_starts_processes():
    Path("script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["the script runs", "1.0 True"]
    assert done.stderr == ""
