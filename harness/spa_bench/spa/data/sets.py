"""Examples and queries of a source, as rows and as pairs."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from spa_bench.cards.training import ColumnsCard, DataCard
from spa_bench.errors import DataError, ModelError
from spa_bench.models.chat import ChatTemplateError
from spa_bench.spa.data.reading import Reader, Reading, reading_of
from spa_bench.spa.data.shapes import Row
from spa_bench.spa.data.sources import EMBEDDED, WRITTEN, each_row, is_sampled, read_file, read_rows
from spa_bench.spa.data.templates import ALPACA, Template
from spa_bench.types import Example

_SAMPLED = 48  # queries that "sample" draws from the data

T = TypeVar("T", bound=Hashable)


def example_rows(data: DataCard) -> Reading:
    """The rows of the card's examples: of an embedded set, a file or the hub.

    Raises DataError that names source, row and fault.
    """
    if data.examples in EMBEDDED:
        return _whole(import_module(EMBEDDED[data.examples]).instructions())
    return reading_of(read_rows(data.examples), data.examples, data)


def each_example(data: DataCard) -> tuple[Iterator[tuple[int, Row]], Callable[[], str]]:
    """(the number and the row of each of `example_rows`, one after another; what then tells how they were read)."""
    if data.examples in EMBEDDED:
        return enumerate(import_module(EMBEDDED[data.examples]).instructions(), 1), str
    reader = Reader(data.examples, data)
    return reader.each(each_row(data.examples)), lambda: reader.told


def query_rows(data: DataCard) -> Reading:
    """The rows of the card's queries: of an embedded set, of our own "code" or "text", of a file or the hub.

    A row without the named columns is recognised by its shape, because queries need not have the source of the examples.
    """
    source = data.queries
    if source in EMBEDDED:
        return _whole(import_module(EMBEDDED[source]).queries())
    if source in WRITTEN:
        from spa_bench.spa.queries import written

        return _whole([query.row for query in written(source)])
    return reading_of(read_rows(source), source, data, optional=True)


def sample_size(source: str, available: int) -> int:
    """The number of examples that "sample" (up to 48) or "sample:M" draws of `available`. Raises DataError for too few."""
    if source == "sample":
        return min(_SAMPLED, available)
    count = source.removeprefix("sample:")
    if not count.isdecimal() or not 0 < int(count) <= available:
        raise DataError(f"data.queries is {source!r}: sample:M takes M different examples of the set, 1 to {available}")
    return int(count)


def draw_queries(source: str, examples: Sequence[Example], seed: int) -> list[Example]:
    """Queries drawn with the seed from the different `examples`: equal texts would be two columns of the same scores."""
    different = distinct(examples)
    return random.Random(f"queries-{seed}").sample(different, sample_size(source, len(different)))


def load_examples(source: str, columns: ColumnsCard | None = None, template: Template = ALPACA) -> list[Example]:
    """Pairs of an embedded set, a file or the hub, put into `template`. Raises DataError that names place and fault."""
    read = example_rows(DataCard(examples=source, columns=columns or ColumnsCard()))
    return as_pairs(read, template, source)


def load_queries(source: str, examples: Sequence[Example], seed: int, template: Template = ALPACA) -> list[Example]:
    """Attribution queries: drawn from `examples` for "sample" and "sample:M", else read from a source as in query_rows."""
    if is_sampled(source):
        return draw_queries(source, examples, seed)
    read = query_rows(DataCard(queries=source))
    return as_pairs(read, template, source)


def read_pairs(path: Path) -> list[Example]:
    """All pairs of a file, in order, instructions in Alpaca's template. Raises DataError for a file without usable pairs."""
    rows = read_file(path)
    if not rows:
        raise DataError(f"{path} holds no examples")
    read = reading_of(rows, str(path), DataCard())
    return as_pairs(read, ALPACA, str(path))


def as_pairs(read: Reading, template: Template, source: str) -> list[Example]:
    """The rows of `source` as text. Raises DataError as in_template, also for a single row that the template refuses."""
    return in_template(read, template, source, "refuse")[1]


def in_template(read: Reading, template: Template, source: str, unusable: str) -> tuple[Reading, list[Example]]:
    """(the rows of `source` that the template takes, their text).

    A chat template may refuse rows, by their roles or their order. `unusable` is data.unusable: with "drop" they are left out
    and counted in the reading. Raises DataError with "refuse", which names the first of them and their number, and where no
    row is left.
    """
    taken: list[int] = []
    pairs: list[Example] = []
    refused: dict[int, str] = {}
    for i, row in enumerate(read.rows):
        try:
            pairs.append(template(row))
            taken.append(i)
        except ModelError as error:
            refused[i] = error.why if isinstance(error, ChatTemplateError) else str(error)
    if not refused:
        return read, pairs
    first, why = next(iter(refused.items()))
    told = f"{len(refused)} of {len(read.rows)} rows are refused by the template"
    if unusable == "refuse" or not taken:
        drop = "leave them out with --set data.unusable=drop, " if taken else ""
        raise DataError(
            f'row {read.numbers[first]} of {source}: {why}; {told}: mend them, {drop}or use data.template = "alpaca"'
        )
    left_out = read.left_out | {"refused by the chat template": len(refused)}
    told = f"{read.told or source}; {told} and left out (the first is row {read.numbers[first]}: {why})"
    return Reading([read.rows[i] for i in taken], [read.numbers[i] for i in taken], told, left_out), pairs


def distinct(rows: Sequence[T]) -> list[T]:
    """The rows without repetitions of earlier ones, in order."""
    return list(dict.fromkeys(rows))


def hash_examples(examples: Sequence[Example]) -> str:
    """A hash over all pairs in order."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        ending = [] if example.ending is None else [example.ending]
        digest.update(json.dumps([example.prompt, example.completion, *ending]).encode())
    return digest.hexdigest()


def _whole(rows: Sequence[Row]) -> Reading:
    """The rows of a set of our own, all of which can be used."""
    return Reading(list(rows), list(range(1, len(rows) + 1)), "")
