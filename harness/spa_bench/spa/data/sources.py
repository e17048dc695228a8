"""The sources of rows: files (JSON lines, JSON, CSV, Parquet, Arrow), and the hub; and their names in a spec."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError
from spa_bench.spa.data.columns import TALKS
from spa_bench.spa.partition import needs_scores
from spa_bench.support.arrow import arrow_rows, check_names, saved_rows
from spa_bench.support.files import opened, unpacked
from spa_bench.support.hub import HUB, INSTALL, Located, hub_rows
from spa_bench.support.packing import ENDINGS, decoded, encoding_of
from spa_bench.support.text import one_line
from spa_bench.support.user_json import read_json, read_values, spread_values, stripped_line

WRITTEN = ("code", "text")  # domains of our own queries
EMBEDDED = {  # instructions and queries, generated
    "mini": "spa_bench.mini.data",
    "mini-nlu": "spa_bench.mini.text.data",
    "mini-words": "spa_bench.mini.words",
}
_PARQUET = b"PAR1"  # the first bytes of such a file
_ROWS = ("data", "train", "rows", "examples", "instances")  # of an object: its list of rows
_SEPARATOR = re.compile(r'sep=([^"\r\n])\s*')
_BLOCK = 1024  # rows of a Parquet file that are read at once


def named(data: DataCard) -> DataCard:
    """`data` with the names of its files in place of their paths; `named` of that is the same."""
    return replace(data, examples=_bare(data.examples, _is_examples_file), queries=_bare(data.queries, is_queries_file))


def bare_targets(source: str) -> str:
    """The targets of a synthesis in a spec: the name of a file in place of its path."""
    return _bare(source, _is_examples_file)


def files_of(card: SamplerCard) -> dict[str, str]:
    """Absolute paths of the files with the sampler's training data: of `examples`, `queries`, `targets` of a synthesis."""
    files = {}
    if card.synthesizes and _is_examples_file(card.synthesize.targets):
        files["targets"] = str(Path(card.synthesize.targets).resolve())
    if card.trains and _is_examples_file(card.data.examples):
        files["examples"] = str(Path(card.data.examples).resolve())
    if needs_queries(card) and is_queries_file(card.data.queries):
        files["queries"] = str(Path(card.data.queries).resolve())
    return files


def hubs_of(card: SamplerCard) -> dict[str, str]:
    """The sources on the hub of the sampler's training data, in the form of files_of."""
    hubs = {}
    if card.synthesizes and card.synthesize.targets.startswith(HUB):
        hubs["targets"] = card.synthesize.targets
    if card.trains and card.data.examples.startswith(HUB):
        hubs["examples"] = card.data.examples
    if needs_queries(card) and card.data.queries.startswith(HUB):
        hubs["queries"] = card.data.queries
    return hubs


def needs_queries(card: SamplerCard) -> bool:
    """Whether the sampler's parts depend on scores."""
    return card.adapters == "parts" and needs_scores(card.partition.method)


def is_sampled(queries: str) -> bool:
    """Whether these queries are drawn from the examples with the seed."""
    return queries == "sample" or queries.startswith("sample:")


def read_rows(source: str) -> list[Located]:
    """The rows of a file or of the hub, in order, at least one.

    Raises DataError that names the source and the unreadable line or row.
    """
    rows = hub_rows(source) if source.startswith(HUB) else read_file(Path(source))
    if not rows:
        raise DataError(f"{source} holds no examples")
    return rows


def each_row(source: str) -> Iterator[Located]:
    """The rows of `read_rows`, one after another: of JSON lines and Parquet no more than a block is in memory.

    A list in a .json file, a table and the hub are read as a whole. Raises DataError where nothing can be read.
    """
    path, empty = Path(source), True
    for row in hub_rows(source) if source.startswith(HUB) else _each(path):
        yield row
        empty = False
    if empty:
        raise DataError(f"{source} holds no examples")


def read_file(path: Path) -> list[Located]:
    """The rows of a .parquet or .arrow file, of a folder of save_to_disk, of a .csv or .tsv table, or of JSON.

    JSON is a list, an object with one, or values behind one another, which mostly are one a line.
    Texts may be packed, and endings may be in capitals.
    """
    return list(_each(path))


def _each(path: Path) -> Iterator[Located]:
    name = path.name.lower()
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    if path.is_dir():
        yield from _numbered(path, saved_rows(path))
    elif name.endswith(".parquet") or _begins(path, _PARQUET):
        yield from _parquet_rows(path)
    elif name.endswith((".arrow", ".feather")):
        yield from _numbered(path, arrow_rows(path))
    elif name.endswith((".csv", ".tsv")):
        yield from _table_rows(path, _text(path), "\t" if name.endswith(".tsv") else ",")
    elif name.endswith(".json") or not _has_a_value_a_line(path):
        yield from _json_rows(path, _text(path), lines=not name.endswith(".json"))
    else:
        for number, line in enumerate(_lines(path), 1):
            if line := stripped_line(line):
                place = f"{path}, line {number}"
                yield place, read_json(line, place)


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError as error:
        raise _unreadable(path, error) from error


