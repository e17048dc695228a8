"""Labels in files: a part, or any other class, for each example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spa_bench.cards.training import PartitionCard
from spa_bench.errors import DataError
from spa_bench.spa.partition.base import PartitionKind
from spa_bench.spa.partition.scaling import Scores
from spa_bench.support.provenance import hash_bytes
from spa_bench.support.user_json import read_json
from spa_bench.types import Example


def from_file(scores: Scores | None, examples: Sequence[Example], k: int, card: PartitionCard, seed: int) -> list[int]:
    """The parts in `card.file`: whole numbers 0 .. k - 1, one for each example. Raises DataError naming the first bad one."""
    path = Path(card.file)
    found = read_labels(path)
    check_count(path, len(found), len(examples))
    labels = []
    for place, text in found:
        # longer ones are no part, and Python reads no integer of thousands of digits
        if not text.isdecimal() or len(text) > 20 or int(text) >= k:
            raise DataError(f"{path}, {place}: the part is {text[:40]!r}; with {k} members it is a whole number 0 to {k - 1}")
        labels.append(int(text))
    return labels


def check_count(path: Path, labels: int, examples: int) -> None:
    """Raises DataError unless there are as many labels as examples."""
    if labels != examples:
        raise DataError(
            f"{path} has {labels} labels, but {examples} examples are used: those that fit the model's context and "
            "lora.length, or a data.share of them; it takes one label for each of these, in their order"
        )


def read_labels(path: Path) -> list[tuple[str, str]]:
    """(place, label) for each example: of a .json list, or of parts.json of a stage, else of lines. Empty lines count not.

    Raises DataError for what cannot be read, naming the place of a label that is neither text nor a whole number.
    """
    text = _text(path)
    if path.suffix != ".json":
        return [(f"line {i}", line.strip()) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    content = read_json(text, str(path))
    if isinstance(content, dict) and "labels" in content:
        content = content["labels"]
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of labels; got {type(content).__name__}")
    for i, label in enumerate(content, 1):
        if isinstance(label, bool) or not isinstance(label, int | str):
            raise DataError(f"{path}, label {i}: a label is a whole number or text; got {label!r}")
    return [(f"label {i}", str(label)) for i, label in enumerate(content, 1)]


def read_bytes(path: Path) -> bytes:
    """What the file holds. Raises DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the labels in {path}: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read the labels in {path}: {error}") from error


def _content(card: PartitionCard) -> dict[str, object]:
    """The file by what it holds."""
    return {"file": hash_bytes(read_bytes(Path(card.file)))}


KIND = PartitionKind(build=from_file, needs_scores=False, reads=(), seeded=False, depends_on=_content)
