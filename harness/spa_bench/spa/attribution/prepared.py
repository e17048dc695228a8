"""Queries that are prepared once, and what examples' gradients are multiplied with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.cards.training import AttributionCard
from spa_bench.errors import DataError
from spa_bench.spa.attribution import lissa
from spa_bench.spa.attribution.base import Progress
from spa_bench.spa.attribution.curvature import CURVATURES, Blocks, Consume
from spa_bench.spa.attribution.gradients import Batch, over_batches
from spa_bench.spa.attribution.sample import Sampled, gradients
from spa_bench.spa.batches import Encoded
from spa_bench.support.memory import is_out_of_memory
from spa_bench.support.text import one_line
from spa_bench.types import Example


class Work:
    """Counts gradients: the expected number for preparing the queries, then one for each example."""

    def __init__(self, progress: Progress, preparing: int, examples: int):
        self._progress, self._preparing = progress, preparing
        self._total, self._most = preparing + examples, preparing
        self._done = 0
        progress(0, self._total)

    def add(self, gradients: int) -> None:
        """Count `gradients` more; while queries are prepared, at most the expected number counts."""
        self._done = min(self._done + gradients, self._most)
        self._progress(self._done, self._total)

    def prepared(self) -> None:
        """Count the preparation as done."""
        self._done, self._most = self._preparing, self._total


def prepared(sample: Sampled, encoded: Sequence[Encoded], queries: Sequence[Example], card: AttributionCard) -> Blocks:
    """The queries' gradients, preconditioned: block by block (M, o, i)."""
    point, features = sample.point, sample.features
    blocks = {block: torch.zeros(len(encoded), *shape, device=point.device) for block, shape in features.shapes.items()}

    def run(batch: Batch) -> None:
        def put(block: str, gradient: Tensor) -> None:
            blocks[block][batch.indices] = gradient

        gradients(point, features, batch, put)

    over_batches(encoded, point.device, run)
    norms = torch.stack([g.square().sum((1, 2)) for g in blocks.values()]).sum(0)
    check_norms(norms, list(range(len(queries))), queries, "query")
    return lissa.lissa(sample, blocks, card) if card.curvature == "lissa" else CURVATURES[card.curvature](sample, blocks, card)


@dataclass(frozen=True)
class Against:
    """M prepared queries, with which gradients are multiplied block by block."""

    flat: Blocks  # block -> (o·i, M)
    divide: bool  # by the norm of the example's gradient
    device: torch.device

    @staticmethod
    def of(ready: Blocks, card: AttributionCard, device: torch.device) -> Against:
        """The queries whose blocks (M, o, i) are `ready`."""
        flat = {block: q.to(device).flatten(1).T.contiguous() for block, q in ready.items()}
        return Against(flat, card.normalize or card.curvature == "cosine", device)

    def start(self, count: int) -> tuple[Tensor, Tensor, Consume]:
        """(products (count, M), squared norms (count,), what adds a block of `count` gradients to both)."""
        products = torch.zeros(count, next(iter(self.flat.values())).shape[1], device=self.device)
        norms = torch.zeros(count, device=self.device)

        def add(block: str, gradient: Tensor) -> None:
            products.addmm_(gradient.flatten(1), self.flat[block])
            norms.add_(gradient.square().sum((1, 2)))

        return products, norms, add

    def scores(self, products: Tensor, norms: Tensor) -> NDArray[np.float32]:
        """The scores (count, M) of complete products."""
        found: NDArray[np.float32] = (products / norms.sqrt()[:, None] if self.divide else products).cpu().numpy()
        return found


def check_norms(norms: Tensor, indices: Sequence[int], pairs: Sequence[Example], what: str) -> None:
    """Raise DataError naming the first pair whose squared gradient norm is zero or not finite."""
    for place, norm in zip(indices, norms.tolist(), strict=True):
        if norm > 0 and math.isfinite(norm):
            continue
        named = f"{what} {place} ({_start(pairs[place])})"
        if norm == 0:
            raise DataError(f"{named} has a gradient that is zero or not finite (it is zero); remove it from the data")
        raise DataError(
            f"{named} has a gradient that is zero or not finite (it is NaN or infinite); remove it from the data, or use "
            "float32 and look for NaN in the weights of the model"
        )


def check_finite(scores: NDArray[np.float32], indices: Sequence[int], pairs: Sequence[Example]) -> None:
    """Raise DataError naming the first pair with a score that is NaN or infinite."""
    bad = [i for i in indices if not np.isfinite(scores[i]).all()]
    if bad:
        raise DataError(f"the scores of example {bad[0]} ({_start(pairs[bad[0]])}) are not finite; raise attribution.damping")


def _start(pair: Example) -> str:
    return repr(one_line(f"{pair.prompt} {pair.completion}", 60))


@contextmanager
def enough_memory(queries: int) -> Iterator[None]:
    """Turn a lack of memory within the block into a DataError that says which settings need less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DataError(
            f'attribution ran out of memory with {queries} queries; use fewer of them, attribution.features = "core" or '
            "smaller attribution.dimensions, lora.gradient_checkpointing = true, or a smaller lora.length"
        ) from error


def keep_blocks(path: Path, blocks: Blocks) -> None:
    """Write `blocks` to `path`, which appears complete or not at all."""
    from safetensors.torch import save_file

    new = path.with_suffix(".new")
    save_file({block: q.contiguous().cpu() for block, q in blocks.items()}, str(new))
    new.replace(path)


def recalled_blocks(path: Path) -> Blocks | None:
    """The blocks that were prepared before; None where there is no undamaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(str(path))) if path.exists() else None
    except (SafetensorError, OSError):
        return None
