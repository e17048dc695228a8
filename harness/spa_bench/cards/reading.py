"""Sampler and task cards: TOML files read into frozen dataclasses and checked once. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from spa_bench.cards import plugins
from spa_bench.cards.checks import one_of
from spa_bench.cards.objects import PREFIX, given_object
from spa_bench.cards.registry import TABLES, known
from spa_bench.errors import CardError, UsageError
from spa_bench.support.text import did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Made = TypeVar("Made", bound="DataclassInstance")
MadeOf = TypeVar("MadeOf", covariant=True)
_WORDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
LM_EVAL = "lm-eval:"  # the prefix of the name of a task or group of lm-eval that is used as a card


def cards_folder(kind: str) -> Path:
    """The folder of shipped `baselines` or `tasks` cards: inside the installed package, or in the checkout's root."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_cards" / kind
    return installed if installed.is_dir() else package.parents[1] / kind


def card_names(kind: str) -> list[str]:
    """Names of the shipped cards of `kind` ("baselines" or "tasks")."""
    return sorted(p.stem for p in cards_folder(kind).glob("*.toml"))


def read_options(declared: type[object], content: object, kind: str, place: str, where: str, *, key: str = "options") -> object:
    """The table `key` of a card, such as [options], as the dataclass that its `kind` declares. Raises CardError."""
    if not isinstance(content, dict):
        raise CardError(f"{key!r} in {place} must be a table [{key}]; got {content!r}")
    if not (isinstance(declared, type) and dataclasses.is_dataclass(declared)):
        raise CardError(f"{where}: the OPTIONS of kind {kind!r} must be a dataclass; got {declared!r}")
    if content and not dataclasses.fields(declared):
        raise CardError(f"unknown key {f'{key}.{next(iter(content))}'!r} in {place}; kind {kind!r} has no options")
    try:
        return filled(declared, content, place, f"{key}.")
    except ValueError as error:
        raise CardError(f"{where}: {key}.{error}") from error


def card_of_object(table: str, name: str, kind: type[Made], overrides: Mapping[str, object]) -> Made:
    """The card of an object that a Python program gave. Raises UsageError for settings: an object has no card to change."""
    given = given_object(table, name)
    if overrides:
        prefix = "task." if table == "task" else ""
        raise UsageError(
            f"the setting {prefix + next(iter(overrides))!r} is of a card, and the {table} is the object "
            f"{name.removeprefix(PREFIX)}: change the object instead"
        )
    assert isinstance(given.card, kind)  # spa_bench.api.objects gives every sampler and task its card
    return given.card


@dataclasses.dataclass(frozen=True)
class Overrides:
    """The settings of a command, by what they are of."""

    sampler: dict[str, object]
    task: dict[str, object]
    engine: dict[str, object]


def parse_overrides(settings: Sequence[str]) -> Overrides:
    """The overrides in `key=value` texts.

    A key is a dotted path in the sampler card; with the prefix `task.` it is one in the task card, with `engine.` an option of
    the engine. A value is TOML, or text. Raises UsageError for a text without an equals sign or without a key.
    """
    found = Overrides({}, {}, {})
    targets = {"task.": found.task, "engine.": found.engine, "sampler.": found.sampler}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, such as decoding.temperature=0.5; got {setting!r}")
        try:
            parsed: object = tomllib.loads(f"v = {value}")["v"]
        except (ValueError, RecursionError):  # not TOML, or too many digits or levels for Python
            parsed = value.strip()
        key = key.strip()
        prefix = next((p for p in targets if key.startswith(p)), "")
        targets.get(prefix, found.sampler)[key.removeprefix(prefix)] = parsed
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """What a card says."""

    values: dict[str, object]  # by its keys, overrides included
    said: frozenset[str]  # the keys that the card itself has, without overrides
    place: str  # its name in messages


def read_content(what: str, folder: str, name_or_path: str, overrides: Mapping[str, object]) -> Content:
    """The content of a card with `overrides`. Raises UsageError for an unknown card and CardError for a damaged file."""
    if what == "task" and name_or_path.startswith(LM_EVAL):
        content, place = _of_lm_eval(name_or_path.removeprefix(LM_EVAL)), f"--task {name_or_path}"
    elif name_or_path.endswith(".toml"):
        if not Path(name_or_path).is_file():
            raise UsageError(f"no {what} card at {name_or_path}")
        content, place = _named_content(Path(name_or_path))
    elif plugin := plugins.find(what, name_or_path, taken=[*card_names(folder), *TABLES[what]]):
        content, place = _content_of(plugin)
    elif name_or_path in card_names(folder):
        content, place = _named_content(cards_folder(folder) / f"{name_or_path}.toml")
    else:
        names = [*card_names(folder), *(p.name for p in plugins.installed(what))]
        raise UsageError(f"unknown {what} {name_or_path!r}{_hint(what, name_or_path, names)}")
    said = frozenset(content)
    for key, value in overrides.items():
        _put(content, key, value)
    return Content(values=content, said=said, place=f"{place} with --set" if overrides else place)


