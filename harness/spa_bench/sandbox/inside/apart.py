"""What tests that are code do, or look at, that does not reach a program in another process.

`Reading` reads the text of the tests: whether they compare identities, change what a program returned, or may change what the
program reads beside its arguments. Only then `Surroundings` compares, at each call, the modules, the environment, the output
and the settings of the interpreter with what they were before the tests.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import sys
from typing import Any

_IDENTITY = {"id", "is_", "is_not", "assertIs", "assertIsNot"}
_CAPTURES = {"assertLogs", "assertNoLogs", "addHandler", "addFilter", "capsys", "capfd", "caplog", "monkeypatch"}
_MUTATES = {
    "append", "extend", "insert", "pop", "popitem", "popleft", "appendleft", "extendleft", "rotate", "remove", "clear", "sort",
    "reverse", "update", "add", "discard", "setdefault", "move_to_end", "subtract", "intersection_update", "difference_update",
    "symmetric_difference_update", "shuffle", "heappush", "heappop", "heapify", "insort", "insort_left", "insort_right",
}  # fmt: skip
_SURROUNDINGS = {
    "patch", "mock", "setattr", "delattr", "environ", "putenv", "unsetenv", "chdir", "redirect_stdout", "redirect_stderr",
    "stdout", "stderr", "stdin", "warnings", "catch_warnings", "simplefilter", "filterwarnings", "getcontext", "setcontext",
    "localcontext", "setlocale", "setrecursionlimit", "set_int_max_str_digits", "globals", "vars", "__dict__", "modules",
    "reload", "seterr", "errstate", "exec", "eval", "import_module", "__import__", "tzset", "argv", "__setitem__",
}  # fmt: skip
_CATCH_STOP = {"StopIteration", "Exception", "BaseException"}
_MISSING = object()


class Reading:
    """What the text of tests says about them."""

    def __init__(self, source: str, entry_point: str):
        self.identity = self.captures = self.surroundings = self.mutates = self.catches_stop = False
        self.modules: set[str] = set()
        self._candidates = {"candidate", entry_point}
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # the tests will say so themselves
        nodes = list(ast.walk(tree))
        words = {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        words |= {a.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
        words |= {a.arg for n in nodes if isinstance(n, ast.arguments) for a in (*n.args, *n.kwonlyargs)}
        self.captures = bool(words & _CAPTURES)
        self.catches_stop = bool(words & _CATCH_STOP) or any(isinstance(n, ast.ExceptHandler) and n.type is None for n in nodes)
        self.identity = bool(words & _IDENTITY) or any(self._compares_identity(n) for n in nodes)
        self.surroundings = bool(words & _SURROUNDINGS) or any(_sets_attribute(n) for n in nodes)
        self.mutates = self._mutates(nodes)
        for node in nodes:
            if isinstance(node, ast.Import):
                self.modules |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                self.modules.add(node.module)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value[1:60]:
                self.modules.add(node.value.rpartition(".")[0])  # of mock.patch("module.name")

    def _mutates(self, nodes: list[ast.AST]) -> bool:
        """Whether something is changed in place that a program was given or has returned, as far as names tell."""
        called = {id(n.func) for n in nodes if isinstance(n, ast.Call)}
        handed_on = any(isinstance(n, ast.Name) and n.id in self._candidates and id(n) not in called for n in nodes)
        names: set[str] = set()
        for _ in range(3):  # x = candidate(a); y = x[0]
            for node in nodes:
                if isinstance(node, ast.Call) and self._reaches(node.func, set()):
                    names |= _names(*node.args, *(k.value for k in node.keywords))
                elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.For | ast.comprehension):
                    value = node.iter if isinstance(node, ast.For | ast.comprehension) else node.value
                    if value is not None and self._reaches(value, names):
                        names |= _names(*(node.targets if isinstance(node, ast.Assign) else [node.target]))
        changed = [target for node in nodes for target in _changed(node)]
        return bool(changed) and (handed_on or any(self._reaches(target, names) for target in changed))

    def _reaches(self, value: ast.AST, names: set[str]) -> bool:
        return bool(_names(value) & (names | self._candidates))

    def _compares_identity(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.Compare):
            return False
        sides = [node.left, *node.comparators]
        return any(
            isinstance(op, ast.Is | ast.IsNot) and not self._is_shared(sides[i]) and not self._is_shared(sides[i + 1])
            for i, op in enumerate(node.ops)
        )

    def _is_shared(self, side: ast.expr) -> bool:
        """Whether both processes have the very object: None, a type, the candidate itself."""
        if isinstance(side, ast.Constant):
            return side.value is None or isinstance(side.value, bool) or side.value is ...
        if isinstance(side, ast.Call):
            return isinstance(side.func, ast.Name) and side.func.id == "type"
        if isinstance(side, ast.Attribute):
            return side.attr == "__class__"
        known = vars(sys.modules["builtins"])
        return isinstance(side, ast.Name) and (side.id in self._candidates or side.id in known)


def _sets_attribute(node: ast.AST) -> bool:
    """Whether an attribute is set, but of `self`."""
    if not isinstance(node, ast.Attribute) or isinstance(node.ctx, ast.Load):
        return False
    return not (isinstance(node.value, ast.Name) and node.value.id == "self")


def _names(*values: ast.AST) -> set[str]:
    return {n.id for value in values for n in ast.walk(value) if isinstance(n, ast.Name)}


def _changed(node: ast.AST) -> list[ast.expr]:
    """What is changed in place, or may be."""
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return [node.value]
    if isinstance(node, ast.AugAssign):
        return [node.target]
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATES:
            return [node.func.value, *node.args]
        if isinstance(node.func, ast.Name) and node.func.id in _MUTATES:
            return list(node.args)
    return []


class Surroundings:
    """What a program reads beside its arguments, as it was when this was made."""

    def __init__(self, modules: set[str]):
        for name in modules:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)
        self._names = {name: dict(vars(module)) for name, module in sys.modules.items() if _counts(name, module)}
        self._settings = _settings()

    def changed(self) -> str:
        """What has changed, in words; "" where nothing has."""
        now = _settings()
        for name, value in list(self._settings.items()):
            if value is None:  # of a module that was not there
                self._settings[name] = now[name]
            elif now[name] != value:
                return name
        for name, module in list(sys.modules.items()):
            before = self._names.get(name)
            if before is None:
                if not _counts(name, module):
                    continue
                if any(map(_is_of_tests, list(vars(module).values()))):
                    return f"module {name}"
                self._names[name] = dict(vars(module))
            elif not _same(before, vars(module)):
                different = [
                    k for k in {*before, *vars(module)} if before.get(k, _MISSING) is not vars(module).get(k, _MISSING)
                ]
                if public := [k for k in different if not k.startswith("_") and k != "last_exc"]:
                    return f"{name}.{min(public)}"
                self._names[name] = dict(vars(module))
        return ""


def _same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    try:
        return bool(before == now)
    except Exception:  # of a value that compares in its own way
        return False


def _counts(name: str, module: Any) -> bool:
    return isinstance(module, type(sys)) and not name.startswith(("spa_bench", "__tests__", "unittest", "_pytest"))


def _is_of_tests(value: Any) -> bool:
    try:
        return type(value).__module__ == "unittest.mock" or value.__module__ == "__tests__"
    except Exception:
        return False


def _settings() -> dict[str, Any]:
    found: dict[str, Any] = {"the environment": dict(os.environ), "sys.argv": list(sys.argv)}
    found["the current folder"] = _folder()
    found["the limit of recursion"] = sys.getrecursionlimit()
    found["the digits of integers"] = sys.get_int_max_str_digits()
    decimal, locale, numpy = map(sys.modules.get, ("decimal", "locale", "numpy"))
    found["the context of decimals"] = _settings_of(decimal) if decimal else None
    with contextlib.suppress(Exception):
        found["the locale"] = locale.setlocale(locale.LC_ALL) if locale else None
    with contextlib.suppress(Exception):
        found["how numpy treats errors"] = numpy.geterr() if numpy else None
    return found


def _settings_of(decimal: Any) -> str:
    context = decimal.getcontext()
    return repr((context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp, context.traps))


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
