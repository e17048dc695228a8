"""The statements that a program's entry point needs: what defines it, what that reads or what changes that, and so on."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from spa_bench.tasks.answer_text import parse
from spa_bench.tasks.program_parts import FUNCTIONS, Part, calls, changed, here, parts

_AT_WILL = frozenset({"eval", "exec", "globals", "vars", "locals", "__import__", "__name__"})  # reach names that nobody can see
_DRIVERS = frozenset({"print", "input", "exit", "quit", "help", "display", "pprint"})
_DRIVING_MODULES = frozenset({"unittest", "doctest", "timeit", "pytest", "atexit", "pprint"})
_DRIVING_CALLS = frozenset({("sys", "exit"), ("os", "_exit"), ("sys", "stdin"), ("sys", "stdout"), ("sys", "stderr")})
_BRANCHES = (ast.If, ast.Try, ast.For, ast.While, ast.With, ast.Match)
_KNOWN = frozenset({*dir(builtins), "__name__", "__file__", "__doc__", "__builtins__", "__spec__"})


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A program without what its entry point does not need."""

    text: str
    missing: frozenset[str]  # names that it reads and nothing in it binds


def choose(program: str, prompt: int, entry_point: str) -> Chosen | None:
    """`program` without what only drives its entry point, of which the last definition counts; None for no program.

    Its first `prompt` characters stay whole, and do not count as a definition. `entry_point` is NFKC-normalised.
    """
    found = parts(program)
    if not found:
        return None
    given = program[:prompt].count("\n") + (prompt > 0 and program[prompt - 1] != "\n")
    needs = _Needs(found, entry_point, sum(part.node.lineno <= given for part in found))
    if not needs.versions or found[needs.versions[-1]].end <= prompt:
        return None
    kept = [found[i] for i in sorted(needs.kept())]
    if any(part.outside for part in kept):
        return None
    reads, binds = (frozenset().union(*names) for names in zip(*((p.reads, p.binds) for p in kept), strict=True))
    missing = frozenset() if any(part.star for part in kept) else reads - binds - _KNOWN
    text = _text(kept)
    return Chosen(text=text, missing=missing) if parse(text) else None


def _text(kept: Sequence[Part]) -> str:
    """The program of the statements `kept`, with what is imported from the future in front."""
    future = [part for part in kept if part.future]
    if future and not all(part.future or isinstance(part.node, ast.Expr) for part in kept[: kept.index(future[-1])]):
        kept = [*future, *(part for part in kept if not part.future)]
    text = ""
    for part in kept:
        piece = part.text
        if not piece.startswith("\n"):
            piece = ("\n" if text else "") + piece.lstrip(" \t;")
        text += piece
    return text.lstrip("\n") if kept[0].start else text


