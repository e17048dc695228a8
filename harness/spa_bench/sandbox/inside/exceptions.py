"""Exceptions that cross from a program to tests that are code: taken apart in one process, made again in the other.

An exception of a class that Python, its library or a package has is made again with its arguments and attributes. One of
the program's own class is made again as an instance of a class of the same name on the same bases of Python, with the same
text: it is caught by each of these bases, and by nothing else.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from spa_bench.sandbox.inside import library

_OURS = ("__spa_bench__", "__main__", "__tests__")
_DEEPEST = 5  # of causes
_STATE = ("name", "path", "obj")  # attributes that an exception of Python has beside its arguments, where they are plain
_PLAIN = (type(None), bool, int, float, str, bytes)


class NoSuchException(ValueError):
    """The exception cannot be made again."""


def parts(error: BaseException, depth: int = 0) -> Any:
    """(own name or "", classes as (module, name), arguments, attributes, text, [cause, context], whether the latter hides)."""
    classes = [(k.__module__, k.__qualname__) for k in library.bases(type(error)) if _is_known(k)]
    own = "" if _is_known(type(error)) else type(error).__name__
    try:
        text = str(error)
    except BaseException:
        text = "an exception that cannot be described"
    arguments, state = list(error.args), dict(vars(error))
    if not own:
        try:
            reduced: Any = error.__reduce_ex__(2)
            arguments, state = list(reduced[1]), dict(reduced[2] or {}) if len(reduced) > 2 else {}
        except Exception:
            arguments, state = list(error.args), {}
    state.pop("args", None)
    for name in _STATE if isinstance(error, (ImportError, NameError, AttributeError)) else ():
        if isinstance(plain := getattr(error, name, None), _PLAIN) and plain is not None:
            state[name] = plain
    if own:  # what of an own class cannot cross is missed by the tests that look for it
        state = {name: value for name, value in state.items() if type(value) in _PLAIN}
    deeper = [None if e is None or depth >= _DEEPEST else parts(e, depth + 1) for e in (error.__cause__, error.__context__)]
    return own, classes, arguments, state, text, deeper, error.__suppress_context__


def _is_known(kind: type) -> bool:
    """Whether a process without the program finds the class by its name."""
    module, name = kind.__module__, kind.__qualname__
    if not isinstance(module, str) or not isinstance(name, str) or module in _OURS or module not in sys.modules:
        return False
    return _found(module, name) is kind


def _found(module: Any, name: Any) -> Any:
    """The class of that name; None where there is none."""
    if type(module) is not str or type(name) is not str or module in _OURS:
        return None
    if module not in sys.modules and module.partition(".")[0] not in sys.stdlib_module_names - {"antigravity", "this"}:
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = vars(found).get(part)
    except Exception:
        return None
    return found if isinstance(found, type) else None


def made(taken: Any) -> tuple[BaseException, bool]:
    """(the exception of `parts`, whether it is exactly that one). Raises NoSuchException where nothing like it can be made."""
    own, classes, arguments, state, text, deeper, hides = taken
    kinds = [
        kind for kind in (_found(*names) for names in classes) if isinstance(kind, type) and issubclass(kind, BaseException)
    ]
    if not kinds or len(kinds) < len(classes) - 1:  # object is no exception
        raise NoSuchException(own or ".".join(classes[0]))
    try:
        error = _own(str(own), kinds, arguments, str(text)) if own else kinds[0](*arguments)
        for name, value in state.items():
            setattr(error, name, value)
        exact = not own and type(error) is kinds[0] and str(error) == text
    except Exception as failed:
        raise NoSuchException(own or kinds[0].__name__) from failed
    if not own and not exact:
        raise NoSuchException(kinds[0].__name__)
    for name, inner in zip(("__cause__", "__context__"), deeper, strict=True):
        if inner is not None:
            earlier, same = made(inner)
            setattr(error, name, earlier)
            exact = exact and same
    error.__suppress_context__ = bool(hides)
    return error, exact


def _own(name: str, kinds: list[Any], arguments: Any, text: str) -> BaseException:
    leaves = [k for i, k in enumerate(kinds) if not any(issubclass(other, k) for other in kinds[:i])]
    kind: Any = type(name, tuple(leaves), {"__str__": lambda self: text, "__init__": lambda self, *_: None})
    error: BaseException = kind.__new__(kind, *arguments)
    error.args = tuple(arguments)
    return error