def _text(path: Path) -> str:
    try:
        return decoded(unpacked(path))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _lines(path: Path) -> Generator[str]:
    try:
        with opened(path) as stream:
            encoding = encoding_of(cast(io.BufferedReader, stream).peek(2)[:2])
            with io.TextIOWrapper(stream, encoding=encoding, newline="\n") as text:
                for line in text:
                    yield line.removesuffix("\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _has_a_value_a_line(path: Path) -> bool:
    """Whether a file of JSON lines looks like one: its first line neither begins a list nor is an object's first bracket."""
    with closing(_lines(path)) as lines:
        first = next(filter(None, map(stripped_line, lines)), "")
    return first != "{" and not first.startswith("[")


def _json_rows(path: Path, text: str, *, lines: bool) -> Iterable[Located]:
    """The rows of a list, or of values behind one another; `lines`: what is neither is read as JSON lines."""
    a_line_each = _has_lines(text)
    found = None if a_line_each else spread_values(text)
    if found is None and (lines or a_line_each):
        return read_values(text, str(path))
    if found is None:
        found = [(1, read_json(text, str(path)))]
    if len(found) != 1:
        return [(f"{path}, line {line}", value) for line, value in found]
    content = found[0][1]
    if lines and not _are_rows(content):
        return read_values(text, str(path))
    if isinstance(content, dict):
        names = [name for name in _ROWS if _are_rows(content.get(name))]
        if len(names) != 1 and not any(isinstance(value, str) or name in TALKS for name, value in content.items()):
            raise DataError(f"{path} must hold a list of rows; got dict: write a row a line")
        content = content[names[0]] if len(names) == 1 else [content]
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of rows; got {type(content).__name__}")
    return _numbered(path, content)


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _has_lines(text: str) -> bool:
    """Whether a .json file has a JSON value a line: an object of its own is its first line, and another one follows."""
    lines = [line for line in text.split("\n", 2000) if line.strip()]
    if len(lines) < 2 or not lines[0].lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def _table_rows(path: Path, text: str, delimiter: str) -> list[Located]:
    """The rows of a table whose first line names the columns; an empty cell is null, and a row of such cells is none.

    Another delimiter is the one that Excel names in a line `sep=;`, or the first line's where it has no comma.
    """
    longest = csv.field_size_limit(len(text) + 1)  # of the whole process: put back below
    head = text[: text.find("\n") + 1 or len(text)]
    named = _SEPARATOR.fullmatch(head)
    begin = 2 + bool(named)
    if named:
        text, delimiter = text[len(head) :], named[1]
    elif delimiter == "," and "," not in head:
        delimiter = next((other for other in ";\t" if other in head), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Located] = []
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        check_names(filter(None, names), f"{path}, line {begin - 1}")
        reader.fieldnames = names
        for row in reader:
            place = f"{path}, line {begin}"
            begin = reader.line_num + 1 + bool(named)
            if not any(filter(None, row.values())):
                continue
            if None in row or any(value is None for value in row.values()):
                raise DataError(f"{place}: the row has another number of cells than the first line has names")
            rows.append((place, {name: value or None for name, value in row.items()}))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + bool(named)}: {error}") from error
    finally:
        csv.field_size_limit(longest)
    return rows


def _parquet_rows(path: Path) -> Iterator[Located]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path} is Parquet, which needs pyarrow: {INSTALL}") from error
    try:
        with path.open("rb") as file:
            table = parquet.ParquetFile(file)
            check_names(table.schema_arrow.names, str(path))
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in table.iter_batches(_BLOCK))
            for number, row in enumerate(rows, 1):
                yield f"{path}, row {number}", row
    except (OSError, ValueError, LookupError, NotImplementedError) as error:  # these include pyarrow's own errors
        raise _unreadable(path, error) from error
    except OverflowError as error:
        raise DataError(f"cannot read the examples in {path}: a date that Python cannot hold ({error}); remove it") from error


def _numbered(source: object, rows: Iterable[object]) -> list[Located]:
    return [(f"{source}, row {i}", row) for i, row in enumerate(rows, 1)]


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        return DataError(
            f"cannot read the examples in {path}: byte {error.object[error.start]:#x} is no {error.encoding[:6].upper()} "
            f"({error.reason}); save it as UTF-8, or unpack it and give it the ending of its kind"
        )
    return DataError(f"cannot read the examples in {path}: {getattr(error, 'strerror', None) or one_line(error)}")


def _is_examples_file(source: str) -> bool:
    return source not in EMBEDDED and not source.startswith(HUB)


def is_queries_file(source: str) -> bool:
    """Whether these queries are a file: neither ours, nor drawn from the examples, nor on the hub."""
    return _is_examples_file(source) and source not in WRITTEN and not is_sampled(source)


def _bare(source: str, is_file: Callable[[str], bool]) -> str:
    if not is_file(source):
        return source
    name = Path(source).name
    return name if is_file(name) else f"./{name}"  # a file may be called mini
