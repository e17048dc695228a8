"""The small setting whose Gauss-Newton matrix fits in memory: adapter, pairs, queries and the exact scores, kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution_parts.exact import DROPPED, exact_scores, gauss_newton, product_error
from attribution_parts.plain import size_of
from attribution_parts.setting import RECIPE, Where, digest_of, query_pairs, silent, training_pairs
from spa_bench.cards.training import LoraCard
from spa_bench.models.hf.stacked_lora import Adapter, read_adapter, write_adapter
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.batches import encode
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Example


@dataclass(frozen=True)
class SmallSetting:
    """A trained adapter of few parameters, and pairs that are short, because the matrix costs by the token."""

    lora: LoraCard
    kept: tuple[str, ...] = ()  # modules whose factors stay in the adapter; empty: all that were trained
    trained_on: int = 256
    pairs: int = 32
    longest: int = 48  # tokens of a pair
    queries: int = 12
    damping: float = 0.1  # times the mean eigenvalue, of a block or of the whole


def _lora(rank: int) -> LoraCard:
    return replace(RECIPE, rank=rank, alpha=2.0 * rank, targets=("q_proj", "v_proj"))


BLOCKS = {rank: SmallSetting(_lora(rank)) for rank in (1, 2)}
"""Where methods that have blocks are held against the block-diagonal matrix."""
WHOLE = SmallSetting(_lora(1), kept=("model.layers.5.self_attn.v_proj",), queries=6)
"""Where lissa is held against the whole matrix: few parameters, because its recursion needs a product for each step."""


@dataclass(frozen=True)
class Small:
    """The setting made real; `scores` are exact: full, block and identity."""

    adapter: Adapter
    folder: Path
    pairs: list[Example]
    queries: list[Example]
    matrix: NDArray[np.float32]
    scores: dict[str, NDArray[np.float64]]
    errors: list[float]  # of the matrix on random vectors
    passes: int


def small_pairs(model: Any, setting: SmallSetting) -> list[Example]:
    """The first pairs that are short enough."""
    pairs = training_pairs(setting.trained_on)
    short = [p for p, e in zip(pairs, encode(model, pairs, "pair"), strict=True) if len(e.ids) <= setting.longest]
    return short[: setting.pairs]


def make_small(where: Where, model: Any, setting: SmallSetting, report: Callable[[str], None]) -> Small:
    """Train the adapter, build the matrix and solve, or recall what is there."""
    pairs, queries = small_pairs(model, setting), query_pairs(setting.queries)
    key = {"setting": setting, "dropped": DROPPED, "pairs": digest_of(pairs), "queries": digest_of(queries)}
    folder = where.folder("exact", key)
    adapter = trained_adapter(folder / "adapter", model, setting.lora, setting.trained_on, setting.kept)
    if len(pairs) < setting.pairs:
        raise AssertionError(f"only {len(pairs)} pairs of at most {setting.longest} tokens among {setting.trained_on}")
    matrix, passes = gauss_newton(model, adapter, pairs, folder, report)
    file = folder / "scores.npz"
    if not file.exists():
        errors = [product_error(model, adapter, pairs, matrix, seed) for seed in range(3)]
        scores = exact_scores(model, adapter, pairs, queries, matrix, setting.damping)
        np.savez(file, allow_pickle=False, errors=errors, **scores)
    with np.load(file) as kept:
        scores = {name: kept[name] for name in ("full", "block", "identity")}
        errors = [float(e) for e in kept["errors"]]
    report(f"exact: {size_of(adapter)} parameters, error of the matrix on random vectors {max(errors):.1e}")
    return Small(adapter, folder, pairs, queries, matrix, scores, errors, passes)


def trained_adapter(folder: Path, model: Any, lora: LoraCard, count: int, kept: Sequence[str] = ()) -> Adapter:
    """One adapter trained on the first `count` pairs, without the modules that are not `kept`, in PEFT's format."""
    if not (folder / "adapter_model.safetensors").exists():
        seed = derive_seed("attribution-benchmark", count)
        (trained,) = train_adapters(model, [training_pairs(count)], lora, [seed], progress=silent)
        factors = {p: f for p, f in trained.factors.items() if p in kept or not kept}
        write_adapter(Adapter(factors, trained.rank, trained.alpha), folder, base_model="embedded")
    found = read_adapter(folder)
    return Adapter(dict(sorted(found.factors.items())), found.rank, found.alpha)


def single_matrices(model: Any, small: Small, report: Callable[[str], None]) -> NDArray[np.float32]:
    """(pairs, P, P): the Gauss-Newton matrix of every pair by itself."""
    file = small.folder / "single.npy"
    if not file.exists():
        found = []
        for i, pair in enumerate(small.pairs):
            part = small.folder / f"single-{i}"
            part.mkdir(exist_ok=True)
            found.append(gauss_newton(model, small.adapter, [pair], part, lambda _: None)[0])
            shutil.rmtree(part)
        np.save(file, np.stack(found))
        report(f"exact: {len(found)} matrices of single pairs")
    matrices: NDArray[np.float32] = np.load(file)
    return matrices
