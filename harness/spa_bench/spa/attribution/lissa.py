"""LiSSA: (G + λ)⁻¹ v by a recursion of products with the Gauss–Newton matrix of random batches.

h_0 = v, h_{j+1} = v + h_j − (G_B h_j + λ h_j) / scale; h_depth / scale is the estimate, averaged over `repeats` (Agarwal et al.
2017, arXiv 1602.03943, as Koh and Liang 2017 and torch-influence use it; the SPA paper has depth 120, 500 or 200 repeats and
damping 0.001). G is that of the token-mean loss over all blocks together, not the Hessian, which is indefinite. The recursion
converges where `scale` is above the largest eigenvalue of every G_B + λ; without a setting it is measured by power iteration.
Down to half that scale no product lengthens h, so that it is at most (depth + 1) times as long as v: a longer one has diverged,
long before its numbers overflow.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from spa_bench.cards.training import AttributionCard
from spa_bench.errors import DataError
from spa_bench.models.hf.placed import whole
from spa_bench.models.hf.stacked_lora import use_factors
from spa_bench.spa.attribution.features import LoraFeatures
from spa_bench.spa.attribution.gradients import Batch, Point, batch_of
from spa_bench.spa.losses import logits_at, vocabulary_of
from spa_bench.spa.passes import run_within_memory
from spa_bench.support.interrupt import pause_point
from spa_bench.support.seeds import derive_seed

if TYPE_CHECKING:
    from spa_bench.spa.attribution.sample import Sampled

Blocks = dict[str, Tensor]

_ROWS = 32  # rows of one pass, whose queries are members of the stack; tangents double a row's memory
_LOGIT_BYTES = 2 << 30  # logits of one pass, with their tangents and what is made of both
_LOGIT_COPIES = 6
_POWER_STEPS = 8  # steps of the power iteration
_POWER_BATCHES = 4
POWER_PRODUCTS = _POWER_STEPS * _POWER_BATCHES
_MARGIN = 1.25  # the scale over the largest eigenvalue that is measured
_ROUNDING = 1.01  # by how much rounding may lengthen a vector


def lissa(sample: Sampled, queries: Mapping[str, Tensor], card: AttributionCard) -> Blocks:
    """The queries' gradients, (M, o, i) for each block, times the estimate of the damped inverse.

    Raises DataError when the recursion diverges.
    """
    products = Products(sample)
    damping = card.damping if card.damping_kind == "absolute" else card.damping * products.mean_eigenvalue()
    scale = card.scale or _MARGIN * (products.largest_eigenvalue() + damping)
    out: Blocks = {block: torch.zeros_like(q) for block, q in queries.items()}
    most = _ROUNDING * (card.depth + 1) * _lengths(queries)
    for repeat in range(card.repeats):
        rng = random.Random(derive_seed(sample.seed, "lissa", repeat))
        now = dict(queries)
        for _ in range(card.depth):
            product = products.times(products.draw(rng, card.lissa_batch), now)
            now = {b: queries[b] + h - (product[b] + damping * h) / scale for b, h in now.items()}
            if not (_lengths(now) <= most).all():  # NaN too
                raise DataError(f"lissa diverged with scale {scale:.3g}; set attribution.scale to several times that")
        out = {b: total + now[b] / scale / card.repeats for b, total in out.items()}
    return out


class Products:
    """Products with the Gauss–Newton matrix over the features' blocks."""

    def __init__(self, sample: Sampled):
        self._sample = sample
        self._point: Point = sample.point
        self._features = cast(LoraFeatures, sample.features)  # the card refuses lissa on others
        self._factors = self._features.factors()
        self._rows = _ROWS  # of one pass; fewer behind one in which memory ended

    def draw(self, rng: random.Random, size: int) -> Batch:
        """A batch of `size` examples of the sample, or all of them where there are fewer."""
        chosen = rng.sample(self._sample.chosen, min(size, self._sample.size))
        return batch_of([self._sample.encoded[i] for i in chosen], list(range(len(chosen))), self._point.device)

    def times(self, batch: Batch, vectors: Mapping[str, Tensor]) -> Blocks:
        """G_B v for vectors v of shape (M, o, i) in each block; fewer of them in a pass where memory ends."""
        count = next(iter(vectors.values())).shape[0]
        parts: list[Blocks] = []
        logits = 4 * len(batch.where) * max(1, vocabulary_of(self._point.model.network))
        together = max(1, min(self._rows // len(batch.indices), _LOGIT_BYTES // (_LOGIT_COPIES * logits)))

        def run(members: list[int]) -> None:
            pause_point()
            part = slice(members[0], members[-1] + 1)
            parts.append(self._product(batch, {b: v[part] for b, v in vectors.items()}))
            self._sample.made(len(batch.indices) * len(members))

        every = list(range(count))
        pieces = run_within_memory([every[start : start + together] for start in range(0, count, together)], run)
        if pieces > 1:
            self._rows = max(len(next(iter(p.values()))) for p in parts[-pieces:]) * len(batch.indices)
        return {block: torch.cat([p[block] for p in parts]) for block in vectors}

    def mean_eigenvalue(self) -> float:
        """trace(G) / parameters, from the gradients of drawn labels."""
        total = 0.0

        def add(_: str, g: Tensor) -> None:
            nonlocal total
            total += float(g.square().sum())

        self._sample.gradients(add, drawn=True)
        numbers = sum(o * i for o, i in self._sample.features.shapes.values())
        return total / (self._sample.size * self._sample.card.draws) / numbers

    def largest_eigenvalue(self) -> float:
        """The largest eigenvalue of G_B over a few batches, by power iteration."""
        rng = random.Random(derive_seed(self._sample.seed, "power"))
        generator = torch.Generator().manual_seed(derive_seed(self._sample.seed, "power"))
        largest = 0.0
        for _ in range(_POWER_BATCHES):
            batch = self.draw(rng, self._sample.card.lissa_batch)
            vector = {
                b: torch.randn(1, *shape, generator=generator).to(self._point.device)
                for b, shape in self._sample.features.shapes.items()
            }
            for _ in range(_POWER_STEPS):
                size = _norm(vector)
                vector = self.times(batch, {b: v / size for b, v in vector.items()})
            largest = max(largest, _norm(vector))
        return largest

    def _product(self, batch: Batch, vectors: Mapping[str, Tensor]) -> Blocks:
        """G_B times the vectors, in one pass: the members of the stack share their factors and differ in the direction."""
        count = next(iter(vectors.values())).shape[0]
        leaves = {block: f.expand(count, *f.shape).clone().requires_grad_() for block, f in self._factors.items()}
        network = self._point.model.network
        ids, here = batch.ids.repeat(count, 1), torch.arange(count, device=batch.ids.device)[:, None]
        where = (batch.where + here * batch.ids.numel()).flatten()
        with sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
            dual = {
                block: forward_ad.make_dual(leaf, vectors[block].to(leaf.device))  # type: ignore[no-untyped-call]
                for block, leaf in leaves.items()
            }
            with whole(network), use_factors(self._point.layers, *self._features.stacked(dual)):
                logits = logits_at(network, ids, where)
            primal, tangent = forward_ad.unpack_dual(logits)  # type: ignore[no-untyped-call]
        # after the block, because the backward pass must not see the tangents
        with torch.no_grad():
            p = primal.softmax(-1)
            seen = p * (tangent - (p * tangent).sum(-1, keepdim=True))  # (diag p − p pᵀ) J v
            weight = batch.share.repeat(count)[:, None] / len(batch.indices)
        products = torch.autograd.grad(primal, list(leaves.values()), seen * weight)
        return {block: product.to(self._point.device) for block, product in zip(leaves, products, strict=True)}


def _lengths(blocks: Mapping[str, Tensor]) -> Tensor:
    """The length (M,) of each vector over all blocks (M, o, i)."""
    return torch.stack([v.square().sum((1, 2)) for v in blocks.values()]).sum(0).sqrt()


def _norm(blocks: Mapping[str, Tensor]) -> float:
    return float(torch.stack([v.square().sum() for v in blocks.values()]).sum().sqrt())
