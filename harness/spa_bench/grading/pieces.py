"""The tests of one slow problem, split over several workers, where this cannot change the verdict.

Each suite runs in a fresh process, and a program could keep something from one call to the next. So a program is split only
where its text shows that it cannot (`keeps_nothing`), and only a program that passes all pieces is judged by them: of a failure
the first piece alone decides, which ran as the whole would have; otherwise the whole runs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from spa_bench.grading.ends import TOTAL_SECONDS

Job = dict[str, Any]

LEAST_SECONDS = 1.0  # CPU time of the reference: a shorter job is never split
_MODULES = {"math", "cmath", "typing", "collections", "itertools", "heapq", "bisect", "string", "re", "fractions"}
_MODULES |= {"functools", "copy", "statistics", "__future__"}
_REFUSED_NAMES = {
    "globals", "locals", "vars", "setattr", "delattr", "getattr", "exec", "eval", "compile", "open", "input", "id", "hash",
    "dir", "breakpoint", "exit", "quit", "memoryview", "type", "super", "object",
}  # fmt: skip
# what these modules offer that is remembered from call to call; through the modules that they import anything is in reach
_REMEMBERS = {"dispatch_table", "register", "update_wrapper", "wraps", "overload", "no_type_check", "no_type_check_decorator"}
_BEYOND = (_REMEMBERS | sys.stdlib_module_names | {"stdlib_re"}) - _MODULES
_CONSTANT = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.expr_context)


def keeps_nothing(source: str) -> bool:
    """Whether the text of a program shows that no call of its functions can see an earlier one.

    True only for programs of imports of some pure modules, constants, and functions that assign nothing but their own names
    and parts of values. Everything else counts as keeping something: classes, decorators, `global`, attributes that are set,
    names with an underscore in front, defaults that can be changed, module-level values other than constants, and modules
    that are reached through others.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    top = all(_is_pure_statement(statement) for statement in tree.body)
    return top and not any(_may_keep(node) for node in ast.walk(tree))


def _is_pure_statement(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(isinstance(target, ast.Name) for target in targets) and (node.value is None or _is_constant(node.value))
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Pass)


def _is_constant(node: ast.expr) -> bool:
    return all(isinstance(part, _CONSTANT) for part in ast.walk(node))


def _may_keep(node: ast.AST) -> bool:
    """Whether what this node does could outlive a call."""
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] not in _MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        beyond = any(alias.name in _BEYOND for alias in node.names)
        return beyond or node.level > 0 or (node.module or "").partition(".")[0] not in _MODULES
    if isinstance(node, ast.Global | ast.Nonlocal | ast.ClassDef | ast.AsyncFunctionDef | ast.Await):
        return True
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        decorated = isinstance(node, ast.FunctionDef) and bool(node.decorator_list)
        return decorated or not all(map(_is_constant, defaults))
    if isinstance(node, ast.Attribute):
        return node.attr.startswith("_") or node.attr in _BEYOND or not isinstance(node.ctx, ast.Load)
    return isinstance(node, ast.Name) and (node.id in _REFUSED_NAMES | _REMEMBERS or node.id.startswith("__"))


def split(job: Job, times: Sequence[Sequence[float]], count: int) -> list[Job]:
    """About `count` jobs that together do what `job` does; `times` are the CPU seconds of each call of each of its suites."""
    share = sum(map(sum, times)) / count
    pieces: list[list[dict[str, Any]]] = [[]]
    used = 0.0
    for place, seconds in zip(job["suites"], times, strict=True):
        start = 0
        for call, second in enumerate(seconds):
            if used and used + second > 1.01 * share:
                if call > start:
                    pieces[-1].append({**place, "from": start, "to": call})
                pieces.append([])
                start, used = call, 0.0
            used += second
        pieces[-1].append({**place, "from": start, "to": len(seconds)})
    return [{**job, "suites": places, "piece": True} for places in pieces]


@dataclass
class Whole:
    """The answers to the pieces of one job."""

    count: int  # of pieces
    _passed: int = field(default=0, init=False)
    _cpu: float = field(default=0.0, init=False)
    _over: bool = field(default=False, init=False)

    def add(self, place: int, answer: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
        """Take the answer to piece `place`. Gives that to the whole once it is known, or None where the whole must run."""
        self._cpu += answer.pop("cpu", 0.0)
        passed = answer.get("verdict") == "passed"
        self._passed += passed
        if self._over:
            return
        if not passed:
            self._over = True
            yield answer if place == 0 and "verdict" in answer else None
        elif self._passed == self.count:
            self._over = True
            yield answer if self._cpu < 0.9 * TOTAL_SECONDS else None  # all calls of a suite have a limit together