class _Needs:
    """The search for the statements that an entry point needs. The first `given` ones are needed always."""

    def __init__(self, found: Sequence[Part], entry_point: str, given: int):
        self._found, self._entry, self._given = found, entry_point, given
        self._binders: dict[str, list[int]] = {}
        for i, part in enumerate(found):
            for name in part.binds if not part.guards else ():
                self._binders.setdefault(name, []).append(i)
        own = self._binders.get(entry_point, [])
        self.versions = [i for i in own if not found[i].imports] or own  # an example may import the entry point
        self._needed: set[str] = set()
        self._kept: set[int] = set()
        self._waiting: list[int] = []
        self._reach = cache(self._reached)

    def kept(self) -> set[int]:
        """The places of the statements that are needed."""
        self._effects, always = self._find_effects()
        own = set(self._binders[self._entry])
        standard = [i for i, part in enumerate(self._found) if part.standard and i not in own]
        for i in (*range(self._given), *standard, *always, self.versions[-1]):
            self._keep(i)
        self._need(self._entry)
        while self._waiting:
            self._follow(self._waiting.pop())
            if not self._waiting and not self._bound():
                for i, part in enumerate(self._found):
                    if part.star:
                        self._keep(i)
        return self._kept

    def _bound(self) -> bool:
        """Whether something binds each name that is needed."""
        return all(name in self._binders or name in _KNOWN for name in self._needed)

    def _keep(self, i: int) -> None:
        if i not in self._kept:
            self._kept.add(i)
            self._waiting.append(i)

    def _need(self, name: str) -> None:
        if name in self._needed:
            return
        self._needed.add(name)
        for i in (*(self._binders.get(name, ()) if name != self._entry else ()), *self._effects.get(name, ())):
            self._keep(i)

    def _follow(self, i: int) -> None:
        """Keep what statement `i` needs."""
        part = self._found[i]
        for name in part.reads:
            self._need(name)
            if name in _AT_WILL and name not in self._binders and not part.guards:
                self._keep_all()
        before = self._entry in part.reads_now or (self._entry in part.binds and isinstance(part.node, _BRANCHES))
        earlier = [k for k in self.versions if k < i] if before else []
        if earlier:
            self._keep(earlier[-1])
        elif before and i not in self.versions and i < self.versions[-1] and self.versions[0] > i:
            self._keep(self.versions[0])

    def _keep_all(self) -> None:
        """Keep all that binds names and drives nothing, since the program may look for any name."""
        for places in list(self._binders.values()):
            for i in places:
                part = self._found[i]
                definition = isinstance(part.node, (*FUNCTIONS, ast.ClassDef)) or part.imports
                if self._entry not in part.binds and (definition or not self._drives(i)):
                    self._keep(i)

    def _reached(self, name: str) -> frozenset[int]:
        """The places of what may run when `name` is used, short of the entry point."""
        seen: set[int] = set()
        names, waiting = {name, self._entry}, [name] if name != self._entry else []
        while waiting:
            for i in self._binders.get(waiting.pop(), ()):
                if i not in seen:
                    seen.add(i)
                    fresh = self._found[i].reads - names
                    names |= fresh
                    waiting += fresh
        return frozenset(seen)

    def _runs(self, i: int) -> set[int]:
        """The places of what may run when statement `i` is executed, short of the entry point and without `i`."""
        return set().union(*map(self._reach, self._found[i].reads_now)) - {i}

    def _drives(self, i: int) -> bool:
        """Whether statement `i` uses the entry point, or reads what a user types."""
        part = self._found[i]
        runs = [self._found[k] for k in self._runs(i)]
        used = part.reads_now.union(*(one.reads for one in runs))
        return bool({self._entry, "input"} & used) or _types(here(part.node)) or any(_types(ast.walk(r.node)) for r in runs)

    def _find_effects(self) -> tuple[dict[str, list[int]], list[int]]:
        """(the statements that change what a name means, by that name; statements that count for the whole program)."""
        effects: dict[str, list[int]] = {}
        always = []
        functions = {n for n, at in self._binders.items() if all(isinstance(self._found[i].node, FUNCTIONS) for i in at)}
        for i, part in enumerate(self._found):
            if i < self._given or part.guards or part.imports or _never(part.node) or not part.reads_now:
                continue
            nodes = list(here(part.node))
            names, passed = changed(nodes)
            names |= passed - functions - {self._entry}
            definition = isinstance(part.node, (*FUNCTIONS, ast.ClassDef))
            if definition and not names:
                continue
            drives = self._drives(i)
            if not drives and "print" not in part.reads_now:
                for k in self._runs(i):
                    one = self._found[k]
                    names |= changed(ast.walk(one.node))[0] & (one.reads | one.binds)
                if not definition and self._sets_up(part, nodes, names):
                    always.append(i)
            if drives and ("input" in part.reads_now or _types(nodes)):
                continue
            if drives:  # a module is not changed by a driver that calls it
                names = {n for n in names if not all(self._found[k].imports for k in self._binders.get(n, ()))}
            for name in names:
                effects.setdefault(name, []).append(i)
        return effects, always

    def _sets_up(self, part: Part, nodes: Sequence[ast.AST], names: set[str]) -> bool:
        """Whether a statement sets up a module of the standard library, as `sys.setrecursionlimit` does."""
        used = {name for name, _ in calls(nodes)} if isinstance(part.node, (ast.Expr, *_BRANCHES)) else set()
        used |= names if isinstance(part.node, ast.Assign | ast.AugAssign | ast.Expr) else set()
        places = {name: self._binders.get(name, ()) for name in used}
        return any(
            name not in _DRIVING_MODULES and at and all(self._found[i].standard for i in at) for name, at in places.items()
        )


def _types(nodes: Iterable[ast.AST]) -> bool:
    """Whether `nodes` read or write the standard streams, or exit."""
    return any(
        isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and (n.value.id, n.attr) in _DRIVING_CALLS for n in nodes
    )


def _never(node: ast.stmt) -> bool:
    """Whether a statement only shows or checks something."""
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Expr):
        return False
    call = node.value
    if not isinstance(call, ast.Call):
        return True
    return isinstance(call.func, ast.Name) and call.func.id in _DRIVERS
