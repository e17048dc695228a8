"""Samplers, tasks, metrics and trackers of installed packages: entry points that are looked up by name and loaded on use.

An entry point NAME of `spa_bench.samplers` or `spa_bench.tasks` leads to code or to a card. Code is a kind
(spa_bench.cards.kinds) or a function that builds an object of that kind. NAME is then a kind, and also a card: the one that
comes with the kind, or one made of defaults. Otherwise the entry point leads to the path of a card, and NAME is that card.
An entry point of `spa_bench.metrics` leads to a Metric, one of `spa_bench.trackers` to a kind of tracker or a function,
one of `spa_bench.engines` to a kind of engine.
Looking up a name reads the metadata of packages and imports none of them.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from spa_bench.cards.kinds import CardKind, Kind
from spa_bench.errors import UsageError
from spa_bench.support.text import as_seen, one_line

K = TypeVar("K", bound=Kind[object])

GROUPS = {name: f"spa_bench.{name}s" for name in ("sampler", "task", "metric", "tracker", "engine")}
_VALUE = re.compile(r"\s*([\w.]+)\s*(?::\s*(\w+)\s*)?(?:\[.*\]\s*)?")  # module:attribute [extras]


@dataclass(frozen=True)
class Plugin:
    """One entry point."""

    table: str  # sampler, task or metric
    name: str
    value: str  # module:attribute
    source: str  # distribution and version

    def __str__(self) -> str:
        return f"{self.table} {self.name!r} of {self.source}"

    @property
    def module(self) -> ModuleType:
        """The module that the entry point leads to, imported. Raises UsageError."""
        return imported(self._place[0], f"{self}", "mend that package or uninstall it")

    @property
    def target(self) -> object:
        """The object that the entry point leads to; where it names only a module, that module's CARD. Raises UsageError."""
        return attribute_of(self.module, self._place[1], f"{self}")

    @property
    def is_kind(self) -> bool:
        """Whether the entry point leads to code and not only to a card. Raises UsageError when it leads to neither."""
        target = self.target
        if isinstance(target, str | os.PathLike):
            return False
        if not callable(target) and not isinstance(target, Kind):
            raise UsageError(
                f"{self} leads to {target!r}; it must be a kind, a function that builds one, or the path of a .toml card"
            )
        return True

    @property
    def kind(self) -> tuple[str, str]:
        """(module, attribute) of the code. Raises UsageError where there is only a card."""
        if not self.is_kind:
            raise UsageError(f"{self} is a card and brings no code; a kind is a function that builds a {self.table}")
        return self._place

    @property
    def card(self) -> Path | None:
        """The card of the entry point; None for code without one. Raises UsageError when the card is not found."""
        named = declared(CardKind, self.target, self.module, f"{self}", table=self.table).card if self.is_kind else self.target
        if named is None:
            return None
        folder = Path(getattr(self.module, "__file__", None) or "").resolve().parent
        path = folder / named if isinstance(named, str | os.PathLike) else None
        if path is None or path.suffix != ".toml" or not path.is_file():
            raise UsageError(f"{self} has the card {named!r}; it must be the path of a .toml file, from the module's folder on")
        return path

    @property
    def description(self) -> str:
        """The first line of the module's docstring: it describes a card made of defaults."""
        said = (self.module.__doc__ or "").strip()
        return str(said.splitlines()[0]) if said else f"from {self.source}"

    @property
    def _place(self) -> tuple[str, str]:
        match = _VALUE.fullmatch(self.value)
        if match is None or (self.table == "metric" and not match[2]):
            raise UsageError(f"{self} leads to {self.value!r}, which is not module:name")
        return match[1], match[2] or "CARD"


def find(table: str, name: str, taken: Collection[str] = ()) -> Plugin | None:
    """The entry point of that name; None where no package has one.

    Raises UsageError for a name that two packages have, that is invalid, or that is in `taken`, spa-bench's own names.
    """
    plugins = [plugin for plugin in installed(table) if plugin.name == name]
    if not plugins:
        return None
    [plugin, *others] = plugins
    if others:
        sources = " and ".join(p.source for p in plugins)
        raise UsageError(f"the {table} {name!r} is in {sources}; uninstall one, or use module:name or a card file instead")
    if name in taken:
        raise UsageError(
            f"{plugin} has a name that is spa-bench's own; uninstall that package, or have its entry point named otherwise"
        )
    if name.strip(".") == "" or not name.isprintable() or re.search(r"[/\\:\s]|\.toml$", name):
        raise UsageError(f"{plugin} has a name that nobody can use: it takes no slash, colon or space and is no .toml")
    return plugin


