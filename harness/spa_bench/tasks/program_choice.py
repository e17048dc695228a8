"""The statements that a program's entry point needs: what defines it, what that reads or what changes that, and so on."""

from __future__ import annotations

import ast
import builtins
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spa_bench.tasks.answer_text import parse
from spa_bench.tasks.program_parts import FUNCTIONS, Part, calls, changed, here, links, parts

_AT_WILL = frozenset({"eval", "exec", "globals", "vars", "locals", "__import__", "__name__"})  # reach names that nobody can see
_DRIVERS = frozenset({"print", "input", "exit", "quit", "help", "display", "pprint"})
_DRIVING_MODULES = frozenset(
    {"unittest", "doctest", "timeit", "pytest", "atexit", "pprint", "argparse", "optparse", "getopt", "tkinter", "turtle"}
)
_DRIVING_CALLS = frozenset({("sys", "exit"), ("os", "_exit"), ("sys", "stdin"), ("sys", "stdout"), ("sys", "stderr")})
_BRANCHES = (ast.If, ast.Try, ast.For, ast.While, ast.With, ast.Match)
_DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_MOST = 16  # the most definitions of a name that are looked at for what one statement does
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
    """The search for the statements that an entry point needs. The first `given` ones are needed always.

    Each name and each statement is followed once, so the work is linear in the names that statements read.
    """

    def __init__(self, found: Sequence[Part], entry_point: str, given: int):
        self._found, self._entry, self._given = found, entry_point, given
        self._binders: dict[str, list[int]] = {}
        self._readers: dict[str, list[int]] = {}
        for i, part in enumerate(found):
            for name in part.binds if not part.guards else ():
                self._binders.setdefault(name, []).append(i)
            for name in part.reads:
                self._readers.setdefault(name, []).append(i)
        own = self._binders.get(entry_point, [])
        self.versions = [i for i in own if not found[i].imports] or own  # an example may import the entry point
        asking = [i for i, part in enumerate(found) if self._asks(part.reads, ast.walk(part.node))]
        self._driving = set(self._back(asking, set(), set()))
        self._effects: dict[str, list[int]] = {}  # name -> the statements that change what it means
        self._changers: dict[str, list[int]] = {}  # name -> the statements whose functions do, when they are called
        self._pieces: dict[str, set[str]] = {}  # name -> the names that may mean its object, or a part of it
        self._touched: set[str] = set()  # names whose objects, or parts of them, are needed
        self._acting: set[int] = set()  # statements that may change something by what they call
        self._changing: set[int] = set()  # those that, when they are called, change a name that is needed
        self._led: set[str] = set()  # the names that they bind
        self._needed: set[str] = set()
        self._kept: set[int] = set()
        self._waiting: list[int] = []

    def kept(self) -> set[int]:
        """The places of the statements that are needed."""
        always = self._find_effects()
        own = set(self._binders[self._entry])
        standard = [i for i, part in enumerate(self._found) if part.standard and i not in own]
        for i in (*range(self._given), *standard, *always, self.versions[-1]):
            self._keep(i)
        self._need(self._entry)
        while self._waiting:
            self._follow(self._waiting.pop())
            if not self._waiting and not all(name in self._binders or name in _KNOWN for name in self._needed):
                for i, part in enumerate(self._found):
                    if part.star or (part.reads_now & _AT_WILL - {"__name__"} and not part.guards and not self._drives(i)):
                        self._keep(i)
        return self._kept

    def _back(self, places: Iterable[int], seen: set[int], names: set[str]) -> list[int]:
        """`places` and all statements that lead there by names that they read, but for those `seen`, to which they are added.

        `names` were followed before, as is the entry point's.
        """
        found = [i for i in places if i not in seen]
        seen.update(found)
        for one in found:  # which grows
            for name in self._found[one].binds - names - {self._entry}:
                names.add(name)
                fresh = [i for i in self._readers.get(name, ()) if i not in seen]
                seen.update(fresh)
                found += fresh
        return found

    def _keep(self, i: int) -> None:
        if i not in self._kept:
            self._kept.add(i)
            self._waiting.append(i)

    def _need(self, name: str) -> None:
        if name in self._needed:
            return
        self._needed.add(name)
        binders = self._binders.get(name, []) if name != self._entry else []
        asked = [i for i in binders if "input" in self._found[i].reads_now]
        given = binders if len(asked) == len(binders) else [i for i in binders if "input" not in self._found[i].reads_now]
        for i in given:
            self._keep(i)
        self._touch(name)
        for i in self._back(self._changers.get(name, ()), self._changing, self._led):
            if i in self._acting:
                self._keep(i)

    def _touch(self, name: str) -> None:
        """Keep what changes the object that `name` means; of what changes it under another name, what drives nothing."""
        for i in self._effects.get(name, ()):
            self._keep(i)
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in self._touched:
                continue
            self._touched.add(one)
            for i in self._effects.get(one, ()):
                if i in self._acting:
                    self._keep(i)
            waiting += self._pieces.get(one, ())

    def _follow(self, i: int) -> None:
        """Keep what statement `i` needs."""
        part = self._found[i]
        for name in part.reads:
            self._need(name)
            if name in _AT_WILL and name not in self._binders and not part.guards:
                self._keep_all()
        if self._entry in part.reads_now or (self._entry in part.binds and isinstance(part.node, _BRANCHES)):
            place = bisect_left(self.versions, i)
            if place:
                self._keep(self.versions[place - 1])

    def _keep_all(self) -> None:
        """Keep all that binds names and drives nothing, since the program may look for any name."""
        if "" in self._needed:
            return
        self._needed.add("")
        for i, part in enumerate(self._found):
            definition = isinstance(part.node, _DEFINITIONS) or part.imports
            if part.binds and not part.guards and self._entry not in part.binds and (definition or not self._drives(i)):
                self._keep(i)

    def _asks(self, names: frozenset[str], nodes: Iterable[ast.AST]) -> bool:
        """Whether something that reads `names` uses the entry point, or what a user types."""
        return bool({self._entry, "input"} & names) or _types(nodes)

    def _drives(self, i: int) -> bool:
        """Whether statement `i` uses the entry point or what a user types, when it is executed."""
        part = self._found[i]
        if self._asks(part.reads_now, here(part.node)):
            return True
        return any(k in self._driving for name in part.reads_now if name != self._entry for k in self._first(name))

    def _first(self, name: str) -> Sequence[int]:
        """Where `name` is bound; the last places stand for many."""
        return self._binders.get(name, [])[-_MOST:]

    def _find_effects(self) -> list[int]:
        """Find the statements that change what names mean. Gives those that count for the whole program."""
        always = []
        aliases: set[str] = set()  # names that may mean a part, such as a method, of another name's object
        functions = {n for n, at in self._binders.items() if all(isinstance(self._found[i].node, FUNCTIONS) for i in at)}
        for i, part in enumerate(self._found):
            for name in changed(ast.walk(part.node))[0] & (part.reads | part.binds):
                self._changers.setdefault(name, []).append(i)
        for i, part in enumerate(self._found):
            if i < self._given or part.guards or part.imports or _never(part.node) or not part.reads_now:
                continue
            nodes = list(here(part.node))
            for piece, whole in links(nodes):
                if not all(self._found[k].imports for k in self._first(whole)):
                    self._pieces.setdefault(whole, set()).add(piece)
                    aliases.add(piece)
            names, passed = changed(nodes)
            names |= aliases & {name for name, attribute in calls(nodes) if not attribute}
            names |= passed - functions - {self._entry}
            definition = isinstance(part.node, _DEFINITIONS)
            if definition and not names:
                continue
            if self._drives(i):
                if "input" in part.reads_now or _types(nodes):
                    continue  # a module is not changed by a driver that calls it
                names = {n for n in names if not all(self._found[k].imports for k in self._first(n))}
            elif "print" not in part.reads_now:
                self._acting.add(i)
                if not definition and self._sets_up(part, nodes, names):
                    always.append(i)
            for name in names:
                self._effects.setdefault(name, []).append(i)
        return always

    def _sets_up(self, part: Part, nodes: Sequence[ast.AST], names: set[str]) -> bool:
        """Whether a statement sets up a module of the standard library, as `sys.setrecursionlimit` does.

        A call whose result is used, as in reading a file with `csv`, sets up nothing; one whose result is changed, as
        `decimal.getcontext()`, may.
        """
        bare = [one for node in nodes if isinstance(node, ast.Expr) for one in ast.walk(node)]
        used = {name for name, _ in calls(bare)} if isinstance(part.node, (ast.Expr, *_BRANCHES)) else set()
        if isinstance(part.node, ast.AugAssign | ast.Expr) or (isinstance(part.node, ast.Assign) and not self._only_read(part)):
            used |= names
        places = {name: self._first(name) for name in used}
        return any(
            name not in _DRIVING_MODULES and at and all(self._found[i].standard for i in at) for name, at in places.items()
        )

    def _only_read(self, part: Part) -> bool:
        """Whether other statements read the names that `part` binds, and none changes what they mean."""
        own = part.binds - part.reads
        return any(self._readers.get(name) for name in own) and not any(self._changers.get(name) for name in own)


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
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in _DRIVERS:
        return True
    return not any(isinstance(one, ast.Call) for one in ast.walk(call))