def _hint(what: str, name: str, names: Sequence[str]) -> str:
    """What somebody may have meant by a name that no card has: a card or a file beside them, or one of `names`."""
    if Path(f"{name}.toml").is_file():
        return f"; did you mean '{name}.toml'?"
    if Path(name).is_file():
        return f"; it is a file, and --{what} takes a .toml card (docs/how-to/add-a-{what}.md)"
    if what == "task" and name == LM_EVAL.rstrip(":"):
        return f"; any task or group of lm-eval is {LM_EVAL}NAME"
    near = did_you_mean(name.lower().replace("_", "-").replace("+", "-plus"), names)
    others = f"; any task of lm-eval is {LM_EVAL}NAME" if what == "task" and not near.endswith("?") else ""
    return f"{near}{others}"


def _named_content(path: Path) -> tuple[dict[str, object], str]:
    """(the content of a card's file, its place); a card without a name or a description takes the file's name."""
    content = {"name": path.stem, **_content(path)}
    return {"description": content["name"], **content}, str(path)


def card_folder(what: str, name_or_path: str) -> Path | None:
    """The folder to which paths in a card are relative; None for a card of spa-bench's own, which has no paths."""
    if name_or_path.endswith(".toml"):
        return Path(name_or_path).resolve().parent
    plugin = plugins.find(what, name_or_path)
    return plugin.card.parent if plugin and plugin.card else None


def _content(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise CardError(f"{path} is not valid TOML: nested too deep") from error
    except ValueError as error:  # not UTF-8, not TOML, or an integer with too many digits for Python
        raise CardError(f"{path} is not valid TOML: {error}") from error


def _content_of(plugin: plugins.Plugin) -> tuple[dict[str, object], str]:
    """As `read_content`, for the card of an installed package; a package without a card gets one made of defaults."""
    path = plugin.card
    content: dict[str, object] = _content(path) if path else {"description": plugin.description}
    if content.setdefault("name", plugin.name) != plugin.name:
        raise CardError(f"{path} names itself {content['name']!r}; as the card of {plugin} it must have that name, or none")
    if plugin.is_kind:  # a card that did not name the kind beside it would be a mixture, or a code task, by mistake
        content.setdefault("kind", plugin.name)
    return content, str(path or plugin)


def _of_lm_eval(name: str) -> dict[str, object]:
    """The content of a card for a task or group of lm-eval without a shipped card. Raises UsageError for an empty name."""
    if not name.strip():
        raise UsageError(
            f"--task {LM_EVAL}NAME takes the name of a task or group of lm-eval; got none (`lm-eval ls tasks` lists them)"
        )
    described = f"{name} of lm-eval, asked and scored as lm-eval does"
    own = {"name": f"lm-eval-{name.replace('/', '-')}", "description": described}
    return {**own, "kind": "lm-eval", "options": {"task": name}}


def _put(content: dict[str, object], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        table = content.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {key}: {parent!r} is a value, not a table")
        content = table
    content[last] = value


class _Maker(Protocol[MadeOf]):
    """A dataclass, seen as the function that makes its instances."""

    def __call__(self, **values: object) -> MadeOf:
        """An instance with these values."""
        ...


def filled(kind: type[Made], content: Mapping[str, object], place: str, prefix: str) -> Made:
    """An instance of the dataclass `kind` with the values of `content`. Raises CardError for a wrong or missing key or type."""
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            raise CardError(f"unknown key {prefix + key!r} in {place}{did_you_mean(key, fields, prefix)}")
    values = {}
    for name, spec in fields.items():
        if name in content:
            values[name] = _value(hints[name], content[name], place, prefix + name)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise CardError(f"{place} lacks the key {prefix + name!r}")
    return cast("_Maker[Made]", kind)(**values)


def _value(hint: object, value: object, place: str, name: str) -> object:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise CardError(f"{name!r} in {place} must be a table [{name}]; got {value!r}")
        return filled(hint, value, place, name + ".")
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is tuple and isinstance(value, list):
            item = typing.get_args(kind)[0]
            if all(type(v) is item for v in value):
                return tuple(value)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return _as_float(value, place, name)
        if kind in (int, str, bool, types.NoneType) and type(value) is kind:  # null in a spec; TOML has none
            return value
    wanted = " or ".join(_type_name(kind) for kind in _alternatives(hint) if kind is not types.NoneType)
    raise CardError(f"{name!r} in {place} must be {wanted}; got {value!r}")


def _as_float(value: int | float, place: str, name: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise CardError(f"{name!r} in {place} is {str(value)[:40]}…: a number of a card has at most 308 digits") from error


def _type_name(kind: object) -> str:
    if typing.get_origin(kind) is tuple:
        return "a list of whole numbers" if typing.get_args(kind)[0] is int else "a list of texts"
    return _WORDS.get(kind, str(kind)) if isinstance(kind, type) else str(kind)


def _alternatives(hint: object) -> Iterator[object]:
    if isinstance(hint, types.UnionType):
        yield from typing.get_args(hint)
    else:
        yield hint


def check_name(where: str, name: str) -> None:
    """Raises CardError for a name that cannot name run folders or stand in tables."""
    if "/" in name or not name.strip(". "):
        raise CardError(
            f"{where}: name is {name!r}; it names run folders and takes no slash, and needs more than spaces and dots"
        )
    if not name.isprintable():
        raise CardError(f"{where}: name is {name!r}; it stands in tables and takes no control characters")


def check_known(where: str, key: str, table: str, name: str) -> None:
    """Raises CardError unless `name` is in the table or in an installed package, or is a package.module:attribute."""
    if ":" not in name and (table not in plugins.GROUPS or name in TABLES[table] or plugins.find(table, name) is None):
        one_of(where, key, name, tuple(known(table)))
