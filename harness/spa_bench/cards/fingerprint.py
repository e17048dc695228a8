"""A hash of an object that somebody wrote in a notebook: of its source, its attributes, and what its functions refer to.

What cannot be hashed is never guessed: the answer is then a reason. Code of installed packages counts by its name alone.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import re
import sys
import textwrap
import types
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spa_bench.cards.objects import Source
from spa_bench.cards.own_files import files_behind, imported_in, is_users

_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented))
_MADE = "<string>"  # the file of a method that a decorator, such as dataclass, made
_SKIPPED = {"_abc_impl", "_is_protocol", "_is_runtime_protocol", "__hash__", "__slots__"}
_OF_FIELDS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    type(vars(NamedTuple("_Named", [("field", int)]))["field"]),
)
_EMPTY = {"object", "ABC", "Protocol", "Generic"}  # classes of which an object holds nothing
_OURS = __name__.partition(".")[0]


class _UnknownError(Exception):
    """An object that cannot be hashed; the text says which, and why."""


def fingerprint(thing: object, *, state: bool = True) -> Source:
    """The hash of an object, a class or a function; equal for equal code and attributes, also in another process.

    It covers the source of the user's own functions and classes, the attributes of instances, default values, and the global
    names that functions read, followed as far as they lead. Without `state` it is the source alone, of a function or of the
    class of an object: for what says by itself which it is, as a model does by `describe`.
    """
    walk = _Walk(follow=state)
    try:
        words = list(walk.value(thing if state or isinstance(thing, types.FunctionType) else type(thing)))
    except _UnknownError as error:
        return Source("", str(error))
    except RecursionError:
        return Source("", f"{_name(thing)} is nested too deep")
    return Source(hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest())


class _Walk:
    """One way through an object; what was met before is a number, so that circles end."""

    def __init__(self, *, follow: bool = True) -> None:
        self._follow = follow  # whether the values that functions read count
        self._met: dict[int, int] = {}
        self._kept: list[object] = []  # so that no id is given twice
        self._read: set[str] = set()  # names of files

    def value(self, thing: object) -> Iterator[str]:
        """The words of any value."""
        if isinstance(thing, _PLAIN) and not isinstance(thing, enum.Enum):
            yield f"{type(thing).__name__} {thing!r}"
            return
        if id(thing) in self._met:
            yield f"again {self._met[id(thing)]}"
            return
        self._met[id(thing)] = len(self._met)
        self._kept.append(thing)
        yield from self._compound(thing)

    def _compound(self, thing: object) -> Iterator[str]:
        if isinstance(thing, enum.Enum):
            yield from self._parts(f"enum {_name(type(thing))} {thing.name}", [thing.value])
        elif isinstance(thing, types.ModuleType):
            yield f"module {thing.__name__}"
            yield from self._files(thing.__name__)
        elif isinstance(thing, type):
            yield from self._class(thing)
        elif isinstance(thing, types.FunctionType):
            yield from self._function(thing)
        elif isinstance(thing, types.MethodType):
            yield from self._parts("method", [thing.__func__, thing.__self__])
        elif isinstance(thing, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
            yield from self._builtin(thing)
        elif place := _place_in_package(thing):
            yield f"named {place}"
        elif isinstance(thing, functools._lru_cache_wrapper):
            yield from self._parts("cached", [thing.__wrapped__])
        elif isinstance(thing, functools.partial):
            yield from self._parts("partial", [thing.func, thing.args, thing.keywords])
        elif isinstance(thing, staticmethod | classmethod):
            yield from self._parts(type(thing).__name__, [thing.__func__])
        elif isinstance(thing, property):
            yield from self._parts("property", [thing.fget, thing.fset, thing.fdel])
        elif isinstance(thing, functools.cached_property):
            yield from self._parts("cached_property", [thing.func])
        else:
            yield from self._data(thing)

    def _builtin(
        self, thing: types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType
    ) -> Iterator[str]:
        """A function in C by its name; one that is bound to an object, such as a list's append, with that object."""
        yield f"builtin {thing.__qualname__}"
        owner = thing.__self__ if isinstance(thing, types.BuiltinFunctionType) else thing.__objclass__
        yield from self.value(owner)

    def _data(self, thing: object) -> Iterator[str]:
        if isinstance(thing, Mapping | set | frozenset | list | tuple) and _is_users(type(thing)):
            yield from self._instance(thing)
        if isinstance(thing, Mapping):
            pairs = sorted(((_words(key), value) for key, value in thing.items()), key=lambda pair: pair[0])
            yield from self._parts(_name(type(thing)), [part for pair in pairs for part in pair])
            if isinstance(thing, defaultdict):
                yield from self.value(thing.default_factory)
        elif isinstance(thing, set | frozenset):
            yield from self._parts(_name(type(thing)), sorted(map(_words, thing)))
        elif isinstance(thing, list | tuple):
            yield from self._parts(_name(type(thing)), list(thing))
        elif isinstance(thing, Path):
            yield f"{_name(type(thing))} {thing!r}"
        elif isinstance(thing, re.Pattern):  # its repr has the first 200 characters
            yield f"{_name(type(thing))} {thing.pattern!r} {thing.flags}"
        elif isinstance(thing, np.ndarray | np.generic) and thing.dtype != object:
            yield f"array {thing.dtype} {thing.shape} {hashlib.blake2b(np.ascontiguousarray(thing).tobytes()).hexdigest()}"
        elif isinstance(thing, types.GenericAlias) or type(thing).__module__ == "typing":
            yield f"type {thing!r}"
        else:
            yield from self._instance(thing)

    def _parts(self, what: str, parts: Sequence[object]) -> Iterator[str]:
        yield f"{what} {len(parts)}"
        for part in parts:
            yield from self.value(part)

    def _instance(self, thing: object) -> Iterator[str]:
        kind = type(thing)
        slots = {name for c in kind.__mro__ for name in _slots(c) if hasattr(thing, name)}
        state = {**(vars(thing) if hasattr(thing, "__dict__") else {}), **{name: getattr(thing, name) for name in slots}}
        if foreign := [c for c in kind.__mro__ if not _is_readable(c)]:
            raise _UnknownError(f"what a {_name(foreign[0])} holds cannot be read")
        yield from self._class(kind)
        for name in sorted(state):
            yield f"attribute {name}"
            yield from self._named(f"{_name(kind)}.{name}", state[name])

    def _named(self, name: str, thing: object) -> Iterator[str]:
        """The words of `thing`; where it cannot be hashed, the reason has its `name`."""
        try:
            yield from self.value(thing)
        except _UnknownError as error:
            raise _UnknownError(str(error) if ": " in str(error) else f"{name}: {error}") from error

    def _class(self, kind: type) -> Iterator[str]:
        yield f"class {_name(kind)}"
        for base in (c for c in kind.__mro__ if _is_users(c)):
            for name, member in sorted(vars(base).items()):
                if name in _SKIPPED or (name.startswith("__") and not isinstance(member, types.FunctionType)):
                    continue
                if _is_made(member) or isinstance(member, _OF_FIELDS):
                    continue
                yield f"member {base.__qualname__}.{name}"
                yield from self._named(f"{base.__qualname__}.{name}", member)
        yield from (f"base {_name(c)}" for c in kind.__mro__ if not _is_users(c))

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        yield f"function {_name(function)}"
        if not _is_users(function):  # of a package; what a decorator wraps may be the user's
            yield from self._closed_over(function)
            return
        try:
            yield textwrap.dedent(inspect.getsource(function.__code__))
        except (OSError, TypeError) as error:
            raise _UnknownError(f"the source of {function.__qualname__} cannot be read") from error
        if not self._follow:
            return
        for part in (function.__defaults__, function.__kwdefaults__):
            yield from self._named(function.__qualname__, part)
        yield from self._closed_over(function)
        for name in sorted(_read_globals(function.__code__)):
            if name in function.__globals__:
                yield f"global {name}"
                yield from self._named(f"{function.__qualname__} reads {name}", function.__globals__[name])
        for module in sorted(imported_in(function.__code__, str(function.__globals__.get("__package__") or ""))):
            yield from self._files(module)

    def _files(self, module: str) -> Iterator[str]:
        """The files of a module of the user's own, each once."""
        for name, file in files_behind(module).items():
            if name not in self._read:
                self._read.add(name)
                try:
                    yield f"file {name} {hashlib.blake2b(file.read_bytes()).hexdigest()}"
                except OSError as error:
                    raise _UnknownError(f"the file {file} cannot be read") from error

    def _closed_over(self, function: types.FunctionType) -> Iterator[str]:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            yield f"closed over {name}"
            try:
                held = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            yield from self._named(f"{function.__qualname__} reads {name}", held)


