"""Task cards: a benchmark as TOML, with the source of its problems and how answers are cut and run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from spa_bench.cards.checks import one_of, positive
from spa_bench.cards.guard import checked_by
from spa_bench.cards.kinds import CardKind, NoOptions, as_declared, beside
from spa_bench.cards.objects import check_given, is_object
from spa_bench.cards.reading import card_folder, card_of_object, check_known, check_name, filled, read_content, read_options
from spa_bench.cards.registry import TABLES, kind_of
from spa_bench.errors import CardError
from spa_bench.support.text import did_you_mean

Options = TypeVar("Options")
Build = TypeVar("Build", covariant=True)
_MOST = {"seconds": 86_400, "memory_mb": 1 << 20}  # the most a task may set: a day, a TiB; the kernel's numbers hold more
_OF_CODE = ("sha256", "suites", "prompt", "strip_prompt", "stop_instruct", "sanitiser", "one_process")
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
# from evalplus 0.3.1, make_raw_chat_prompt
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
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII)  # the name of a package, by PEP 508


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """A benchmark: the source of its problems, and how answers are cut and run."""

    name: str  # the task's name in tables and in the names of run folders
    description: str  # one line about it
    kind: str = "code"  # one of ours, one of an installed package, or package.module:build on the import path
    problems: str = "jsonl"  # for code: a name in the registry, or package.module:function; jsonl: the problems in `file`
    file: str = ""  # for jsonl: a HumanEval-shaped file; other kinds may use it for a file of their own
    version: str = ""  # the version of data and harness
    sha256: str | tuple[str, ...] = ""  # the hash of the decompressed file, or several that it may have; "": any
    suites: tuple[str, ...] = ()  # for tests that are data: ["base"] or ["base", "plus"]; empty: all suites
    # completion: the model continues the prompt; instruct: the chat template wraps it; auto: instruct where there is a template
    prompt: str = "completion"
    strip_prompt: bool = False  # strip the prompt's outer white space, and end it with one line end, as evalplus does
    instruction: str = INSTRUCTION  # for instruct: the instruction, with {prompt} filled in
    response: str = RESPONSE  # for instruct: the beginning of the answer
    max_new_tokens: int = 512  # [tokens] the most of one answer
    stop: tuple[str, ...] = ()  # the texts at which an answer is cut
    stop_instruct: tuple[str, ...] = ()  # for instruct: the stop strings, instead of `stop`
    # program: all that the entry point needs, and nothing else; stop: cut the answer at a stop string or a closing fence;
    # evalplus: cut it at a stop string, then apply evalplus.sanitize
    sanitiser: str = "program"
    seconds: float = 3.0  # [s of CPU time] for one program; where tests are data, the least limit of one call
    memory_mb: int = 1024  # [MiB] of main memory for one program
    shuffle: int | None = None  # [seed] of the problems' order, of which a limit takes the first; None: the order of the data
    stratify: bool = False  # in the order of `shuffle`, the first problems have every tag in proportion
    packages: tuple[str, ...] = ("numpy",)  # distributions that programs may import beside the standard library
    one_process: bool = False  # run program and tests in one process, for values that cannot be passed between two
    options: object = field(default_factory=NoOptions)  # an instance of the dataclass that the kind declares

    def options_as(self, declared: type[Options]) -> Options:
        """The options as `declared`, the class that the card's kind declares. Raises TypeError for another class."""
        return as_declared(self.options, declared)


@dataclass(frozen=True, kw_only=True)
class TaskCardKind(CardKind[Build, TaskCard]):
    """The part of a kind of task that concerns its card; spa_bench.tasks.base.TaskKind is the whole kind."""

    # the values of keys that a card leaves out
    unsaid: Mapping[str, object] = field(default_factory=dict, metadata=beside("UNSAID"))
    # the keys of code tasks that this kind reads too, such as prompt
    reads: frozenset[str] = field(default=frozenset(), metadata=beside("READS"))


@runtime_checkable
class Placed(Protocol):
    """Options of a task that hold paths: the paths on a machine are not part of a run's spec."""

    def placed(self, folder: Path) -> object:
        """The options with absolute paths: relative paths start at `folder`."""
        ...

    def places(self) -> Mapping[str, str | list[str]]:
        """The paths, for a run folder's task_file.json."""
        ...

    def at(self, places: Mapping[str, str | list[str]], task_file: Path | None) -> Placed:
        """The options with the paths of `places`, or with `task_file` instead; the options in a run's spec have no paths."""
        ...


