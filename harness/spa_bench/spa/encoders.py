"""Texts become vectors for attribution and partition: by TF-IDF, or a model of sentence-transformers or transformers.

TF-IDF needs no model and no network and is the default. It sees words and signs, not their meaning: two programs that do
the same with other names have little in common. A model sees a text up to its own limit of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spa_bench.errors import DataError, ModelError, UsageError
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.support.provenance import hash_folder, installed
from spa_bench.types import Example

TF_IDF = "tf-idf"
_SENTENCE = "sentence-transformers:"
_HUB = "sentence-transformers/"  # the organisation of that library on the hub
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SHOWN = 40  # characters of a text in a message
Vectors: TypeAlias = NDArray[np.float64] | sparse.csr_array  # (n, d), rows of length 1 or 0
Progress = Callable[[int, int], None]
_Embed = Callable[[Sequence[str]], Iterable[NDArray[np.float32]]]  # a vector for each text


def text_of(example: Example) -> str:
    """The text of an example that is compared with others: prompt and completion."""
    return f"{example.prompt} {example.completion}"


def tokens(text: str) -> list[str]:
    """The lowercased words and single signs of a text, which BM25 and TF-IDF count."""
    return _TOKEN.findall(text.lower())


def check_texts(texts: Sequence[str], what: str) -> None:
    """Raise DataError for a text without a word or sign; `what` is "example" or "query"."""
    for i, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"{what} {i} has no word and no sign: there is nothing to compare; take it out")


def encode(
    encoder: str, texts: Sequence[str], others: Sequence[str] = (), *, progress: Progress | None = None
) -> tuple[Vectors, Vectors]:
    """Vectors of `texts` and of `others`, each of length 1.

    `encoder` is "tf-idf" (words and their weights are those of `texts`: an other text that shares no word with them has
    length 0), "embedded", a folder or hub name of an encoder of transformers (the mean over tokens), or one of
    sentence-transformers: a folder with modules.json, a hub name that begins with "sentence-transformers/", or any name
    behind "sentence-transformers:". Raises DataError for an empty text, ModelError or UsageError for the encoder.
    """
    check_texts(texts, "example")
    check_texts(others, "query")
    if encoder == TF_IDF:
        return _tf_idf(texts, others)
    embed = _sentence_transformer(encoder) if _is_sentence(encoder) else _transformer(encoder)
    every = [*texts, *others]
    rows = []
    for i, row in enumerate(embed(every)):
        rows.append(np.asarray(row, np.float64))
        if progress:
            progress(i + 1, len(every))
    vectors = np.stack(rows)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = next((i for i, length in enumerate(lengths[:, 0]) if not 0 < length < np.inf), None)
    if bad is not None:
        raise ModelError(f"encoder {encoder!r} gives a vector that is zero or not finite for {every[bad][:_SHOWN]!r}")
    vectors /= lengths
    return vectors[: len(texts)], vectors[len(texts) :]


def identity(encoder: str) -> dict[str, str]:
    """What distinguishes this encoder from another of its name: a hash of files, or a commit on the hub, and a version.

    Raises ModelError when it is neither a folder nor found on the hub or in its cache.
    """
    if encoder == TF_IDF:
        return {"name": encoder, **installed("scikit-learn")}
    library = installed("sentence-transformers") if _is_sentence(encoder) else {}  # that of transformers is in every key
    folder = _folder(encoder)
    if folder is not None:
        name = encoder if encoder == EMBEDDED else folder.name
        below = [folder, *sorted(p for p in folder.rglob("*") if p.is_dir())]
        more = (".bin",) if _is_sentence(encoder) else ()  # that library also reads weights of this older format
        return {"name": name, "hash": " ".join(f"{p.relative_to(folder)}:{hash_folder(p, more)}" for p in below), **library}
    return {"name": encoder, "commit": _commit(encoder.removeprefix(_SENTENCE)), **library}


def _tf_idf(texts: Sequence[str], others: Sequence[str]) -> tuple[Vectors, Vectors]:
    """Term frequency times ln((1 + N) / (1 + df)) + 1, scaled to length 1: scikit-learn's definition and defaults."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = TfidfVectorizer(analyzer=tokens)
    vectors = sparse.csr_array(model.fit_transform(texts))
    return vectors, sparse.csr_array(model.transform(others)) if others else vectors[:0]


def _transformer(encoder: str) -> _Embed:
    from spa_bench.models.embed import HFEmbedder

    folder = _folder(encoder)
    return HFEmbedder(str(folder or encoder), name=encoder).embed


def _sentence_transformer(encoder: str) -> _Embed:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UsageError(
            f"the encoder {encoder!r} needs sentence-transformers: pip install sentence-transformers; "
            "or use tf-idf, which needs nothing"
        ) from error
    name = encoder.removeprefix(_SENTENCE)
    try:
        model = SentenceTransformer(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n", 1)[0]
        raise ModelError(f"cannot load the encoder {encoder!r}: {first}") from error
    return lambda texts: model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)


def _is_sentence(encoder: str) -> bool:
    if encoder.startswith((_SENTENCE, _HUB)):
        return True
    folder = _folder(encoder)
    return folder is not None and (folder / "modules.json").is_file()


def _folder(encoder: str) -> Path | None:
    """The local folder of the encoder, if it has one."""
    if encoder == EMBEDDED:
        from spa_bench.mini.data import MODEL

        return MODEL
    path = Path(encoder.removeprefix(_SENTENCE))
    return path.resolve() if path.is_dir() else None


def _commit(name: str) -> str:
    """The commit of a model on the hub that is used here, from its cache where there is no network."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, "config.json")).parent.name
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"there is no encoder {name!r} here or on the hub (or no network): it takes tf-idf, a folder or a hub name"
        ) from error