def _is_made(member: object) -> bool:
    """Whether a decorator, such as dataclass, wrote the method: what it was written from is hashed anyway."""
    own = inspect.unwrap(member) if isinstance(member, types.FunctionType) else None
    return isinstance(own, types.FunctionType) and own.__code__.co_filename == _MADE


def _words(thing: object) -> str:
    """The words of a key or of a member of a set by themselves: their order in memory means nothing."""
    return "\1".join(_Walk().value(thing))


def _read_globals(code: types.CodeType) -> set[str]:
    """The global names that the code reads, with those of the functions in it."""
    own = {str(i.argval) for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}
    return own.union(*(_read_globals(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)))


def _is_users(thing: type | types.FunctionType) -> bool:
    """Whether the code is the user's own: of a notebook, a script or a module, and of no installed package."""
    return is_users(thing.__module__ if isinstance(thing, type) else thing.__globals__.get("__name__"))


def _is_readable(kind: type) -> bool:
    """Whether all that an object has of this class is in its attributes, or in the items that are read apart."""
    if kind.__module__ in {"builtins", "abc", "typing", "collections", "collections.abc"}:
        return (
            kind.__name__ in _EMPTY
            or issubclass(kind, Mapping | set | frozenset | list | tuple)
            or kind.__module__ == "collections.abc"
        )
    return _is_users(kind) or kind.__module__.partition(".")[0] == _OURS or dataclasses.is_dataclass(kind)


def _place_in_package(thing: object) -> str:
    """`package.module.name` of something callable that an installed package has under that name; else ""."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not (callable(thing) and isinstance(module, str) and isinstance(name, str) and module != "__main__"):
        return ""
    there = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return f"{module}.{name}" if there is thing and not is_users(module) else ""


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in {"__dict__", "__weakref__"})


def _name(thing: object) -> str:
    kind = thing if isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType) else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"
