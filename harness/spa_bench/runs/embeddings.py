"""Embeddings of a run's answers, kept in its folder: the embedding kernel reads them when the model is not loaded.

`embeddings.npy` has a float32 row for each distinct graded text, in the order in which texts first appear in the records;
`embeddings.json` names the model and the texts, and holds the hash of the array's file. The two files are replaced one
after the other. A process that is killed in between leaves two files that do not match; both then count as missing.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import StoreError
from spa_bench.runs.folder import RunFolder
from spa_bench.support.files import replace_file
from spa_bench.support.interrupt import pause_point
from spa_bench.support.provenance import hash_bytes
from spa_bench.types import Record

FloatArray = NDArray[np.float32]
ARRAY, ABOUT = "embeddings.npy", "embeddings.json"
_SAVE_SECONDS = 60.0  # the most work that a killed process loses


class Embedder(Protocol):
    """A model that computes embeddings: spa_bench.models.embed or .learned, or a double in tests."""

    name: str
    limit: int  # tokens, behind which a text is ignored

    def describe(self) -> dict[str, object]:
        """Name and hash of the model, for the spec."""
        ...

    def numerics(self) -> dict[str, object]:
        """The device, and everything else that can change the last digits."""
        ...

    def embed(self, texts: Sequence[str]) -> Iterator[FloatArray]:
        """A vector (d,) for each text, in order; it depends on the text alone."""
        ...


def texts_of(records: Iterable[Record]) -> list[str]:
    """Distinct graded texts in order of first appearance, stripped of outer white space, as metrics compare them."""
    return list(dict.fromkeys(r.graded.strip() for r in records))


def missing(folder: RunFolder) -> bool:
    """Whether the spec wants embeddings that the folder lacks."""
    if not folder.spec.get("embedding"):
        return False
    texts = texts_of(folder.record_log.rows())
    return len(_kept(folder, texts)) < len(texts)


def embed(folder: RunFolder, embedder: Embedder, progress: Callable[[int, int], None]) -> None:
    """Embed the texts that have no row yet; rows that are computed when the user interrupts are kept."""
    texts = texts_of(folder.record_log.rows())
    rows = list(_kept(folder, texts))
    started = len(rows)
    saved = time.monotonic()
    try:
        for row in embedder.embed(texts[started:]):
            rows.append(row)
            progress(len(rows), len(texts))
            if time.monotonic() - saved > _SAVE_SECONDS:
                _write(folder, rows, texts, embedder)
                saved = time.monotonic()
            pause_point()
    finally:
        if len(rows) > started:
            _write(folder, rows, texts, embedder)


def read(folder: RunFolder, records: Sequence[Record]) -> dict[str, FloatArray] | None:
    """Text -> its row (d,); None for a run without embeddings. Raises StoreError when rows are missing or do not match."""
    if not folder.spec.get("embedding"):
        return None
    texts = texts_of(records)
    rows = _kept(folder, texts)
    if len(rows) < len(texts):
        raise StoreError(
            f"{folder.path / ARRAY} has {len(rows)} of {len(texts)} embeddings that fit; "
            f"make them with: spa-bench grade {folder.path}"
        )
    return dict(zip(texts, rows, strict=True))


def faults(folder: RunFolder) -> list[str]:
    """What is wrong with the array's bytes, for `spa-bench verify`; embeddings.json holds their checksum."""
    try:
        about = folder.read_json(ABOUT)
    except StoreError:
        return []  # verify reports that file itself
    path = folder.path / ARRAY
    if about is None:
        return [f"{path} has no {ABOUT}"] if path.exists() else []
    if not path.exists():
        return [f"{path} is missing"]
    sentences = []
    if hash_bytes(path.read_bytes()) != about["sha"]:
        sentences.append(f"{path} is damaged (its checksum does not fit)")
    wanted = folder.spec.get("embedding", {})
    if (about["model"], about["hash"]) != (wanted.get("name"), wanted.get("hash")):
        sentences.append(
            f"{folder.path / ABOUT}: the model is {about['model']} ({about['hash']}), and the spec has {wanted or 'none'}"
        )
    return sentences


def _kept(folder: RunFolder, texts: Sequence[str]) -> FloatArray:
    """Rows (R, d) of the first R of `texts`; R = 0 where the files on disk are of other texts or another model."""
    none = np.zeros((0, 1), np.float32)
    about = folder.read_json(ABOUT)
    path = folder.path / ARRAY
    if about is None or not path.exists() or about["hash"] != folder.spec["embedding"]["hash"]:
        return none
    data = path.read_bytes()
    if hash_bytes(data) != about["sha"] or about["texts"] != _digest(texts[: about["rows"]]) or about["rows"] > len(texts):
        return none
    rows: FloatArray = np.load(io.BytesIO(data), allow_pickle=False)
    return rows


def _write(folder: RunFolder, rows: Sequence[FloatArray], texts: Sequence[str], embedder: Embedder) -> None:
    stream = io.BytesIO()
    np.save(stream, np.stack(rows).astype("<f4"), allow_pickle=False)
    wanted = folder.spec["embedding"]
    about: dict[str, object] = {"model": wanted["name"], "hash": wanted["hash"], "rows": len(rows)}
    about |= {"texts": _digest(texts[: len(rows)]), "sha": hash_bytes(stream.getvalue()), "numerics": embedder.numerics()}
    replace_file(folder.path / ARRAY, stream.getvalue())
    folder.write_json(ABOUT, about)


def _digest(texts: Sequence[str]) -> str:
    return hash_bytes(json.dumps(list(texts)).encode())
