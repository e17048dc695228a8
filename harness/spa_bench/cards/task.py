"""Task cards: a benchmark as TOML, where its problems come from and how answers are cut and run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from spa_bench.cards.checks import one_of, positive
from spa_bench.cards.kinds import CardKind, NoOptions, as_declared, beside
from spa_bench.cards.reading import card_folder, check_known, check_name, filled, read_content, read_options
from spa_bench.cards.registry import TABLES, kind_of
from spa_bench.errors import CardError

Options = TypeVar("Options")
Build = TypeVar("Build", covariant=True)
_MOST = {"seconds": 86_400, "memory_mb": 1 << 20}  # of a task: a day, a TiB; far below what the kernel's numbers hold
_OF_CODE = ("sha256", "suites", "prompt", "strip_prompt", "stop_instruct", "sanitiser", "one_process")
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
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


@dataclass(frozen=True, kw_only=True)
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
    options: object = field(default_factory=NoOptions)  # of the dataclass that the kind declares

    def options_as(self, declared: type[Options]) -> Options:
        """The options, of the class that the card's kind declares. Raises TypeError for another."""
        return as_declared(self.options, declared)


@dataclass(frozen=True, kw_only=True)
class TaskCardKind(CardKind[Build, TaskCard]):
    """A kind of task as far as its card goes; spa_bench.tasks.base.TaskKind is the whole."""

    # what keys of a card are where it does not say them
    unsaid: Mapping[str, object] = field(default_factory=dict, metadata=beside("UNSAID"))


@runtime_checkable
class Placed(Protocol):
    """Options of a task that hold paths: where these lie on a machine is no part of what a run is."""

    def placed(self, folder: Path) -> object:
        """The options with whole paths: those that are relative lie under `folder`."""
        ...

    def places(self) -> Mapping[str, str | list[str]]:
        """The paths, for a run folder's task_file.json."""
        ...

    def at(self, places: Mapping[str, str | list[str]], task_file: Path | None) -> Placed:
        """The options with the paths of `places`, or with `task_file` in their place; those in a run's spec have no paths."""
        ...


def load_task_card(name_or_path: str, overrides: Mapping[str, object] | None = None) -> TaskCard:
    """The task card of that name or file, or of `lm-eval:NAME`, any task or group of lm-eval. Raises UsageError or CardError.

    The card's kind declares its options, what it refuses and what a card need not say: see spa_bench.cards.kinds.
    """
    where = f"task {name_or_path!r}"
    content, place = read_content("task", "tasks", name_or_path, overrides or {})
    card = build_task_card(content, place)
    _check_task(where, card)
    kind = kind_of(TaskCardKind, "task", card.kind)
    if kind.unsaid:
        card = build_task_card({**kind.unsaid, **content}, place)
    if "sha256" in (overrides or {}) and "version" not in (overrides or {}):  # the card's own names other data
        card = dataclasses.replace(card, version=f"sha256 {card.sha256[:12]}" if card.sha256 else "unpinned")
    beside_card = card_folder("task", name_or_path)
    if card.file and not Path(card.file).is_absolute() and beside_card:
        card = dataclasses.replace(card, file=str(beside_card / card.file))
    if isinstance(card.options, Placed):
        card = dataclasses.replace(card, options=card.options.placed(beside_card or Path.cwd()))
    kind.check(card)
    return card


def _check_task(where: str, card: TaskCard) -> None:
    """What a task's card may say, whatever its kind's own options are."""
    check_name(where, card.name)
    check_known(where, "problems", "problems", card.problems)
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


def build_task_card(content: Mapping[str, object], place: str) -> TaskCard:
    """The card with that content, from a file or a run's spec. Raises CardError for a wrong key or type."""
    options = content.get("options", {})
    card = filled(TaskCard, {k: v for k, v in content.items() if k != "options"}, place, "")
    check_known(f"task in {place}", "kind", "task", card.kind)
    declared = kind_of(TaskCardKind, "task", card.kind).options
    return dataclasses.replace(card, options=read_options(declared, options, card.kind, place, f"task {card.name!r}"))
