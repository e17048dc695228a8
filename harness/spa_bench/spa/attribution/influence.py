"""Influence over LoRA parameters, all queries in one pass over the data.

score(z, q) = ∇ℓ(q)ᵀ (H + λ)⁻¹ ∇ℓ(z) (Koh and Liang 2017, arXiv 1703.04730; with the sign that makes a higher score mean that
training on z lowers the loss of q), ℓ the token-mean loss of a completion. The M queries' gradients are preconditioned once
(curvature.py, lissa.py); then each example's gradient is computed, multiplied with all of them and dropped. With several
checkpoints the scores are averaged, as in TracIn (Pruthi et al. 2020, arXiv 2002.08484) at equal learning rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError
from spa_bench.models.base import LoraTrainable
from spa_bench.models.hf.failures import is_out_of_memory
from spa_bench.models.hf.stacked_lora import Adapter, read_adapter
from spa_bench.spa.attribution import lissa
from spa_bench.spa.attribution.base import Progress, Setting
from spa_bench.spa.attribution.cost import estimate_cost
from spa_bench.spa.attribution.curvature import CURVATURES, Blocks, Consume
from spa_bench.spa.attribution.gradients import Batch, Point, over_batches
from spa_bench.spa.attribution.sample import OWN_LABELS, Sampled, gradients
from spa_bench.spa.batches import Encoded, encode
from spa_bench.spa.estimate import Size, check_affordable
from spa_bench.spa.rows import RowFile
from spa_bench.types import Example


class InfluenceAttributor:
    """See the module's docstring."""

    def __init__(self, setting: Setting):
        self._setting = setting

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: Path | None = None
    ) -> NDArray[np.float32]:
        """See Attributor.scores. Raises DataError for an example or query whose gradient is zero or not finite."""
        s, steps = self._setting, sorted(self._setting.card.checkpoints)
        trained = s.warm_up([step for step in steps if step])
        total = np.zeros((len(examples), len(queries)), np.float32)
        for place, step in enumerate(steps):

            def advance(done: int, all_: int, place: int = place) -> None:
                progress(place * all_ + done, len(steps) * all_)

            adapter = read_adapter(trained[step]) if step else None
            total += scores_at(
                s.model,
                adapter,
                examples,
                queries,
                s.card,
                s.lora,
                seed=s.seed,
                progress=advance,
                kept=kept,
                name=f"step-{step}",
            )
        return np.asarray(total / len(steps), np.float32)


def scores_at(
    model: LoraTrainable,
    adapter: Adapter | None,
    examples: Sequence[Example],
    queries: Sequence[Example],
    card: AttributionCard,
    lora: LoraCard,
    *,
    seed: int,
    progress: Progress,
    kept: Path | None = None,
    name: str = "here",
) -> NDArray[np.float32]:
    """Scores (N, M) at `adapter`; None: LoRA's start, with the A that `seed` draws. `kept` as in Attributor.scores.

    Raises DataError for an example or query whose gradient is zero or not finite, and when memory runs out.
    """
    with _enough_memory(len(queries)):
        point = Point(model, model.lora_layers(lora.targets), adapter, lora)
        encoded = encode(model, examples, "example", length=lora.length, loss=lora.loss)
        query_ids = encode(model, queries, "query", loss=lora.loss)
        rows = RowFile(kept / f"{name}.rows", len(queries)) if kept else None
        ready = _recalled(kept / f"{name}.safetensors") if kept else None
        work = Work(progress, estimate_cost(card, len(examples), len(queries)), len(examples))
        sample = Sampled(point=point, encoded=encoded, card=card, seed=seed, made=work.add)
        if ready is not None:
            work.prepared()
        if ready is None:
            mean = sum(len(e.ids) for e in encoded) / max(1, len(encoded))
            check_affordable(model, card, lora, Size(len(examples), len(queries), mean))
            ready = _prepared(sample, query_ids, queries, card)
            if kept:
                _keep(kept / f"{name}.safetensors", ready)
            work.prepared()
        return _stream(sample, encoded, examples, ready, len(queries), card=card, work=work, rows=rows)


@contextmanager
def _enough_memory(queries: int) -> Iterator[None]:
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


