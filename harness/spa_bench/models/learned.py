"""A learned similarity on the disk: an encoder, and a projection of its embeddings (spa_bench.metrics.similarity).

Its folder takes the place of an embedding model for `--embedding` and `options.similarity`: `similarity.json` names the encoder
and says how well the similarity tells triplets that it has not seen. `projection.safetensors` holds `mean` (d,) and `weights`
(d, k), both float64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import ModelError
from spa_bench.support.files import replace_file
from spa_bench.support.provenance import hash_folder, split_hash

if TYPE_CHECKING:
    from spa_bench.models.embed import HFEmbedder

ABOUT, WEIGHTS = "similarity.json", "projection.safetensors"
VERSION = 1
_DIGITS = 32  # hex digits of hash_folder


class LearnedSimilarity:
    """An embedder whose vectors are projected; see spa_bench.runs.embeddings.Embedder."""

    def __init__(self, folder: Path, encoder: HFEmbedder, mean: NDArray[np.float64], weights: NDArray[np.float64]):
        self.name, self.limit, self._folder, self._encoder = str(folder), encoder.limit, folder, encoder
        self._mean, self._weights = mean, weights

    def describe(self) -> dict[str, object]:
        """Name, hash of the folder, which holds the encoder's hash, and the limit of tokens."""
        return {"name": self.name, "hash": hash_folder(self._folder), "tokens": self.limit}

    def numerics(self) -> dict[str, object]:
        """Those of the encoder."""
        return self._encoder.numerics()

    def embed(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """The coordinates (k,) of each text, in order. Raises ModelError where a text has none."""
        for text, vector in zip(texts, self._encoder.embed(texts), strict=True):
            row = ((vector.astype(np.float64) - self._mean) @ self._weights).astype(np.float32)
            if not np.isfinite(row).all() or not row.any():
                raise ModelError(f"the learned similarity in {self.name} gives {text[:40]!r} no direction; learn it again")
            yield row


def is_learned(name: str) -> bool:
    """Whether `name` is the folder of a learned similarity."""
    return (Path(name) / ABOUT).is_file()


def named_similarity(given: str) -> str:
    """`FOLDER@HASH` for the folder of a similarity, as a spec names it; what names a hash already stays as it is.

    Raises ModelError where there is no similarity.
    """
    return given if split_hash(given, _DIGITS) else f"{given}@{hash_folder(found_similarity(given))}"


def found_similarity(given: str) -> Path:
    """The folder of a similarity that is given as `FOLDER` or `FOLDER@HASH`. Raises ModelError for another one, or none."""
    named = split_hash(given, _DIGITS)
    folder = Path(named[0] if named else given)
    if not is_learned(str(folder)):
        raise ModelError(
            f"there is no learned similarity in {folder}; make one with `spa-bench similarity learn`, and name its folder: "
            "--set options.similarity=FOLDER"
        )
    if named and hash_folder(folder) != named[1]:
        raise ModelError(f"the similarity in {folder} has hash {hash_folder(folder)}, and {named[1]} is asked for")
    return folder


def encoder_of(folder: Path) -> dict[str, Any]:
    """`name` and `hash` of the encoder of the similarity in `folder`. Raises ModelError for a file that says no such thing."""
    encoder = read_about(folder).get("encoder")
    if not isinstance(encoder, dict) or not all(isinstance(encoder.get(key), str) for key in ("name", "hash")):
        raise ModelError(f"{folder / ABOUT} names no encoder; learn the similarity again")
    return encoder


def ranges_of(folder: Path) -> list[tuple[float, float]]:
    """The range of each coordinate in which nearly all texts lie. Raises ModelError for a file that says no such thing."""
    ranges = read_about(folder).get("ranges")
    try:
        made = [(float(low), float(high)) for low, high in ranges]  # type: ignore[union-attr]
    except (TypeError, ValueError):
        made = []
    if not made or not all(math.isfinite(high - low) and low < high for low, high in made):
        raise ModelError(f"{folder / ABOUT} has no ranges of its coordinates; learn the similarity again")
    return made


def read_about(folder: Path) -> dict[str, Any]:
    """The content of similarity.json. Raises ModelError where it cannot be read, or is of a later version."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {folder / ABOUT}: {error}") from error
    if not isinstance(about, dict) or about.get("version") != VERSION:
        found = about.get("version") if isinstance(about, dict) else None
        raise ModelError(f"{folder / ABOUT} has version {found!r}; this spa-bench reads version {VERSION}")
    return about


def load_learned(folder: Path, encoder: HFEmbedder) -> LearnedSimilarity:
    """The similarity in `folder` over its encoder. Raises ModelError where the two do not belong together."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    wanted = encoder_of(folder)
    if encoder.describe()["hash"] != wanted["hash"]:
        raise ModelError(
            f"the similarity in {folder} was learned on the encoder {wanted['name']} with hash {wanted['hash']}, and the one "
            f"here has {encoder.describe()['hash']}; learn it again, or get that encoder"
        )
    try:
        arrays = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"cannot read {folder / WEIGHTS}: {error}") from error
    mean, weights = (np.asarray(arrays.get(name, ()), dtype=np.float64) for name in ("mean", "weights"))
    if mean.ndim != 1 or weights.ndim != 2 or len(mean) != len(weights) or not np.isfinite(weights).all():
        raise ModelError(
            f"{folder / WEIGHTS} has mean of shape {mean.shape} and weights of shape {weights.shape}; they must be (d,) "
            f"and (d, k), finite; learn the similarity again"
        )
    return LearnedSimilarity(folder, encoder, mean, weights)


def save_learned(folder: Path, about: Mapping[str, object], mean: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
    """Write a similarity; `about` has the encoder's `name` and `hash`, and what a reader wants to know."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"mean": np.ascontiguousarray(mean), "weights": np.ascontiguousarray(weights)}
    replace_file(folder / WEIGHTS, save(arrays))
    replace_file(folder / ABOUT, (json.dumps({"version": VERSION, **about}, indent=1) + "\n").encode())
