"""Influence where several workers hold the model: one prepares the queries, all have them, and each scores some examples.

An example's row comes from the same batch as in one process, so the matrix has the same bytes wherever the workers' numerics
are those of that process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError
from spa_bench.models.base import StageModel
from spa_bench.models.hf.stacked_lora import Adapter
from spa_bench.models.spread import SpreadModel, Station, own_name
from spa_bench.spa.attribution.base import Progress
from spa_bench.spa.attribution.cost import estimate_cost
from spa_bench.spa.attribution.curvature import Blocks
from spa_bench.spa.attribution.features import Features, build_features
from spa_bench.spa.attribution.gradients import Batch, Point, batch_of
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
from spa_bench.spa.attribution.sample import OWN_LABELS, Sampled, chosen, gradients
from spa_bench.spa.batches import Encoded, encode
from spa_bench.spa.estimate import Size, check_affordable, size_of
from spa_bench.spa.passes import TOKENS, row_groups, run_within_memory
from spa_bench.spa.rows import RowFile
from spa_bench.types import Example

Moments = dict[str, tuple[Tensor, Tensor]]
_BATCHES = 16  # of a shard at most


@dataclass(frozen=True, kw_only=True)
class _PointPlace:
    """Where in the space of parameters gradients are taken, and how they are reduced."""

    adapter: Adapter | None
    card: AttributionCard
    lora: LoraCard
    seed: int

    def point(self, at: Station) -> Point:
        """The point, in a worker."""
        return Point(at.model, at.model.lora_layers(self.lora.targets), self.adapter, self.lora)


@dataclass(frozen=True)
class _Scoring:
    """What a worker keeps while it scores examples."""

    point: Point
    features: Features
    against: Against


def shared_scores(
    model: SpreadModel,
    adapter: Adapter | None,
    examples: Sequence[Example],
    *,
    queries: Sequence[Example],
    card: AttributionCard,
    lora: LoraCard,
    seed: int,
    progress: Progress,
    kept: Path | None,
    name: str,
) -> NDArray[np.float32]:
    """See scores_at. The driver alone writes into `kept`. Raises DataError as scores_at, and where every score is 0."""
    assert isinstance(model, StageModel)
    place = _PointPlace(adapter=adapter, card=card, lora=lora, seed=seed)
    encoded = encode(model, examples, "example", length=lora.length, loss=lora.loss)
    query_ids = encode(model, queries, "query", loss=lora.loss)
    rows = RowFile(kept / f"{name}.rows", len(queries)) if kept else None
    scores, known = np.zeros((len(encoded), len(queries)), np.float32), rows.read() if rows else {}
    for index, row in known.items():
        scores[index] = row
    work = Work(progress, estimate_cost(card, len(examples), len(queries)), len(examples))
    ready = recalled_blocks(kept / f"{name}.safetensors") if kept else None
    before = ready is not None
    [(_, (ready, moments))] = model.spread(
        [partial(_prepare, place=place, encoded=encoded, asked=query_ids, queries=list(queries), ready=ready)]
    )
    if kept and not before:
        keep_blocks(kept / f"{name}.safetensors", ready)
    work.prepared()
    work.add(len(known))
    groups = _groups(encoded, card, seed, TOKENS["cpu" if model.training_numerics()["device"] == "cpu" else "cuda"])
    waiting = [group for group in groups if not all(i in known for i in group)]
    size = max(1, min(_BATCHES, len(waiting) // (8 * model.count)))
    shards = [waiting[i : i + size] for i in range(0, len(waiting), size)]
    here = own_name("scoring")
    acts = (partial(_score, name=here, groups=[[encoded[i] for i in group] for group in shard]) for shard in shards)
    with model.left(partial(_begin, name=here, place=place, ready=ready, moments=moments), partial(_end, name=here)):
        for number, (found, norms) in model.spread(acts):
            indices = [i for group in shards[number] for i in group]
            check_norms(torch.from_numpy(norms), indices, examples, "example")
            scores[indices] = found
            check_finite(scores, indices, examples)
            if rows:
                rows.append(indices, scores[indices])
            work.add(len(indices))
    if not scores.any():
        raise DataError("every score is 0, less than float32 holds; lower attribution.damping")
    return scores


def _groups(encoded: Sequence[Encoded], card: AttributionCard, seed: int, tokens: int) -> list[list[int]]:
    """The examples' batches in one process: those of the curvature, where it takes their own labels, then the others."""
    first = chosen(card, seed, len(encoded)) if card.curvature in OWN_LABELS else []
    rest = sorted(set(range(len(encoded))) - set(first))
    return [
        [part[i] for i in group] for part in (first, rest) for group in row_groups([len(encoded[i].ids) for i in part], tokens)
    ]


# In the workers --------------------------------------------------------------------------------------------------


def check_in_worker(at: Station, *, card: AttributionCard, lora: LoraCard, size: Size) -> None:
    """See check_affordable."""
    check_affordable(at.model, card, lora, size)


def _prepare(
    at: Station,
    *,
    place: _PointPlace,
    encoded: Sequence[Encoded],
    asked: Sequence[Encoded],
    queries: Sequence[Example],
    ready: Blocks | None,
) -> tuple[Blocks, Moments]:
    """(the prepared queries, the moments that features need of all workers), on the CPU."""
    with enough_memory(len(queries)):
        sample = Sampled(point=place.point(at), encoded=encoded, card=place.card, seed=place.seed)
        if ready is None:
            check_affordable(at.model, place.card, place.lora, size_of(encoded, len(queries)))
            ready = {block: q.cpu() for block, q in prepared(sample, asked, queries, place.card).items()}
        principal = place.card.features == "core" and place.card.core == "pca"
        moments = {path: (x.cpu(), delta.cpu()) for path, (x, delta) in sample.moments.items()} if principal else {}
        return ready, moments


def _begin(at: Station, *, name: str, place: _PointPlace, ready: Blocks, moments: Moments) -> None:
    point = place.point(at)

    def gathered() -> Moments:
        return {path: (x.to(point.device), delta.to(point.device)) for path, (x, delta) in moments.items()}

    features = build_features(place.card, place.lora, point.layers, adapter=place.adapter, seed=place.seed, moments=gathered)
    at.kept[name] = _Scoring(point, features, Against.of(ready, place.card, point.device))


def _end(at: Station, *, name: str) -> None:
    at.kept.pop(name, None)


def _score(at: Station, *, name: str, groups: Sequence[Sequence[Encoded]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(scores (n, M), squared norms (n,)) of the examples of some batches, in order."""
    scoring = cast(_Scoring, at.kept[name])
    point, against = scoring.point, scoring.against
    flat = [example for group in groups for example in group]
    ends = np.cumsum([0, *map(len, groups)])
    found: dict[int, tuple[NDArray[np.float32], float]] = {}

    def run(rows: list[int]) -> None:
        batch: Batch = batch_of(flat, rows, point.device)
        products, norms, add = against.start(len(rows))
        gradients(point, scoring.features, batch, add)
        for row, scores, norm in zip(rows, against.scores(products, norms), norms.tolist(), strict=True):
            found[row] = scores, norm

    with enough_memory(len(next(iter(against.flat.values()))[0])):
        run_within_memory([list(range(a, b)) for a, b in pairwise(ends.tolist())], run)
    return (
        np.stack([found[i][0] for i in range(len(flat))]),
        np.array([found[i][1] for i in range(len(flat))], np.float32),
    )
