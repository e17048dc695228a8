"""Influence over LoRA parameters, all queries in one pass over the data.

score(z, q) = ∇ℓ(q)ᵀ (H + λ)⁻¹ ∇ℓ(z) (Koh and Liang 2017, arXiv 1703.04730; with the sign that makes a higher score mean that
training on z lowers the loss of q), ℓ the token-mean loss of a completion. The M queries' gradients are preconditioned once
(curvature.py, lissa.py); then each example's gradient is computed, multiplied with all of them and dropped. With several
checkpoints the scores are averaged, as in TracIn (Pruthi et al. 2020, arXiv 2002.08484) at equal learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError
from spa_bench.models.base import LoraTrainable
from spa_bench.models.hf.stacked_lora import Adapter, read_adapter
from spa_bench.models.spread import SpreadModel
from spa_bench.spa.attribution.base import AttributionSetting, Progress
from spa_bench.spa.attribution.cost import estimate_cost
from spa_bench.spa.attribution.curvature import Blocks
from spa_bench.spa.attribution.gradients import Batch, Point, over_batches
from spa_bench.spa.attribution.prepared import (
    Against,
    Work,
    check_finite,
    check_norms,
    enough_memory,
    keep_blocks,
    prepared,
    recalled_blocks,
)
from spa_bench.spa.attribution.sample import OWN_LABELS, Sampled, gradients
from spa_bench.spa.attribution.shared import check_in_worker, shared_scores
from spa_bench.spa.batches import Encoded, encode
from spa_bench.spa.estimate import ESTIMATED, check_affordable, size_of
from spa_bench.spa.rows import RowFile
from spa_bench.types import Example


class InfluenceAttributor:
    """See the module's docstring."""

    def __init__(self, setting: AttributionSetting):
        self._setting = setting

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: Path | None = None
    ) -> NDArray[np.float32]:
        """See Attributor.scores. Raises DataError for an example or query whose gradient is zero or not finite.

        Curvatures that would take too long are refused before the warm-up is trained.
        """
        s, steps = self._setting, sorted(self._setting.card.checkpoints)
        if steps[-1] and not (kept and all((kept / f"step-{step}.safetensors").exists() for step in steps)):
            _check_ahead(s, examples, len(queries))
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
                queries=queries,
                card=s.card,
                lora=s.lora,
                seed=s.seed,
                progress=advance,
                kept=kept,
                name=f"step-{step}",
            )
        return np.asarray(total / len(steps), np.float32)


def _check_ahead(setting: AttributionSetting, examples: Sequence[Example], queries: int) -> None:
    """Raise DataError as check_affordable."""
    model, card, lora = setting.model, setting.card, setting.lora
    if card.curvature not in ESTIMATED:
        return
    size = size_of(encode(model, examples, "example", length=lora.length, loss=lora.loss), queries)
    if isinstance(model, SpreadModel):
        [_] = model.spread([partial(check_in_worker, card=card, lora=lora, size=size)])
    else:
        check_affordable(model, card, lora, size)


def scores_at(
    model: LoraTrainable,
    adapter: Adapter | None,
    examples: Sequence[Example],
    *,
    queries: Sequence[Example],
    card: AttributionCard,
    lora: LoraCard,
    seed: int,
    progress: Progress,
    kept: Path | None = None,
    name: str = "here",
) -> NDArray[np.float32]:
    """Scores (N, M) at `adapter`; None: LoRA's start, with the A that `seed` draws. `kept` as in Attributor.scores.

    Raises DataError for an example or query whose gradient is zero or not finite, and when memory runs out.
    """
    if isinstance(model, SpreadModel):
        return shared_scores(
            model, adapter, examples, queries=queries, card=card, lora=lora, seed=seed, progress=progress, kept=kept, name=name
        )  # fmt: skip
    with enough_memory(len(queries)):
        point = Point(model, model.lora_layers(lora.targets), adapter, lora)
        encoded = encode(model, examples, "example", length=lora.length, loss=lora.loss)
        query_ids = encode(model, queries, "query", loss=lora.loss)
        rows = RowFile(kept / f"{name}.rows", len(queries)) if kept else None
        ready = recalled_blocks(kept / f"{name}.safetensors") if kept else None
        work = Work(progress, estimate_cost(card, len(examples), len(queries)), len(examples))
        sample = Sampled(point=point, encoded=encoded, card=card, seed=seed, made=work.add)
        if ready is not None:
            work.prepared()
        if ready is None:
            check_affordable(model, card, lora, size_of(encoded, len(queries)))
            ready = prepared(sample, query_ids, queries, card)
            if kept:
                keep_blocks(kept / f"{name}.safetensors", ready)
            work.prepared()
        return _stream(sample, encoded, examples, ready, len(queries), card=card, work=work, rows=rows)


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
    point, against = sample.point, Against.of(ready, card, sample.point.device)
    scores = np.zeros((len(encoded), queries), np.float32)
    known = rows.read() if rows else {}
    for index, row in known.items():
        scores[index] = row
    if known:
        work.add(len(known))

    def put(indices: Sequence[int], products: Tensor, norms: Tensor) -> None:
        check_norms(norms, indices, examples, "example")
        scores[indices] = against.scores(products, norms)
        check_finite(scores, indices, examples)
        if rows:
            rows.append(indices, scores[indices])
        work.add(len(indices))

    def run_rows(places: Sequence[int]) -> None:
        def run(batch: Batch) -> None:
            products, norms, add = against.start(len(batch.indices))
            gradients(point, sample.features, batch, add)
            put([places[i] for i in batch.indices], products, norms)

        done = {place for place, i in enumerate(places) if i in known}
        over_batches([encoded[i] for i in places], point.device, run, done)

    # the curvature's examples are passed on as they were there: what is still held of them is not computed again
    first = sample.chosen if card.curvature in OWN_LABELS else []
    for indices, blocks in sample.held:
        if not all(i in known for i in indices):
            products, norms, add = against.start(len(indices))
            for block, gradient in blocks.items():
                add(block, gradient.to(point.device))
            put(indices, products, norms)
    if not sample.held:
        run_rows(first)
    run_rows(sorted(set(range(len(encoded))) - set(first)))
    if not scores.any():
        raise DataError("every score is 0, less than float32 holds; lower attribution.damping")
    return scores


def build(setting: AttributionSetting) -> InfluenceAttributor:
    """The attributor over the model's LoRA parameters."""
    return InfluenceAttributor(setting)