def _prepared(sample: Sampled, encoded: Sequence[Encoded], queries: Sequence[Example], card: AttributionCard) -> Blocks:
    """The queries' gradients, preconditioned: block by block (M, o, i)."""
    point, features = sample.point, sample.features
    blocks = {block: torch.zeros(len(encoded), *shape, device=point.device) for block, shape in features.shapes.items()}

    def run(batch: Batch) -> None:
        def put(block: str, gradient: Tensor) -> None:
            blocks[block][batch.indices] = gradient

        gradients(point, features, batch, put)

    over_batches(encoded, point.device, run)
    norms = torch.stack([g.square().sum((1, 2)) for g in blocks.values()]).sum(0)
    _check(norms, list(range(len(queries))), queries, "query")
    return lissa.lissa(sample, blocks, card) if card.curvature == "lissa" else CURVATURES[card.curvature](sample, blocks, card)


def _stream(
    sample: Sampled,
    encoded: Sequence[Encoded],
    examples: Sequence[Example],
    ready: Blocks,
    queries: int,
    *,
    card: AttributionCard,
    work: Work,
    rows: RowFile | None,
) -> NDArray[np.float32]:
    """Scores (N, M) from one pass over the examples: each gradient times all prepared queries."""
    point, divide = sample.point, card.normalize or card.curvature == "cosine"
    flat = {block: q.flatten(1).T.contiguous() for block, q in ready.items()}  # (o·i, M)
    scores = np.zeros((len(encoded), queries), np.float32)
    known = rows.read() if rows else {}
    for index, row in known.items():
        scores[index] = row
    if known:
        work.add(len(known))

    def put(indices: Sequence[int], products: Tensor, norms: Tensor) -> None:
        _check(norms, indices, examples, "example")
        scores[indices] = (products / norms.sqrt()[:, None] if divide else products).cpu().numpy()
        _check_finite(scores, indices, examples)
        if rows:
            rows.append(indices, scores[indices])
        work.add(len(indices))

    def start(count: int) -> tuple[Tensor, Tensor, Consume]:
        products = torch.zeros(count, queries, device=point.device)
        norms = torch.zeros(count, device=point.device)

        def add(block: str, gradient: Tensor) -> None:
            products.addmm_(gradient.flatten(1), flat[block])
            norms.add_(gradient.square().sum((1, 2)))

        return products, norms, add

    def run_rows(places: Sequence[int]) -> None:
        def run(batch: Batch) -> None:
            products, norms, add = start(len(batch.indices))
            gradients(point, sample.features, batch, add)
            put([places[i] for i in batch.indices], products, norms)

        done = {place for place, i in enumerate(places) if i in known}
        over_batches([encoded[i] for i in places], point.device, run, done)

    # the curvature's examples are passed on as they were there: what is still held of them is not computed again
    first = sample.chosen if card.curvature in OWN_LABELS else []
    for indices, blocks in sample.held:
        if not all(i in known for i in indices):
            products, norms, add = start(len(indices))
            for block, gradient in blocks.items():
                add(block, gradient.to(point.device))
            put(indices, products, norms)
    if not sample.held:
        run_rows(first)
    run_rows(sorted(set(range(len(encoded))) - set(first)))
    if not scores.any():
        raise DataError("every score is 0, less than float32 holds; lower attribution.damping")
    return scores


def _check(norms: Tensor, indices: Sequence[int], pairs: Sequence[Example], what: str) -> None:
    """Raise DataError naming the first pair whose squared gradient norm is zero or not finite."""
    bad = [i for i, ok in zip(indices, (norms.isfinite() & (norms > 0)).tolist(), strict=True) if not ok]
    if bad:
        raise DataError(
            f"{what} {bad[0]} ({_start(pairs[bad[0]])}) has a gradient that is zero or not finite; remove it from the data"
        )


def _check_finite(scores: NDArray[np.float32], indices: Sequence[int], pairs: Sequence[Example]) -> None:
    bad = [i for i in indices if not np.isfinite(scores[i]).all()]
    if bad:
        raise DataError(f"the scores of example {bad[0]} ({_start(pairs[bad[0]])}) are not finite; raise attribution.damping")


def _start(pair: Example) -> str:
    text = " ".join(f"{pair.prompt} {pair.completion}".split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _keep(path: Path, blocks: Blocks) -> None:
    from safetensors.torch import save_file

    new = path.with_suffix(".new")
    save_file({block: q.contiguous().cpu() for block, q in blocks.items()}, str(new))
    new.replace(path)


def _recalled(path: Path) -> Blocks | None:
    """The blocks that were prepared before; None where there is no undamaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(str(path))) if path.exists() else None
    except (SafetensorError, OSError):
        return None


def build(setting: Setting) -> InfluenceAttributor:
    """The attributor over the model's LoRA parameters."""
    return InfluenceAttributor(setting)
