"""Values of the standard library that are not plain and equal plain ones: how each is taken apart, and put together again.

They are the collections of `collections`, the views of mappings, and exact numbers. Put together, they compare by the rules
of their own class: a Counter without its zeros, two OrderedDicts in their order, a view of keys as a set.
"""

from __future__ import annotations

import sys
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, Set
from types import MappingProxyType
from typing import Any

_FACTORIES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)}
_MAPPINGS = frozenset({"dict", "counter", "ordered", "defaultdict", "chainmap", "userdict", "mappingproxy"})
UNKNOWN_FACTORY = "?"


def bases(kind: type) -> tuple[type, ...]:
    """The classes of which `kind` is made, itself first, whatever a metaclass says."""
    found: tuple[type, ...] = _MRO(kind)
    return found


_MRO = type.__dict__["__mro__"].__get__
_MODULE = type.__dict__["__module__"].__get__
_VARS = type.__dict__["__dict__"].__get__
_NAME = type.__dict__["__name__"].__get__
_FLAGS = type.__dict__["__flags__"].__get__
_EVERYWHERE = (type, type(sys), type(len), type(NotImplemented))
_HEAP_TYPE = 1 << 9  # made when a program runs, not compiled into the interpreter or an extension


def module_of(kind: type) -> str:
    """The name of the module of `kind`, whatever a metaclass says; "" where it has none."""
    try:
        name = _MODULE(kind)
    except AttributeError:
        return ""
    return name if isinstance(name, str) else ""


def equality_of(kind: type) -> str:
    """What values of `kind` equal: `opaque` for themselves alone, `kin` for values of this kind alone, `own` for any.

    They equal themselves alone where no class defines `__eq__`, but for types, modules and functions in C, of which each
    process has the same. They equal their kind alone where they are of the standard library and not in the table below, but for
    those that compare as mappings or sets of any kind do, and views of memory.
    """
    decides = next(base for base in bases(kind) if "__eq__" in _VARS(base))
    if decides is object:
        return "kin" if any(base in _EVERYWHERE for base in bases(kind)) else "opaque"
    if decides in (Mapping, Set, memoryview):
        return "own"
    module, made = module_of(kind), bool(_FLAGS(kind) & _HEAP_TYPE)
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return "own"
    known = not made or (module in sys.modules and vars(sys.modules[module]).get(_NAME(kind)) is kind)
    return "kin" if known else "own"


def of(kind: type) -> Callable[[Any], tuple[str, Any]] | None:
    """What takes a value of `kind`, a class in the table itself, apart: (name in the table, content)."""
    return _APART.get(kind)


def _defaults(value: Any) -> tuple[str, Any]:
    factory = value.default_factory
    known = next((name for name, kind in _FACTORIES.items() if kind is factory), UNKNOWN_FACTORY)
    return "defaultdict", ["" if factory is None else known, dict(dict.items(value))]


def _view(name: str) -> Callable[[Any], tuple[str, Any]]:
    return lambda value: (name, list(value))


_APART: dict[type, Callable[[Any], tuple[str, Any]]] = {
    Counter: lambda value: ("counter", dict(dict.items(value))),
    OrderedDict: lambda value: ("ordered", dict(OrderedDict.items(value))),
    defaultdict: _defaults,
    ChainMap: lambda value: ("chainmap", list(value.maps)),
    UserDict: lambda value: ("userdict", value.data),
    UserList: lambda value: ("userlist", value.data),
    UserString: lambda value: ("userstring", value.data),
    MappingProxyType: lambda value: ("mappingproxy", dict(value)),
    deque: lambda value: ("deque", [list(deque.__iter__(value)), deque.maxlen.__get__(value)]),
    type({}.keys()): _view("dict_keys"),
    type({}.values()): _view("dict_values"),
    type({}.items()): _view("dict_items"),
    type(OrderedDict().keys()): _view("dict_keys"),
    type(OrderedDict().values()): _view("dict_values"),
    type(OrderedDict().items()): _view("dict_items"),
    KeysView: _view("dict_keys"),
    ItemsView: _view("dict_items"),
}
KINDS = frozenset(
    {"counter", "ordered", "defaultdict", "chainmap", "userdict", "userlist", "userstring", "mappingproxy", "deque"}
    | {"dict_keys", "dict_values", "dict_items"}
)


def fits(kind: str, value: Any, kind_of: Callable[[Any], str]) -> bool:
    """Whether `value`, as it was read, can be the content of `kind`, one of KINDS."""
    if kind in ("counter", "ordered"):
        return type(value) is dict
    if kind == "defaultdict":
        return type(value) is list and [*map(type, value)] == [str, dict]
    if kind == "chainmap":
        return type(value) is list and bool(value) and all(kind_of(each) in _MAPPINGS for each in value)
    if kind in ("userdict", "mappingproxy"):
        return kind_of(value) in _MAPPINGS
    if kind == "userstring":
        return type(value) is str
    if kind == "deque":
        length = value[1] if type(value) is list and len(value) == 2 else -1
        return type(value) is list and type(value[0]) is list and (length is None or (type(length) is int and length >= 0))
    if type(value) is not list:
        return False
    return kind != "dict_items" or all(type(part) is tuple and len(part) == 2 for part in value)


def _filled(mapping: Any, items: dict[Any, Any]) -> Any:
    """`mapping` with `items`; a signal can interrupt it, which matters where hashes collide."""
    for key, item in items.items():
        mapping[key] = item
    return mapping


def _fraction(parts: Any) -> Any:
    from fractions import Fraction

    return Fraction(*parts)


def _decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _user(kind: Callable[[], Any]) -> Callable[[Any], Any]:
    def make(data: Any) -> Any:
        made = kind()
        made.data = data
        return made

    return make


def _keys(items: Iterable[Any]) -> Any:
    found: dict[Any, None] = {}
    for item in items:  # not at once in C, which no signal interrupts
        found[item] = None
    return found.keys()


NATURAL: dict[str, Callable[[Any], Any]] = {
    "subclass": lambda value: value,
    "numpy": lambda parts: parts[1],
    "range": lambda parts: range(*parts),
    "bytearray": bytearray,
    "memoryview": memoryview,
    "dict_keys": _keys,
    "dict_values": lambda items: dict(enumerate(items)).values(),
    "dict_items": lambda items: {key: value for key, value in items}.items(),  # noqa: C416
    "deque": lambda parts: deque(*parts),
    "fraction": _fraction,
    "decimal": _decimal,
    "counter": lambda items: _filled(Counter(), items),
    "ordered": lambda items: _filled(OrderedDict(), items),
    "defaultdict": lambda parts: _filled(defaultdict(_FACTORIES.get(parts[0])), parts[1]),
    "chainmap": lambda maps: ChainMap(*maps),
    "userdict": _user(UserDict),
    "userlist": _user(UserList),
    "userstring": lambda text: UserString(text),
    "mappingproxy": MappingProxyType,
    "iterable": list,
}
