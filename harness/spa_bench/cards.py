"""Sampler and task cards: TOML files read into frozen dataclasses and checked once. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from spa_bench import plugins, spa_cards
from spa_bench.errors import CardError, UsageError
from spa_bench.registry import TABLES, beside, did_you_mean, known
from spa_bench.spa_cards import AttributionCard, DataCard, LoraCard, PartitionCard, not_negative, one_of, positive

LM_EVAL = "lm-eval:"  # before the name of any task or group of lm-eval, in the place of a card
_MOST = {"seconds": 86_400, "memory_mb": 1 << 20}  # of a task: a day, a TiB; far below what the kernel's numbers hold
_OF_CODE = ("sha256", "suites", "prompt", "strip_prompt", "stop_instruct", "sanitiser", "one_process")
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILLED = re.compile(r"\{([a-z_]+(?:\.[a-z_]+)*)\}")  # in a sampler's description: a number of its card, --set included
# evalplus 0.3.1, make_raw_chat_prompt
INSTRUCTION = """\
Please provide a self-contained Python script that solves the following problem in a markdown code block:
```
{prompt}
```
"""
RESPONSE = """\
Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:
```python
"""
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII)  # names of packages, as PEP 508 has them


@dataclass(frozen=True)
class DecodingCard:
    """How a sampler draws; the task adds the length limit and the stop strings."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0


@dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


@dataclass(frozen=True)
class SamplerCard:
    """A mixture of members, or a sampler of another kind over one."""

    name: str
    description: str  # {decoding.temperature} in it is that setting of the card: numbers stay right under --set
    kind: str = "mixture"  # of ours, of an installed package, or package.module:build on the import path
    members: int = 1  # K
    draws: int = 4  # answers a problem when --n is not given
    adapters: str = "none"  # none; all: one on all data; seeds: K on all data, other seeds; parts: K on the parts
    decoding: DecodingCard = field(default_factory=DecodingCard)
    lora: LoraCard = field(default_factory=LoraCard)
    attribution: AttributionCard = field(default_factory=AttributionCard)
    partition: PartitionCard = field(default_factory=PartitionCard)
    data: DataCard = field(default_factory=DataCard)
    options: Any = field(default_factory=NoOptions)  # of the kind's own dataclass, the OPTIONS of its module


@dataclass(frozen=True)
class TaskCard:
    """A benchmark: where its problems come from and how answers are cut and run."""

    name: str
    description: str
    kind: str = "code"  # of ours, of an installed package, or package.module:build on the import path
    problems: str = "jsonl"  # for code: a name in the registry, or package.module:function; jsonl: those of `file`
    file: str = ""  # for jsonl: a HumanEval-shaped file; other kinds may use it for theirs
    version: str = ""  # names data and harness
    sha256: str | tuple[str, ...] = ""  # that the decompressed file must have, or one of several; "": any
    suites: tuple[str, ...] = ()  # for tests that are data: ["base"] or ["base", "plus"]; empty: all
    prompt: str = "completion"  # completion: the model goes on from the prompt; instruct: it is asked by its chat template
    strip_prompt: bool = False  # without white space around it, but for one line end: as evalplus asks
    instruction: str = INSTRUCTION  # of instruct: what is asked, with {prompt} filled in
    response: str = RESPONSE  # of instruct: how the answer begins
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    stop_instruct: tuple[str, ...] = ()  # of instruct, in place of `stop`
    sanitiser: str = "stop"  # stop: the answer up to a stop string; evalplus: what evalplus.sanitize makes of that
    seconds: float = 3.0  # of CPU for one program; where tests are data, the least limit of one call
    memory_mb: int = 1024
    packages: tuple[str, ...] = ("numpy",)  # distributions that programs may import beside the standard library
    one_process: bool = False  # run program and tests together when something cannot cross between two processes
    options: Any = field(default_factory=NoOptions)  # of the kind's own dataclass, the OPTIONS of its module


@runtime_checkable
class Placed(Protocol):
    """Options of a task that hold paths: where these lie on a machine is no part of what a run is."""

    def placed(self, folder: Path) -> Any:
        """The options with whole paths: those that are relative lie under `folder`."""
        ...

    def places(self) -> dict[str, Any]:
        """The paths, for a run folder's task_file.json."""
        ...

    def at(self, places: Mapping[str, Any], task_file: Path | None) -> Any:
        """The options of a run, whose spec has no paths, with those of `places`, or with `task_file` for them."""
        ...


def cards_folder(kind: str) -> Path:
    """The folder of shipped `baselines` or `tasks` cards: inside the installed package, or the checkout's root."""
    package = Path(__file__).resolve().parent
    installed = package / "_cards" / kind
    return installed if installed.is_dir() else package.parents[1] / kind


def card_names(kind: str) -> list[str]:
    """Names of the shipped cards of `kind` ("baselines" or "tasks")."""
    return sorted(p.stem for p in cards_folder(kind).glob("*.toml"))


def load_sampler_card(name_or_path: str, overrides: Mapping[str, object] | None = None) -> SamplerCard:
    """The sampler card of that name or file. Raises UsageError or CardError.

    The module behind the card's kind may have OPTIONS, a frozen dataclass that [options] is read into (a ValueError of its
    __post_init__ becomes a CardError), and `check(card)`, which raises CardError for a card that the kind cannot use.
    """
    content, place = _read("sampler", "baselines", name_or_path, overrides or {})
    return build_sampler_card(content, place, f"sampler {name_or_path!r}")


def build_sampler_card(content: Mapping[str, Any], place: str, where: str) -> SamplerCard:
    """The card with that content, from a file or a run's spec; `place` and `where` name it in messages."""
    options = content.get("options", {})
    card: SamplerCard = _build(SamplerCard, {k: v for k, v in content.items() if k != "options"}, place, "")
    _check_sampler(where, card)
    card = dataclasses.replace(card, options=_options("sampler", card.kind, options, place, where))
    card = dataclasses.replace(card, description=_FILLED.sub(lambda m: _setting(card, m), card.description))
    if (check := beside("sampler", card.kind, "check")) is not None:
        check(card)
    return card


def _setting(card: SamplerCard, key: re.Match[str]) -> str:
    """The value of the setting that a description names, `{decoding.temperature}`; other braces stay as they are."""
    value: Any = card
    for name in key[1].split("."):
        value = getattr(value, name, None)
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else key[0]


def _options(table: str, kind: str, content: object, place: str, where: str) -> Any:
    if not isinstance(content, dict):
        raise CardError(f"'options' in {place} must be a table [options]; got {content!r}")
    made = beside(table, kind, "OPTIONS", NoOptions)
    if not (isinstance(made, type) and dataclasses.is_dataclass(made)):
        raise CardError(f"{where}: the OPTIONS of kind {kind!r} must be a dataclass; got {made!r}")
    if content and not dataclasses.fields(made):
        raise CardError(f"unknown key {'options.' + next(iter(content))!r} in {place}; kind {kind!r} has no options")
    try:
        return _build(made, content, place, "options.")
    except ValueError as error:
        raise CardError(f"{where}: options.{error}") from error


def _check_sampler(where: str, card: SamplerCard) -> None:
    _plain_name(where, card.name)
    _known_name(where, "kind", "sampler", card.kind)
    one_of(where, "adapters", card.adapters, ("none", "all", "seeds", "parts"))
    positive(where, {"members": card.members, "draws": card.draws, "decoding.top_p": card.decoding.top_p})
    decoding = {k: v for k, v in dataclasses.asdict(card.decoding).items() if k != "top_p"}
    not_negative(where, {f"decoding.{k}": v for k, v in decoding.items()})
    if card.decoding.top_p > 1 or card.decoding.min_p > 1:
        raise CardError(f"{where}: decoding.top_p and decoding.min_p are shares between 0 and 1; got {card.decoding}")
    spa_cards.check(where, data=card.data, attribution=card.attribution, partition=card.partition, lora=card.lora)
    if card.members > 1 and card.adapters in {"none", "all"}:
        raise CardError(f'{where}: {card.members} members need adapters = "parts" or "seeds"; got {card.adapters!r}')
    if card.members < 2 and card.adapters == "parts":
        raise CardError(f'{where}: adapters = "parts" needs at least 2 members; got {card.members}')


def load_task_card(name_or_path: str, overrides: Mapping[str, object] | None = None) -> TaskCard:
    """The task card of that name or file, or of `lm-eval:NAME`, any task or group of lm-eval. Raises UsageError or CardError.

    The module behind the card's kind may have OPTIONS and `check(card)`, as that of a sampler (load_sampler_card).
    """
    where = f"task {name_or_path!r}"
    content, place = _read("task", "tasks", name_or_path, overrides or {})
    card = build_task_card(content, place)
    _check_task(where, card)
    card = dataclasses.replace(card, **{k: v for k, v in beside("task", card.kind, "UNSAID", {}).items() if k not in content})
    if "sha256" in (overrides or {}) and "version" not in (overrides or {}):  # the card's own names other data
        card = dataclasses.replace(card, version=f"sha256 {card.sha256[:12]}" if card.sha256 else "unpinned")
    beside_card = _folder("task", name_or_path)
    if card.file and not Path(card.file).is_absolute() and beside_card:
        card = dataclasses.replace(card, file=str(beside_card / card.file))
    if isinstance(card.options, Placed):
        card = dataclasses.replace(card, options=card.options.placed(beside_card or Path.cwd()))
    if (check := beside("task", card.kind, "check")) is not None:
        check(card)
    return card


def _check_task(where: str, card: TaskCard) -> None:
    """What a task's card may say, whatever its kind's own options are."""
    _plain_name(where, card.name)
    _known_name(where, "problems", "problems", card.problems)
    _check_asking(where, card)
    limits = {"max_new_tokens": card.max_new_tokens, "seconds": card.seconds, "memory_mb": card.memory_mb}
    positive(where, limits)
    for key, most in _MOST.items():
        if limits[key] > most:
            raise CardError(f"{where}: {key} is {limits[key]}; it must be at most {most}")
    for key in ("stop", "stop_instruct"):
        if "" in getattr(card, key):
            raise CardError(f"{where}: {key} has an empty text, which would cut every answer to nothing")
    for package in card.packages:
        if not _DISTRIBUTION.fullmatch(package):
            raise CardError(f"{where}: packages holds {package!r}, which is no name of a package")
    if card.kind == "code" and card.problems == "jsonl" and not card.file:
        raise CardError(f'{where}: problems = "jsonl" needs file = "problems.jsonl"')
    if card.kind != "code" and (idle := [k for k in _OF_CODE if getattr(card, k) != getattr(TaskCard, k)]):
        raise CardError(f"{where}: {idle[0]} plays a part for kind 'code' alone; this card has kind {card.kind!r}")


def _check_asking(where: str, card: TaskCard) -> None:
    """How a model is asked, and what is made of its answer."""
    one_of(where, "prompt", card.prompt, ("completion", "instruct"))
    one_of(where, "sanitiser", card.sanitiser, tuple(TABLES["sanitiser"]))
    if "{prompt}" not in card.instruction:
        raise CardError(f"{where}: instruction has no {{prompt}}, so the model would not be told the problem")
    for digest in (card.sha256,) if isinstance(card.sha256, str) else card.sha256:
        if digest and not _SHA256.fullmatch(digest):
            raise CardError(f"{where}: sha256 is {digest!r}; it must be 64 hexadecimal digits, or empty for any data")


def build_task_card(content: Mapping[str, Any], place: str) -> TaskCard:
    """The card with that content, from a file or a run's spec. Raises CardError for a wrong key or type."""
    options = content.get("options", {})
    card: TaskCard = _build(TaskCard, {k: v for k, v in content.items() if k != "options"}, place, "")
    _known_name(f"task in {place}", "kind", "task", card.kind)
    return dataclasses.replace(card, options=_options("task", card.kind, options, place, f"task {card.name!r}"))


def parse_overrides(settings: Sequence[str]) -> tuple[dict[str, object], dict[str, object]]:
    """(`sampler` overrides, `task` overrides) from `key=value` texts.

    A key is a dotted path in the sampler card, or in the task card behind `task.`; a value is TOML, or text.
    """
    sampler: dict[str, object] = {}
    task: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, such as decoding.temperature=0.5; got {setting!r}")
        try:
            parsed: object = tomllib.loads(f"v = {value}")["v"]
        except (ValueError, RecursionError):  # not TOML, or more digits or levels than Python reads
            parsed = value.strip()
        target, key = (
            (task, key.strip()[5:]) if key.strip().startswith("task.") else (sampler, key.strip().removeprefix("sampler."))
        )
        target[key] = parsed
    return sampler, task


def _read(what: str, folder: str, name_or_path: str, overrides: Mapping[str, object]) -> tuple[dict[str, Any], str]:
    """The content of a card with `overrides`, and what to call the place in messages."""
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
        near = did_you_mean(name_or_path.lower().replace("_", "-").replace("+", "-plus"), names)
        if what == "task" and name_or_path == LM_EVAL.rstrip(":"):
            raise UsageError(f"unknown task {name_or_path!r}; any task or group of lm-eval is {LM_EVAL}NAME")
        others = f"; any task of lm-eval is {LM_EVAL}NAME" if what == "task" and not near.endswith("?") else ""
        raise UsageError(f"unknown {what} {name_or_path!r}{near}{others}")
    for key, value in overrides.items():
        _put(content, key, value)
    return content, f"{place} with --set" if overrides else place


def _named_content(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a card's file, called after it where it does not name itself, and the place."""
    return {"name": path.stem, **_content(path)}, str(path)


def _folder(what: str, name_or_path: str) -> Path | None:
    """Where the paths in a card begin; None for a card of ours, which has none."""
    if name_or_path.endswith(".toml"):
        return Path(name_or_path).resolve().parent
    plugin = plugins.find(what, name_or_path)
    return plugin.card.parent if plugin and plugin.card else None


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise CardError(f"{path} is not valid TOML: nested too deep") from error
    except ValueError as error:  # not UTF-8, not TOML, or an integer of more digits than Python reads
        raise CardError(f"{path} is not valid TOML: {error}") from error


def _content_of(plugin: plugins.Plugin) -> tuple[dict[str, Any], str]:
    """What `_read` gives of the card of an installed package, or of one made of defaults where it has none."""
    path = plugin.card
    content = _content(path) if path else {"description": plugin.description}
    if content.setdefault("name", plugin.name) != plugin.name:
        raise CardError(f"{path} names itself {content['name']!r}; as the card of {plugin} it must have that name, or none")
    if plugin.is_kind:  # a card that came with code and did not use it would be a mixture, or a task of code, by mistake
        content.setdefault("kind", plugin.name)
    return content, str(path or plugin)


def _of_lm_eval(name: str) -> dict[str, Any]:
    """The content of a card for a task or group of lm-eval that has no card here. Raises UsageError for no name."""
    if not name.strip():
        raise UsageError(
            f"--task {LM_EVAL}NAME takes the name of a task or group of lm-eval; got none (`lm-eval ls tasks` lists them)"
        )
    described = f"{name} of lm-eval, asked and scored as lm-eval does"
    own = {"name": f"lm-eval-{name.replace('/', '-')}", "description": described}
    return {**own, "kind": "lm-eval", "options": {"task": name}}


def _put(content: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise UsageError(f"--set {key}: {parent!r} is a value, not a table")
    content[last] = value


def _build(kind: type[Any], content: Mapping[str, Any], place: str, prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            raise CardError(f"unknown key {prefix + key!r} in {place}{did_you_mean(key, fields)}")
    values = {}
    for name, spec in fields.items():
        if name in content:
            values[name] = _value(hints[name], content[name], place, prefix + name)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise CardError(f"{place} lacks the key {prefix + name!r}")
    return kind(**values)


def _value(hint: Any, value: Any, place: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise CardError(f"{name!r} in {place} must be a table [{name}]; got {value!r}")
        return _build(typing.cast("type[Any]", hint), value, place, name + ".")
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is tuple and isinstance(value, list):
            item = typing.get_args(kind)[0]
            if all(type(v) is item for v in value):
                return tuple(value)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind in (int, str, bool) and type(value) is kind:
            return value
    wanted = " or ".join(_list_name(k) if typing.get_origin(k) is tuple else k.__name__ for k in _alternatives(hint))
    raise CardError(f"{name!r} in {place} must be {wanted}; got {value!r}")


def _list_name(kind: Any) -> str:
    return "list of numbers" if typing.get_args(kind)[0] is int else "list of strings"


def _alternatives(hint: Any) -> Iterator[Any]:
    if isinstance(hint, types.UnionType):
        yield from typing.get_args(hint)
    else:
        yield hint


def _plain_name(where: str, name: str) -> None:
    if "/" in name or not name.strip("."):
        raise CardError(f"{where}: name is {name!r}; it names run folders and takes no slash")
    if not name.isprintable():
        raise CardError(f"{where}: name is {name!r}; it stands in tables and takes no control characters")


def _known_name(where: str, key: str, table: str, name: str) -> None:
    """Raises CardError for what is neither in the table nor in an installed package, and no package.module:attribute."""
    if ":" not in name and (table not in plugins.GROUPS or name in TABLES[table] or plugins.find(table, name) is None):
        one_of(where, key, name, tuple(known(table)))
