"""docs/reference/errors.md: what the mistakes in the tests are answered with, and below it every message that the code has.

Each mistake is made, and its message noted; the messages of the second part are read from the code.

`scripts/errors` writes the page; tests/test_error_page.py fails where it is stale.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "errors.md"
sys.path[:0] = [str(place) for place in (ROOT / "tests", ROOT / "tests" / "tasks") if str(place) not in sys.path]
HEAD = """\
# Errors

What spa-bench says to a mistake: one line on stderr, `spa-bench: ` and what is below, and exit code 2, without a traceback.
Nothing is written and nothing is computed before it. The tests make each of these mistakes, and this page is made from
what they saw (`scripts/errors`; a test fails where it is stale).

Exit code 70 is a fault of spa-bench. It writes a file `spa-bench-fault-DATE-TIME-PID.txt` beside the run, else in the current
folder, else among temporary files, and its last line says where. The file has versions, the command line without secrets,
the run's spec and the traceback; it has no message of an exception, no local values, no prompts and no answers. Attach it to a
report. [The command line](commands.md#exit-codes) has the other exit codes.
"""
ALL = """\
# Every message

All errors that a user can cause, by the folder of the code that finds them. Words in capitals stand for what was seen; `…`
stands for a text that depends on it.
"""
FOLDERS = {
    "models": "Models and engines",
    "samplers": "Samplers",
    "spa": "Training data, attribution, partitions, adapters",
    "tasks": "Tasks",
    "grading": "Grading",
    "sandbox": "Sandboxes",
    "executors": "Workers and clusters",
    "metrics": "Metrics",
    "runs": "Runs and their folders",
    "datasets": "Descriptions of data sets",
    "compare": "Comparing: leaderboards, gate, studies",
    "publish": "Reports, pages, exports, trackers",
    "cards": "Cards",
    "api": "From Python",
    "cli": "Command lines",
    "": "Elsewhere",
}
KINDS = {"UsageError", "CardError", "DataError", "ModelError", "SandboxError", "StoreError"}
THREE = [("add", "a, b", "a + b"), ("double", "x", "2 * x"), ("last", "xs", "xs[-1]")]


def page(work: Path) -> str:
    """The text of docs/reference/errors.md; the mistakes are made in the empty folder `work`."""
    from test_mistakes import GROUPS

    parts = [HEAD]
    with _alone(work):
        for title, rows in GROUPS.items():
            lines = [(f"spa-bench {line}".strip(), _said(shlex.split(line))) for line, *_ in rows]
            parts.append(_table(title, "command", lines, work))
        parts.append(_table("Files of samples (`score`)", "the file holds", list(_samples(work)), work))
    title = "Result files (`leaderboard --submit`: exit code 1, a line for each fault)"
    parts.append(_table(title, "the file has", list(_results(work)), work))
    return "\n".join([*parts, ALL, *_messages()])


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """In `work`, with the files that the mistakes name, as a user without a network."""
    (work / "empty").mkdir()
    (work / "afile").write_text("x\n")
    (work / "bad.json").write_text("{")
    settings = {"SPA_BENCH_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    with mock.patch.dict(os.environ, settings), contextlib.chdir(work):
        for name in ("HUMANEVAL_OVERRIDE_PATH", "MBPP_OVERRIDE_PATH", "SPA_BENCH_DATA"):
            os.environ.pop(name, None)
        yield


def _said(words: list[str]) -> str:
    """The message of a command that ends with exit code 2."""
    from spa_bench.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = main(words)
        except SystemExit as end:
            code = end.code
    assert code == 2, f"{words} ends with {code}"
    return err.getvalue().strip().removeprefix("spa-bench: ")


def _samples(work: Path) -> Iterator[tuple[str, str]]:
    from test_sample_shapes import UNREAD

    from spa_bench.cards.task import load_task_card
    from spa_bench.errors import DataError
    from spa_bench.runs.import_samples import read_samples
    from spa_bench.runs.job import load_task
    from spa_bench.tasks.base import TextsTask

    rows = [
        {
            "task_id": f"three/{name}",
            "prompt": f'def {name}({arguments}):\n    """Return {result}."""\n',
            "entry_point": name,
            "test": "def check(candidate):\n    pass\n",
            "canonical_solution": f"    return {result}\n",
        }
        for name, arguments, result in THREE
    ]
    (work / "three.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (work / "three.toml").write_text('description = ""\nfile = "three.jsonl"\nversion = "1"\n')
    task = load_task(load_task_card(str(work / "three.toml")))
    assert isinstance(task, TextsTask)
    for content, _ in UNREAD:
        (work / "samples.json").write_text(json.dumps(content))
        try:
            read_samples(work / "samples.json", task, cut=False)
        except DataError as error:
            yield json.dumps(content), str(error)


def _results(work: Path) -> Iterator[tuple[str, str]]:
    from spa_bench.compare.leaderboard import check
    from test_leaderboard_check import CHANGES, UNTABLED, _changed

    for name, change in {**UNTABLED, **CHANGES}.items():
        folder = work / "results" / str(len(list((work / "results").glob("*"))))
        folder.mkdir(parents=True)
        path, wanted = _changed(change, folder)
        yield name, next(fault for fault in check(path) if wanted in fault).replace(str(path), "the file")


def _table(title: str, what: str, rows: list[tuple[str, str]], work: Path) -> str:
    lines = [f"## {title}", "", f"| {what} | message | what to do |", "|---|---|---|"]
    for did, message in rows:
        said = message.replace(f"{work}/", "").replace(str(work), ".").replace(str(ROOT) + "/", "")
        first, _, then = said.partition("; ")
        lines.append(f"| {_code(did)} | {_cell(first)} | {_cell(then)} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text.startswith(("spa-bench", "[", "{")) else _cell(text)


def _cell(text: str) -> str:
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, f"\\{sign}")
    return text


def _messages() -> Iterator[str]:
    """A table of messages for each of FOLDERS."""
    package = ROOT / "harness" / "spa_bench"
    found: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    for path in package.rglob("*.py"):
        folder = path.relative_to(package).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
                texts = {text for text in _templates(node.args[0]) if re.search("[a-z]{3}", text)}
                found[folder if folder in FOLDERS else ""] |= texts
    for folder, texts in found.items():
        lines = [f"## {FOLDERS[folder]}", "", "| message | what to do |", "|---|---|"]
        for text in sorted(texts, key=lambda text: (text.lower(), text)):
            first, _, then = text.partition("; ")
            lines.append(f"| {_cell(first)} | {_cell(then)} |")
        yield "\n".join(lines) + "\n"


def _templates(node: ast.expr) -> list[str]:
    """The texts that an expression can give, with words in capitals for what is not known."""
    if isinstance(node, ast.IfExp):
        return [*_templates(node.body), *_templates(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [first + second for first in _templates(node.left) for second in _templates(node.right)]
    if isinstance(node, ast.JoinedStr):
        return [" ".join("".join(map(_part, node.values)).split())]
    return [_part(node)]


def _part(node: ast.expr) -> str:
    """The text of a part of a message: a word in capitals for the name of a value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return f"'{_part(node.value)}'" if node.conversion == ord("r") else _part(node.value)
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        return name.strip("_").replace("_", " ").upper()
    if isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.args[0], ast.Name | ast.Attribute):
        return _part(node.args[0])
    return "…"
