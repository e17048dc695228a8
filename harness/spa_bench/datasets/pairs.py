"""The pairs of a data set as they are measured: what is asked, the answer, the text for a model, and tests of their own."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError, UsageError
from spa_bench.models.base import PairModel
from spa_bench.spa.batches import fitting
from spa_bench.spa.data.reading import reading_of
from spa_bench.spa.data.sets import example_rows, hash_examples, in_template
from spa_bench.spa.data.shapes import Row
from spa_bench.spa.data.sources import EMBEDDED, read_rows
from spa_bench.spa.data.templates import ALPACA, Template, template_of
from spa_bench.spa.describe import other_labels
from spa_bench.support.hub import HUB
from spa_bench.types import Example

TESTS = ("tests", "test", "test_list", "test_code")
"""Columns that hold tests of the pair's own answer: a program, or a list of assertions; the first that a row has is taken."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One pair. Equal items are measured once."""

    asked: str  # before a template
    answer: str
    example: Example  # what a model reads
    tests: str = ""  # a program that fails where the answer is wrong; "": it has none
    entry_point: str = ""  # the function that `tests` checks, where these define check(candidate)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Some pairs with a name."""

    name: str
    items: tuple[Item, ...]
    total: int  # pairs of the source, before any were left out by a limit
    told: str = ""  # how the source was read, for the user
    part_of: str = ""  # the name of the set of which this is a part; "": it is whole

    def drawn(self, count: int | None, seed: int) -> DataSet:
        """`count` of its pairs, drawn with the seed and in their own order; all where `count` is None or not smaller."""
        if count is None or count >= len(self.items):
            return self
        order = list(range(len(self.items)))
        random.Random(f"describe-{seed}").shuffle(order)  # nested: a larger count contains a smaller one
        return replace(self, items=tuple(self.items[i] for i in sorted(order[:count])))


def of_examples(name: str, examples: Sequence[Example], *, tests: Sequence[str] = ()) -> DataSet:
    """The set of these pairs; `tests` has a program for each, or is empty. Raises DataError for no pairs, or another number."""
    if not examples:
        raise DataError(f"{name} has no pairs: there is nothing to measure")
    if tests and len(tests) != len(examples):
        raise DataError(f"{name} has {len(examples)} pairs and tests for {len(tests)}: give one program for each pair")
    programs = tests or [""] * len(examples)
    items = tuple(
        Item(asked=e.prompt, answer=e.completion, example=e, tests=t) for e, t in zip(examples, programs, strict=True)
    )
    return DataSet(name=name, items=items, total=len(items))


def read_set(source: str, *, model: PairModel | None = None, data: DataCard | None = None) -> DataSet:
    """The pairs of a source as `--data` names it; `data` says how rows are read (its `examples` have no effect).

    Instructions become text by the template of `data`, which is Alpaca's where there is no `model`. Rows may have tests of
    their own, see TESTS. Raises DataError for what cannot be read, and for a source without pairs.
    """
    data = replace(data or DataCard(), examples=source)
    template = _template(data.template, model)
    rows = None if source in EMBEDDED else read_rows(source)
    read = example_rows(data) if rows is None else reading_of(rows, source, data)
    read, examples = in_template(read, template, source, data.unusable)
    tests = [] if rows is None else [_tests(rows[number - 1][1]) for number in read.numbers]
    if not examples:
        raise DataError(f"{source} has no pairs: there is nothing to measure")
    own = tests or [("", "")] * len(examples)
    items = []
    for row, example, (program, entry) in zip(read.rows, examples, own, strict=True):
        asked, answer = _plain(row)
        items.append(Item(asked=asked, answer=answer, example=example, tests=program, entry_point=entry))
    tested = sum(bool(item.tests) for item in items)
    told = f"{read.told}; tests that come with a row are read: {tested} rows have some" if tested else read.told
    return DataSet(name=name_of(source), items=tuple(items), total=len(items), told=told)


def name_of(source: str) -> str:
    """The name of a source in tables: that of its file without the folder, or of the data set on the hub."""
    return source if source in EMBEDDED or source.startswith(HUB) else Path(source).name


def parts_of(whole: DataSet, folder: Path, *, model: PairModel | None = None) -> list[DataSet]:
    """The parts of a set by the labels in a folder that `spa-bench spa partition` printed, or in a file with one for each pair.

    `whole` has all pairs of its source. A partition leaves out those that do not fit the context of its `model`. Raises
    StoreError for a folder that holds no parts, DataError for those of other pairs.
    """
    labels, examples = other_labels(folder)
    items = whole.items
    if len(labels) < len(items) and model is not None:
        items = tuple(items[i] for i in fitting(model, [item.example for item in items]))
    if examples is not None and examples != hash_examples([item.example for item in items]):
        raise DataError(
            f"{folder} has parts of other pairs than {whole.name} ({len(labels)} there, {len(items)} here): name the source "
            "and the model of that partition, and the same --set data.KEY=VALUE"
        )
    if len(labels) != len(items):
        raise DataError(f"{folder} has labels of {len(labels)} pairs, and {whole.name} has {len(items)}")
    return [
        DataSet(
            name=f"{whole.name}, part {label}",
            items=(some := tuple(item for item, other in zip(items, labels, strict=True) if other == label)),
            total=len(some),
            part_of=whole.name,
        )
        for label in sorted(set(labels), key=_order)
    ]


def _order(label: object) -> tuple[float, str]:
    """Numbers by their size, before other labels."""
    text = str(label)
    return (int(text), "") if text.isdecimal() else (math.inf, text)


def _template(wanted: str, model: PairModel | None) -> Template:
    """The template of that name. Raises UsageError for a model's own one without a model."""
    if model is not None:
        return template_of(wanted, model)
    if wanted == "chat":
        raise UsageError('data.template is "chat", which is a model\'s own: name the model with --model')
    return ALPACA if wanted == "auto" else Template(wanted)


def _plain(row: Row) -> tuple[str, str]:
    """(what is asked, the answer) of a row, before a template."""
    if isinstance(row, Example):
        return row.prompt, row.completion
    said = [text for role, text in row.turns if role != "system"]
    return "\n".join([*said, *([row.given] if row.given else [])]), row.completion


def _tests(row: object) -> tuple[str, str]:
    """(a program of tests, the function that it checks) of a row; empty where it has none."""
    if not isinstance(row, Mapping):
        return "", ""
    found = next((row[name] for name in TESTS if row.get(name)), "")
    if isinstance(found, list) and all(isinstance(line, str) for line in found):
        setup = row.get("test_setup_code") or row.get("test_imports") or ""
        lines = setup if isinstance(setup, list) else [setup]
        return "\n".join([*(line for line in lines if isinstance(line, str)), *found]), ""
    entry = row.get("entry_point")
    return (found, entry if isinstance(entry, str) else "") if isinstance(found, str) else ("", "")
