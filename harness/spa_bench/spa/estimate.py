"""Seconds and peak memory of attribution and training before they begin, from what a token costs (footprint.py).

The estimates are rough: within a factor of two while nothing else runs on the machine (tests/spa/test_estimate.py).
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError
from spa_bench.models.hf.placed import room_over
from spa_bench.spa.attribution.cost import estimate_cost
from spa_bench.spa.attribution.sample import holds
from spa_bench.spa.batches import Encoded, pair_ids
from spa_bench.spa.data.reading import Reading
from spa_bench.spa.data.sets import in_template, sample_size
from spa_bench.spa.data.templates import Template, template_of
from spa_bench.spa.footprint import Footprint, footprint
from spa_bench.spa.passes import TOKENS
from spa_bench.spa.training_data import Sources
from spa_bench.types import Example

if TYPE_CHECKING:
    from spa_bench.cards.sampler import SamplerCard
    from spa_bench.models.base import LoraTrainable
    from spa_bench.models.hf.stacked_lora import StackedLinear

ESTIMATED = {"lissa", "ekfac"}  # curvatures that are refused where they would take too much
HOURS = 24.0  # the most that preparing queries may take, unless SPA_BENCH_MOST_HOURS says otherwise
_PADDED = 1.1  # tokens of a pass by those of its pairs
_AGAIN = 1.4  # time of a pass whose activations are computed twice by that of a plain one
_LOGITS = 3  # float32 copies of the logits that are held together, at the peak
_PRODUCT = 3.0  # a product with the Gauss-Newton matrix by a gradient: tangents double the way forward, attention is plain
_EIGEN = 90.0  # operations of an eigendecomposition in float64 by n³, in units of float32 ones in large products
_SAMPLE = 200  # pairs whose tokens are counted for a plan


@dataclass(frozen=True)
class Size:
    """The size of the data."""

    pairs: int
    queries: int
    mean: float  # tokens of a pair


def size_of(examples: Sequence[Encoded], queries: int) -> Size:
    """The size of data whose pairs are tokens already."""
    return Size(len(examples), queries, sum(len(e.ids) for e in examples) / max(1, len(examples)))


Layers = Mapping[str, "StackedLinear"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a stage takes."""

    stage: str
    seconds: float
    peak: int  # bytes, the network among them

    def __str__(self) -> str:
        return f"{self.stage} {in_words(self.seconds)} and {self.peak / 1e9:.1f} GB"