def named(table: str, name: str) -> Plugin:
    """The entry point of that name. Raises UsageError as `find` does, and where no package has one."""
    plugin = find(table, name)
    if plugin is None:
        raise UsageError(f"no installed package has the {table} {name!r}; install the one that it came from")
    return plugin


def installed(table: str) -> tuple[Plugin, ...]:
    """The entry points of `table`, usable or not, sorted by name and distribution."""
    return _installed(table, tuple(sys.path))


@lru_cache(maxsize=16)
def _installed(table: str, places: tuple[str, ...]) -> tuple[Plugin, ...]:
    plugins = [
        Plugin(table, point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "a package")
        for point in _entry_points(GROUPS[table])
    ]
    return tuple(sorted(plugins, key=lambda p: (p.name, p.source, p.value)))


def _entry_points(group: str) -> Iterator[metadata.EntryPoint]:
    try:
        yield from metadata.entry_points(group=group)
    except Exception:  # the broken metadata of one package, whatever is wrong with it, must not hide other packages
        for distribution in metadata.distributions():
            with contextlib.suppress(Exception):  # this is the package with the broken metadata
                yield from distribution.entry_points.select(group=group)


def attribute_of(module: ModuleType, attribute: str, name: str) -> object:
    """The value of `attribute` in `module`, to which `name` leads. Raises UsageError where the module does not have it."""
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, vars(module), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{name} leads to the module {module.__name__!r}, which has no {attribute!r}{hint}")
    target: object = getattr(module, attribute)
    return target


def declared(cls: type[K], found: object, module: ModuleType, name: str, *, table: str) -> K:
    """The object `found`, to which `name` leads in `module`, as a kind of class `cls` in the table `table` of the registry.

    A function becomes a kind together with the attributes beside it in the module; the members of `cls` hold the names of
    these attributes. Raises UsageError for an object that is neither a kind nor a function.
    """
    if isinstance(found, cls):
        return found
    if isinstance(found, Kind) or not callable(found):
        what = f"a {type(found).__name__}" if isinstance(found, Kind) else as_seen(found)
        wanted = f"{table.capitalize()}Kind" if cls is CardKind else cls.__name__  # cards know no kind of a table
        raise UsageError(f"{name} leads to {what}; it must be a {wanted}, or a function that builds one")
    members = {f.name: getattr(module, f.metadata["beside"], None) for f in fields(cls) if "beside" in f.metadata}
    return replace(cls(build=found), **{key: value for key, value in members.items() if value is not None})


def imported(module: str, name: str, advice: str = "") -> ModuleType:
    """The module that `name` leads to, imported. Raises UsageError with `advice`, whatever the module's code raises."""
    if re.search(r"[/\\]", module) or not module.strip("."):
        raise UsageError(
            f"{name} leads to no module: write module:NAME, the file's name without .py and without its folder, which is on "
            "PYTHONPATH"
        )
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's own code may raise anything
        reason = one_line(error) or type(error).__name__
        raise UsageError(
            f"{name} leads to the module {module!r}, which cannot be imported: {reason}{_place_of(error)}"
            f"{_what_to_do(module, error, advice)}"
        ) from error


def _what_to_do(module: str, error: BaseException, advice: str) -> str:
    """What helps where `module` cannot be imported: `advice`, or what its name and the current folder tell."""
    if isinstance(error, SyntaxError):  # it was found, and the message has the line
        return ""
    if advice:
        return f"; {advice}"
    if module.endswith(".py"):
        return f"; a module is named without .py: {module.removesuffix('.py')!r}"
    lacks = error.name if isinstance(error, ModuleNotFoundError) else None
    if lacks is None:  # it was found, and its code failed
        return ""
    if lacks == module and Path(f"{module}.py").is_file():
        return "; its file is in this folder: write PYTHONPATH=. before the command"
    if lacks == module or module.startswith(f"{lacks}."):
        return "; is the folder with the module on PYTHONPATH?"
    return "; install it, or put its folder on PYTHONPATH"


def _place_of(error: BaseException) -> str:
    """The file and line at which the code of a module failed; empty where the module was not found, or says it itself."""
    if isinstance(error, SyntaxError):
        return ""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen ")]
    own = [f for f in frames if Path(f.filename).resolve() not in (Path(__file__).resolve(), Path(importlib.__file__))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
