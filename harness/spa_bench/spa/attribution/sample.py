"""Gradients of answers that the model draws itself, from which curvature is estimated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from spa_bench.cards.training import AttributionCard
from spa_bench.spa.attribution.curvature import Blocks, Consume, ConsumeHalves
from spa_bench.spa.attribution.features import Features, build_features
from spa_bench.spa.attribution.gradients import Batch, Point, batches, uniforms
from spa_bench.spa.batches import Encoded
from spa_bench.support.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """The examples from which the curvature is estimated; see curvature.Sample."""

    point: Point
    encoded: Sequence[Encoded]  # all examples
    card: AttributionCard
    seed: int
    made: Callable[[int], None] = lambda _: None  # called with the number of single-example gradients, as they are computed

    @cached_property
    def chosen(self) -> list[int]:
        """The indices of the examples, in order."""
        everything = range(len(self.encoded))
        count = self.card.curvature_examples or len(everything)
        if count >= len(everything):
            return list(everything)
        return sorted(random.Random(derive_seed(self.seed, "curvature")).sample(everything, count))

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.chosen)

    @cached_property
    def features(self) -> Features:
        """The features of every gradient."""
        p = self.point
        return build_features(self.card, p.lora, p.layers, p.adapter, self.seed, self._moments)

    def gradients(self, consume: Consume, *, drawn: bool) -> None:
        """See curvature.Sample."""
        for batch in self._batches():
            for draw in range(self.card.draws if drawn else 1):
                uniform = uniforms(batch, derive_seed(self.seed, "values", draw), self.chosen) if drawn else None
                gradients(self.point, self.features, batch, consume, uniform)
                self.made(len(batch.indices))

    def halves(self, consume: ConsumeHalves) -> None:
        """See curvature.Sample."""
        for batch in self._batches():

            def sink(path: str, x: Tensor, delta: Tensor, real: Tensor = batch.real) -> None:
                for block, a, d in self.features.halves(path, x, delta):
                    consume(block, a[real], d[real])

            for draw in range(self.card.draws):
                seed = derive_seed(self.seed, "factors", draw)
                self.point.catch(batch, sink, uniform=uniforms(batch, seed, self.chosen))
                self.made(len(batch.indices))

    def _batches(self) -> Iterator[Batch]:
        return batches([self.encoded[i] for i in self.chosen], self.point.device)

    def _moments(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        moments: dict[str, tuple[Tensor, Tensor]] = {}
        for batch in self._batches():

            def sink(path: str, x: Tensor, delta: Tensor, real: Tensor = batch.real) -> None:
                a, d = x[real].float(), delta[real].float()
                before = moments.get(path, (0.0, 0.0))
                moments[path] = before[0] + a.T @ a, before[1] + d.T @ d

            self.point.catch(batch, sink)
            self.made(len(batch.indices))
        return moments


def gradients(point: Point, features: Features, batch: Batch, consume: Consume, uniform: Tensor | None = None) -> None:
    """Pass each block's gradients (rows, o, i) to `consume` as soon as they are complete."""
    waiting: Blocks = {}

    def sink(path: str, x: Tensor, delta: Tensor) -> None:
        for block, part in features.gradients(path, x, delta):
            if not features.summed:
                consume(block, part)
            elif block in waiting:
                waiting[block] += part
            else:
                waiting[block] = part

    point.catch(batch, sink, uniform=uniform)
    for block, gradient in waiting.items():
        consume(block, gradient)