def in_words(seconds: float) -> str:
    """A rough duration: "40 s", "12 min", "7.5 h"."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def training_estimate(cost: Footprint, lora: LoraCard, layers: Layers, sizes: list[int], mean: float) -> Estimate:
    """Training members on parts of `sizes` pairs, which have `mean` tokens."""
    rows = sum(lora.steps * lora.batch * lora.accumulation if lora.steps else round(lora.epochs * size) for size in sizes)
    together = min(lora.together or len(sizes), len(sizes))
    numbers = lora.rank * sum(x.base.in_features + x.base.out_features for x in layers.values())
    tokens = min(TOKENS[cost.device.type], round(_PADDED * mean * lora.batch * together))
    most = max(tokens, round(2 * mean) * together)  # a row of each member
    peak = cost.weights + _activations(cost, lora, most) + 16 * numbers * together
    return Estimate(stage="training", seconds=rows * _pair_seconds(cost, lora, mean, most), peak=round(peak))


def attribution_estimate(
    cost: Footprint, card: AttributionCard, lora: LoraCard, layers: Layers, size: Size, *, workers: int = 1
) -> Estimate:
    """Scoring the pairs against the queries at all checkpoints of the card: the pairs by all workers, the rest by one."""
    at = preparation_estimate(cost, card, lora, layers, size)
    pairs = size.pairs / workers
    if workers == 1 and holds(card, _chosen(card, size), _numbers(card, lora, layers)):  # what is held is not computed again
        pairs -= _chosen(card, size)
    once = (pairs + size.queries) * _pair_seconds(cost, lora, size.mean, TOKENS[cost.device.type])
    points = len(card.checkpoints)
    return Estimate(stage="attribution", seconds=points * (at.seconds + once), peak=at.peak)


def preparation_estimate(cost: Footprint, card: AttributionCard, lora: LoraCard, layers: Layers, size: Size) -> Estimate:
    """Preconditioning the gradients of the queries at one checkpoint."""
    shapes = list(_shapes(card, lora, layers))
    numbers = sum(o * i for o, i in shapes)
    tokens = TOKENS[cost.device.type]
    gradients, held = estimate_cost(card, size.pairs, size.queries), 2 * size.queries * numbers
    if holds(card, _chosen(card, size), numbers):
        gradients -= _chosen(card, size) * (card.curvature == "datainf")  # of its two passes the second computes nothing
        held += _chosen(card, size) * numbers * (cost.device.type == "cpu")  # where they are held
    work = gradients * _pair_seconds(cost, lora, size.mean, tokens)
    squares = shapes if card.curvature == "ekfac" else []
    if card.features == "core" and card.core == "pca":
        squares = [*squares, *((x.base.out_features, x.base.in_features) for x in layers.values())]
    # a token of a network of P parameters takes 4 P operations
    work += sum(_EIGEN * (o**3 + i**3) for o, i in squares) * cost.seconds / (4 * cost.parameters)
    held += sum(3 * (o * o + i * i) for o, i in squares)
    if card.curvature == "lissa":
        work *= _PRODUCT
        held += 3 * size.queries * numbers
    peak = cost.weights + _activations(cost, lora, tokens) + 4 * held
    return Estimate(stage=f"curvature {card.curvature!r}", seconds=work, peak=round(peak))


def warm_up_estimate(cost: Footprint, card: AttributionCard, lora: LoraCard, layers: Layers, size: Size) -> Estimate | None:
    """Training the adapter on all pairs at whose checkpoints gradients are taken; None where the start is the only one."""
    steps = max(card.checkpoints)
    if not steps:
        return None
    return replace(training_estimate(cost, replace(lora, steps=steps), layers, [size.pairs], size.mean), stage="warm-up")


def plan_estimates(
    card: SamplerCard, model: LoraTrainable, sources: Sources, *, scored: bool, anchored: bool = False, workers: int = 1
) -> list[Estimate]:
    """The estimates of a seed's stages on `sources`, in order; `scored` says whether gradients of the data are taken.

    The pairs' tokens are counted on at most 200 of them. `anchored`: whether one more adapter is trained, alone and on all
    pairs. `workers` that hold the model share the pairs of the attribution, and the members by lora.together.
    """
    template = template_of(card.data.template, model)
    rows = sources.examples.rows
    looked, some = _sample(card, sources.examples, template)
    sizes = [sum(map(len, pair_ids(model, pair))) for pair in some]
    most = min(card.lora.length or model.context, model.context)
    fitting = [size for size in sizes if size <= most] or [most]
    mean = sum(fitting) / len(fitting)
    pairs = max(1, round(len(rows) * card.data.share * len(fitting) / looked))
    whole = replace(card.lora, dropout=0.0)  # as gradients are taken
    cost, layers = footprint(model, card.lora), model.lora_layers(card.lora.targets)
    found: list[Estimate] = []
    if scored:
        asked = sources.queries
        queries = len(asked.rows) if asked is not None else sample_size(card.data.queries, len(rows))
        size = Size(pairs, queries, mean)
        warm_up = warm_up_estimate(cost, card.attribution, card.lora, layers, size)
        scores = attribution_estimate(footprint(model, whole), card.attribution, whole, layers, size, workers=workers)
        found += [*([warm_up] if warm_up else []), scores]
    members = {"all": [pairs], "seeds": [pairs] * card.trained, "parts": [pairs // card.trained] * card.trained}
    training = training_estimate(cost, card.lora, layers, members[card.adapters], mean)
    groups = math.ceil(card.trained / (card.lora.together or card.trained))
    seconds = training.seconds * math.ceil(groups / workers) / groups
    if anchored:
        seconds += training_estimate(cost, card.lora, layers, [pairs], mean).seconds
    return [*found, replace(training, seconds=seconds)]


def _sample(card: SamplerCard, read: Reading, template: Template) -> tuple[int, list[Example]]:
    """(the number of rows that were looked at, their text): of 200, or of all where the template takes too few of these."""
    chosen = random.Random(0).sample(range(len(read.rows)), min(_SAMPLE, len(read.rows)))
    some = Reading([read.rows[i] for i in chosen], [read.numbers[i] for i in chosen], read.told)
    try:
        return len(chosen), in_template(some, template, card.data.examples, card.data.unusable)[1]
    except DataError:  # it would count the rows of the sample alone
        return len(read.rows), in_template(read, template, card.data.examples, card.data.unusable)[1]


def check_affordable(model: LoraTrainable, card: AttributionCard, lora: LoraCard, size: Size) -> None:
    """Raise DataError where lissa or ekfac would take more hours or memory than there is; other curvatures always pass."""
    if card.curvature not in ESTIMATED:
        return
    lora = replace(lora, dropout=0.0)  # as gradients are taken
    cost = footprint(model, lora)
    found = preparation_estimate(cost, card, lora, model.lora_layers(lora.targets), size)
    seconds = found.seconds * len(card.checkpoints)
    most, room = _most_hours(), room_over(cost.devices) + cost.weights
    small = 'attribution.features = "core" with attribution.core = "random"'
    less = f'use attribution.curvature = "ekfac", {small}' if card.curvature == "lissa" else f"use {small}"
    if card.features == "core":
        less = 'use attribution.curvature = "fisher", or fewer attribution.curvature_examples'
        less = f'{less}, or attribution.core = "random"' if card.core == "pca" else less
    what = f"attribution.curvature = {card.curvature!r} with {size.queries} queries"
    if seconds > most * 3600:
        raise DataError(
            f"{what} would take about {in_words(seconds)}, more than {most:g} h; {less}, or allow it with "
            f"SPA_BENCH_MOST_HOURS={math.ceil(seconds / 1800)}"
        )
    if found.peak > room:
        raise DataError(f"{what} needs about {found.peak / 1e9:.1f} GB, and {room / 1e9:.1f} GB are free; {less}")


def _most_hours() -> float:
    given = os.environ.get("SPA_BENCH_MOST_HOURS", "")
    try:
        hours = float(given) if given else HOURS
    except ValueError:
        hours = math.nan
    if not 0 <= hours < math.inf:
        raise DataError(f"SPA_BENCH_MOST_HOURS is {given!r}; give a number of hours, such as 48")
    return hours


def _again(cost: Footprint, lora: LoraCard, tokens: int) -> bool:
    """Whether activations of a pass of `tokens` are computed twice; see footprint.twice."""
    return lora.gradient_checkpointing or (cost.kept_again < cost.kept and not cost.holds(tokens))


def _pair_seconds(cost: Footprint, lora: LoraCard, mean: float, tokens: int) -> float:
    """Of a pair of `mean` tokens, forward and backward, in passes of at most `tokens`."""
    return mean * _PADDED * cost.seconds * (_AGAIN if _again(cost, lora, tokens) else 1.0)


def _chosen(card: AttributionCard, size: Size) -> int:
    """The number of pairs from which the curvature is estimated."""
    return min(card.curvature_examples or size.pairs, size.pairs)


def _numbers(card: AttributionCard, lora: LoraCard, layers: Layers) -> int:
    """The numbers of an example's gradient."""
    return sum(o * i for o, i in _shapes(card, lora, layers))


def _activations(cost: Footprint, lora: LoraCard, tokens: int) -> float:
    return (cost.kept_again if _again(cost, lora, tokens) else cost.kept) * tokens + _LOGITS * cost.logits(tokens)


def _shapes(card: AttributionCard, lora: LoraCard, layers: Layers) -> Iterator[tuple[int, int]]:
    """(o, i) of each block of an example's gradient; see features.py."""
    if card.features == "projection":
        yield 1, card.dimensions or 4096
        return
    for layer in layers.values():
        inputs, outputs = layer.base.in_features, layer.base.out_features
        if card.features == "core":
            size = lora.rank if card.core == "adapter" else card.dimensions or 16
            yield min(size, outputs), min(size, inputs)
        else:
            yield outputs, lora.rank
            if any(card.checkpoints):
                yield lora.rank, inputs
