"""The statements of a program: which of them its entry point needs, and which only drive it."""

from __future__ import annotations

import ast
import symtable
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from spa_bench.tasks.answer_text import parse

_NOW = frozenset({"listcomp", "setcomp", "dictcomp", "genexpr"})  # scopes that run where they stand
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_STANDARD = sys.stdlib_module_names
_LOOKING = frozenset({"enumerate", "id", "isinstance", "len", "print", "range", "repr", "str", "type", "zip"})  # change nothing


@dataclass(frozen=True, kw_only=True)
class Part:
    """A statement at module level, with the names that it binds and reads."""

    node: ast.stmt
    start: int  # in the program: behind the statement before it
    end: int  # in the program: behind its line, or its semicolon
    text: str
    binds: frozenset[str]
    reads_now: frozenset[str]  # when it is executed
    reads_later: frozenset[str]  # when a function of it is called

    @property
    def reads(self) -> frozenset[str]:
        """All names of the module, or of builtins, that it may read."""
        return self.reads_now | self.reads_later

    @property
    def imports(self) -> bool:
        """Whether it is an import."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @property
    def guards(self) -> bool:
        """Whether it runs only in a script: `if __name__ == "__main__"`."""
        return isinstance(self.node, ast.If) and "__name__" in {n.id for n in _named(self.node.test)}

    @property
    def standard(self) -> bool:
        """Whether it imports from the standard library alone."""
        if isinstance(self.node, ast.Import):
            return all(alias.name.split(".")[0] in _STANDARD for alias in self.node.names)
        return isinstance(self.node, ast.ImportFrom) and (self.node.module or ".").split(".")[0] in _STANDARD

    @property
    def future(self) -> bool:
        """Whether it is `from __future__ import`."""
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"

    @property
    def star(self) -> bool:
        """Whether it imports all names of a module."""
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @cached_property
    def outside(self) -> bool:
        """Whether it returns, yields or awaits outside of a function, which is no program."""
        return any(isinstance(n, ast.Return | ast.Yield | ast.YieldFrom | ast.Await) for n in here(self.node))


def parts(program: str) -> list[Part] | None:
    """The statements of `program`, which hold all of its text up to the last of them; None where it does not parse."""
    tree = parse(program)
    if tree is None:
        return None
    begins = [0]
    for line in program.split("\n"):
        begins.append(begins[-1] + len(line) + 1)
    found, start = [], 0
    for node in tree.body:
        end = _end(program, begins, node)
        text = program[start:end]
        names = _scopes(text.lstrip(" \t;\\").rstrip(" \t;"))
        if names is None:
            return None
        binds, now, later = names
        found.append(Part(node=node, start=start, end=end, text=text, binds=binds, reads_now=now, reads_later=later))
        start = end
    return found


def _end(program: str, begins: Sequence[int], node: ast.stmt) -> int:
    """The place behind `node`, and behind the comment or the semicolon on its line."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    begin, behind = begins[node.end_lineno - 1], begins[node.end_lineno] - 1
    line = program[begin:behind]
    column = node.end_col_offset if line.isascii() else len(line.encode()[: node.end_col_offset].decode())
    rest = line[column:].lstrip()
    if rest.startswith(";"):
        return begin + line.index(";", column) + 1
    return behind


def _scopes(text: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]] | None:
    """(names bound, names read now, names read later) of a statement at module level."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = symtable.symtable(text, "answer", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    symbols = top.get_symbols()
    binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
    now = {s.get_name() for s in symbols if s.is_referenced()}
    later: set[str] = set()
    waiting = [(child, True) for child in top.get_children()]
    while waiting:
        table, at_once = waiting.pop()
        inside = table.get_type() == "class"
        at_once = at_once and (inside or table.get_name() in _NOW)
        for symbol in table.get_symbols():
            if symbol.is_global() or (inside and symbol.is_referenced()):
                (now if at_once else later).add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned() and at_once:
                binds.add(symbol.get_name())
        waiting += [(child, at_once) for child in table.get_children()]
    return frozenset(binds), frozenset(now), frozenset(later)


def here(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and what it executes itself: not the bodies of functions."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, FUNCTIONS):
            waiting += one.decorator_list
        elif not isinstance(one, ast.Lambda):
            waiting += ast.iter_child_nodes(one)


def _named(node: ast.AST) -> Iterator[ast.Name]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Name))


def _base(node: ast.AST) -> str:
    """The name with which a chain of attributes, items and calls begins; "" for none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def changed(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """(names whose objects `nodes` change, names that they pass as arguments to what may change them).

    Objects change where items or attributes are set, a method is called, or a definition is decorated or derived.
    """
    names: set[str] = set()
    passed: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            names.add(_base(node))
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                names.add(_base(node.func))
            if not (isinstance(node.func, ast.Name) and node.func.id in _LOOKING):
                passed.update(_handed(node))
        elif isinstance(node, ast.Global):
            names.update(node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.update(map(_base, node.decorator_list))
            names.update(map(_base, node.bases) if isinstance(node, ast.ClassDef) else ())
    return names - {""}, passed


def _handed(call: ast.Call) -> Iterator[str]:
    """The names of what a call is given, but for what calls within it are given."""
    return _within([*call.args, *(keyword.value for keyword in call.keywords)])


def _within(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that `nodes` begin with, also in lists and dictionaries that they write."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict | ast.Starred):
            waiting += ast.iter_child_nodes(node)
        elif not isinstance(node, ast.Call) and (name := _base(node)):
            yield name


def links(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """(name that `nodes` bind, name of what it may be, or be a part of)."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            pairs = [(node.optional_vars, node.context_expr)]
        else:
            continue
        for target, value in pairs:
            inside = set(_within([value]))
            if isinstance(value, ast.Call):  # what a method gives may be a part of its object, and of what it was given
                inside = {*_handed(value), *_within([value.func] if isinstance(value.func, ast.Attribute) else [])}
            yield from ((one.id, other) for one in _named(target) for other in inside)


def calls(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """(first name, first attribute or "") of each function that `nodes` call."""
    for node in nodes:
        if isinstance(node, ast.Call):
            function = node.func
            while isinstance(function, ast.Attribute) and not isinstance(function.value, ast.Name):
                function = function.value
            yield _base(function), function.attr if isinstance(function, ast.Attribute) else ""
