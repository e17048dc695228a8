"""Whether the reference solution of a problem passes its own tests: where it does not, no verdict on the problem means much.

Tests that are code are run with their reference once, and the outcome is kept in the cache. Tests that are data expect what the
reference returns; it fails them where that does not equal itself, as an object of a class of its own.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path

from spa_bench.grading.base import Check, Outcome, Program
from spa_bench.grading.suites import FORMAT, put_cached
from spa_bench.types import Verdict

_NAMED = 12  # problems that are named with their reasons; of the others there is the name alone


def has_reference(program: Program) -> bool:
    """Whether the helpers of tests that are code hold a solution, and not just the head of the function."""
    if not isinstance(program.tests, Check):
        return False
    try:
        tree = ast.parse(program.tests.helpers)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == program.entry_point:
            return any(not _says_nothing(statement) for statement in node.body)
    return bool(tree.body)


def _says_nothing(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def path_of(folder: Path, program: Program, place: Sequence[object]) -> Path:
    """The file of the outcome of the program's reference, in the cache folder `folder`.

    `place` says where it runs: the sandbox, its limits, and the packages that can be imported there.
    """
    assert isinstance(program.tests, Check)
    tests = program.tests
    parts = [FORMAT, tests.source, tests.helpers, tests.one_process, program.entry_point, program.seconds, *place]
    name = hashlib.blake2b(json.dumps([*parts, platform.python_version()]).encode(), digest_size=16).hexdigest()
    return folder / f"{name}.json"


def known(path: Path) -> str | None:
    """Why the reference does not pass, "" where it does; None where nobody knows."""
    try:
        doubt = json.loads(path.read_bytes())["doubt"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return doubt if isinstance(doubt, str) else None


def keep(path: Path, outcome: Outcome) -> str:
    """What `known` says from now on: the outcome is written, unless time ran out, which may be the machine's fault."""
    doubt = "" if outcome.verdict is Verdict.PASSED else f"{outcome.verdict}: {outcome.message}"
    if outcome.verdict is not Verdict.TIMEOUT:
        put_cached(path, json.dumps({"doubt": doubt}).encode())
    return doubt


def said(doubts: dict[str, str], problems: int) -> str:
    """One line about the problems in `doubts`, with the reason of each; `problems` counts all problems."""
    named = [f"{problem} ({why})" for problem, why in list(doubts.items())[:_NAMED]]
    named += list(doubts)[_NAMED:]
    return (
        f"the reference solutions of {len(doubts)} of {problems} problems do not pass their own tests, so verdicts on these "
        f"problems mean little: {'; '.join(named)}"
    )