def load_task_card(name_or_path: str, overrides: Mapping[str, object] | None = None) -> TaskCard:
    """The task card of that name or file, or of `lm-eval:NAME`, a task or group of lm-eval. Raises UsageError or CardError.

    The card's kind declares its options, which cards it refuses, and the defaults of keys: see spa_bench.cards.kinds.
    """
    if is_object(name_or_path):
        return card_of_object("task", name_or_path, TaskCard, overrides or {})
    where = f"task {name_or_path!r}"
    read = read_content("task", "tasks", name_or_path, overrides or {})
    content, place = read.values, read.place
    _check_overrides(overrides or {}, place)
    card = build_task_card(content, place)
    _check_task(where, card)
    kind = kind_of(TaskCardKind, "task", card.kind)
    if kind.unsaid:
        card = build_task_card({**kind.unsaid, **content}, place)
    if "sha256" in (overrides or {}) and "version" not in (overrides or {}):  # the card's own version names other data
        digests = [card.sha256] if isinstance(card.sha256, str) else card.sha256
        said = " or ".join(digest[:12] for digest in digests if digest)
        card = dataclasses.replace(card, version=f"sha256 {said}" if said else "unpinned")
    beside_card = card_folder("task", name_or_path)
    if card.file and not Path(card.file).is_absolute() and beside_card:
        card = dataclasses.replace(card, file=str(beside_card / card.file))
    if isinstance(card.options, Placed):
        card = dataclasses.replace(card, options=card.options.placed(beside_card or Path.cwd()))
    checked_by("task", card.kind, "check()", lambda: kind.check(card))
    return card


def _check_overrides(overrides: Mapping[str, object], place: str) -> None:
    """Raises CardError for a key of --set that no task has: the hint has the prefix that --set takes."""
    fields = {f.name for f in dataclasses.fields(TaskCard)}
    for key in overrides:
        first = key.partition(".")[0]
        if first not in fields:
            raise CardError(f"unknown key {'task.' + key!r} in {place}{did_you_mean(first, fields, 'task.')}")


def _check_task(where: str, card: TaskCard) -> None:
    """Raises CardError for an invalid value of a key that all kinds of task share."""
    check_name(where, card.name)
    check_known(where, "problems", "problems", card.problems)
    _check_asking(where, card)
    limits = {"max_new_tokens": card.max_new_tokens, "seconds": card.seconds, "memory_mb": card.memory_mb}
    positive(where, limits)
    for key, most in _MOST.items():
        if limits[key] > most:
            raise CardError(f"{where}: {key} is {limits[key]}; it must be at most {most}")
    if card.stratify and card.shuffle is None:
        raise CardError(f"{where}: stratify is true, and the problems come in the order of the data; give shuffle, a seed, too")
    for key in ("stop", "stop_instruct"):
        if "" in getattr(card, key):
            raise CardError(f"{where}: {key} has an empty text, which would cut every answer to nothing")
    for package in card.packages:
        if not _DISTRIBUTION.fullmatch(package):
            raise CardError(f"{where}: packages holds {package!r}, which is no name of a package")
    if card.kind == "code" and card.problems == "jsonl" and not card.file:
        raise CardError(f'{where}: problems = "jsonl" needs file = "problems.jsonl"')
    given = [key for key in _OF_CODE if getattr(card, key) != getattr(TaskCard, key)]
    if (
        card.kind != "code"
        and given
        and (idle := [k for k in given if k not in kind_of(TaskCardKind, "task", card.kind).reads])
    ):
        raise CardError(f"{where}: {idle[0]} plays a part for kind 'code' alone; this card has kind {card.kind!r}")


def _check_asking(where: str, card: TaskCard) -> None:
    """Raises CardError for an invalid value of a key about prompts, answers or data."""
    one_of(where, "prompt", card.prompt, ("completion", "instruct", "auto"))
    one_of(where, "sanitiser", card.sanitiser, tuple(TABLES["sanitiser"]))
    if "{prompt}" not in card.instruction:
        raise CardError(f"{where}: instruction has no {{prompt}}, so the model would not be told the problem")
    for digest in (card.sha256,) if isinstance(card.sha256, str) else card.sha256:
        if digest and not _SHA256.fullmatch(digest):
            raise CardError(f"{where}: sha256 is {digest!r}; it must be 64 hexadecimal digits, or empty for any data")


def build_task_card(content: Mapping[str, object], place: str) -> TaskCard:
    """The card with that content, which comes from a file or a run's spec. Raises CardError for a wrong key or type."""
    check_given("task", content.get("kind"), place)
    options = content.get("options", {})
    card = filled(TaskCard, {k: v for k, v in content.items() if k != "options"}, place, "")
    check_known(f"task in {place}", "kind", "task", card.kind)
    declared = kind_of(TaskCardKind, "task", card.kind).options
    where = f"task {card.name!r}"
    read = checked_by("task", card.kind, "its options", lambda: read_options(declared, options, card.kind, place, where))
    return dataclasses.replace(card, options=read)
