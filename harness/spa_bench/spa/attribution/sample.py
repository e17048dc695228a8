"""Gradients of answers that the model draws itself, from which curvature is estimated."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from spa_bench.cards.training import AttributionCard
from spa_bench.models.hf.memory import free_bytes
from spa_bench.spa.attribution.curvature import Blocks, Consume, ConsumeHalves
from spa_bench.spa.attribution.features import Features, Half, build_features
from spa_bench.spa.attribution.gradients import Batch, Point, over_batches, uniforms
from spa_bench.spa.batches import Encoded
from spa_bench.support.seeds import derive_seed

OWN_LABELS = {"fisher", "datainf"}  # curvatures from gradients that are needed again for the scores
_HELD_SHARE = 0.25  # of the free memory, for gradients that are kept until they are needed again


def chosen(card: AttributionCard, seed: int, examples: int) -> list[int]:
    """The indices, in order, of the examples from which the curvature is estimated."""
    count = card.curvature_examples or examples
    if count >= examples:
        return list(range(examples))
    return sorted(random.Random(derive_seed(seed, "curvature")).sample(range(examples), count))


def holds(card: AttributionCard, examples: int, numbers: int) -> bool:
    """Whether the examples' own gradients, of so many numbers each, are kept from the first pass on, as there is room."""
    return card.curvature in OWN_LABELS and 4 * examples * numbers <= _HELD_SHARE * free_bytes(torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """The examples from which the curvature is estimated; see curvature.Sample."""

    point: Point
    encoded: Sequence[Encoded]  # all examples
    card: AttributionCard
    seed: int
    made: Callable[[int], None] = lambda _: None  # called with the number of single-example gradients, as they are computed
    held: list[tuple[list[int], Blocks]] = field(default_factory=list)  # gradients of `chosen` rows, on the CPU; see gradients

    @cached_property
    def chosen(self) -> list[int]:
        """The indices of the examples, in order."""
        return chosen(self.card, self.seed, len(self.encoded))

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.chosen)

    @cached_property
    def features(self) -> Features:
        """The features of every gradient."""
        p = self.point
        return build_features(self.card, p.lora, p.layers, adapter=p.adapter, seed=self.seed, moments=lambda: self.moments)

    @cached_property
    def _holds(self) -> bool:
        """Whether the examples' own gradients are few enough to be kept from the first pass on."""
        return holds(self.card, self.size, sum(o * i for o, i in self.features.shapes.values()))

    def gradients(self, consume: Consume, *, drawn: bool) -> None:
        """See curvature.Sample. Gradients of the examples' own labels are computed once where memory can hold them."""
        if not drawn and self.held:
            for rows, blocks in self.held:
                for block, gradient in blocks.items():
                    consume(block, gradient.to(self.point.device))
                self.made(len(rows))
            return

        def run(batch: Batch) -> None:
            found = []
            for draw in range(self.card.draws if drawn else 1):
                uniform = uniforms(batch, derive_seed(self.seed, "values", draw), self.chosen) if drawn else None
                found.append(example_gradients(self.point, self.features, batch, uniform))
            for blocks in found:  # behind the passes, as one that fails for lack of memory is made again
                for block, gradient in blocks.items():
                    consume(block, gradient)
                self.made(len(batch.indices))
            if not drawn and self._holds:
                rows = [self.chosen[i] for i in batch.indices]
                self.held.append((rows, {block: gradient.cpu() for block, gradient in found[0].items()}))

        over_batches(self._encoded, self.point.device, run)

    def halves(self, consume: ConsumeHalves) -> None:
        """See curvature.Sample."""

        def run(batch: Batch) -> None:
            for draw in range(self.card.draws):
                found: list[Half] = []

                def sink(path: str, x: Tensor, delta: Tensor, found: list[Half] = found) -> None:
                    here, real = self.point.device, batch.real_of(x)
                    found.extend((b, a[real].to(here), d[real].to(here)) for b, a, d in self.features.halves(path, x, delta))

                self.point.catch(batch, sink, uniform=uniforms(batch, derive_seed(self.seed, "factors", draw), self.chosen))
                for half in found:
                    consume(*half)
                self.made(len(batch.indices))

        over_batches(self._encoded, self.point.device, run)

    @property
    def _encoded(self) -> list[Encoded]:
        return [self.encoded[i] for i in self.chosen]

    @cached_property
    def moments(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The second moments (in, in), (out, out) of each layer's inputs and gradients, for principal components."""
        moments: dict[str, tuple[Tensor, Tensor]] = {}

        def run(batch: Batch) -> None:
            found: dict[str, tuple[Tensor, Tensor]] = {}

            def sink(path: str, x: Tensor, delta: Tensor) -> None:
                real = batch.real_of(x)
                a, d = x[real].float(), delta[real].float()
                found[path] = a.T @ a, d.T @ d

            self.point.catch(batch, sink)
            for path, (a, d) in found.items():
                before = moments.get(path, (0.0, 0.0))
                moments[path] = before[0] + a, before[1] + d
            self.made(len(batch.indices))

        over_batches(self._encoded, self.point.device, run)
        return moments


def example_gradients(point: Point, features: Features, batch: Batch, uniform: Tensor | None = None) -> Blocks:
    """Each block's gradients (rows, o, i)."""
    found: Blocks = {}
    gradients(point, features, batch, found.__setitem__, uniform)
    return found


def gradients(point: Point, features: Features, batch: Batch, consume: Consume, uniform: Tensor | None = None) -> None:
    """Pass each block's gradients (rows, o, i) to `consume` as soon as they are complete."""
    waiting: Blocks = {}

    def sink(path: str, x: Tensor, delta: Tensor) -> None:
        for block, of_layer in features.gradients(path, x, delta):
            part = of_layer.to(point.device)  # the layers may lie on several devices
            if not features.summed:
                consume(block, part)
            elif block in waiting:
                waiting[block] += part
            else:
                waiting[block] = part

    point.catch(batch, sink, uniform=uniform)
    for block, gradient in waiting.items():
        consume(block, gradient)
