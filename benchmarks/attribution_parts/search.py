"""The cheapest setting of lissa that reaches a rank correlation, by its recursion in dense algebra.

With the Gauss-Newton matrix of every single pair at hand, a run of the recursion costs no pass through the network. What
is found is then run through the network, and only that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution_parts.ranks import rank_correlation

_MARGIN, _POWER_BATCHES = 1.25, 4  # as lissa measures its scale


@dataclass(frozen=True)
class Lissa:
    """One setting of the estimator."""

    depth: int
    repeats: int
    batch: int

    @property
    def cost(self) -> int:
        """Pairs whose products are taken, for one query."""
        return self.depth * self.repeats * self.batch


def cheapest(
    matrices: Tensor,
    pairs: Tensor,
    queries: Tensor,
    wanted: NDArray[np.float64],
    *,
    damping: float,
    floor: float,
    batches: Sequence[int],
    repeats: Sequence[int],
    depths: Sequence[int],
    seed: int = 0,
) -> Lissa | None:
    """The setting of least cost that reaches `floor`; None where none does.

    matrices (n, P, P) of single pairs; pairs (n, P) and queries (M, P) gradients; wanted (n, M). The damping is relative
    to the mean eigenvalue of the mean matrix.
    """
    size, count = matrices.shape[1], len(matrices)
    added = damping * float(torch.einsum("nii->", matrices)) / count / size
    found: list[Lissa] = []
    for batch in sorted(batches):
        if batch >= count:  # every product is with the mean
            matrices = matrices.mean(0, keepdim=True)
        rng = np.random.default_rng([seed, batch])
        scale = _scale(matrices, batch, added, rng)
        # means over more and more repeats, at each depth: one set of runs serves all of them
        sums = dict.fromkeys(depths, torch.zeros(len(queries), size, dtype=matrices.dtype))
        for run in range(1, max(repeats) + 1 if batch < count else 2):
            for depth, h in _run(matrices, queries, batch, added, scale, depths, rng):
                sums[depth] = sums[depth] + h
            for depth in depths if run in repeats else ():
                if rank_correlation((pairs @ (sums[depth] / run).T).double().numpy(), wanted) >= floor:
                    found.append(Lissa(depth, run, batch))
    return min(found, key=lambda s: s.cost, default=None)


def _mean(matrices: Tensor, batch: int, rng: np.random.Generator) -> Tensor:
    if batch >= len(matrices):
        return matrices[0] if len(matrices) == 1 else matrices.mean(0)
    return matrices[torch.from_numpy(rng.choice(len(matrices), batch, replace=False))].mean(0)


def _scale(matrices: Tensor, batch: int, added: float, rng: np.random.Generator) -> float:
    largest = max(float(torch.linalg.eigvalsh(_mean(matrices, batch, rng))[-1]) for _ in range(_POWER_BATCHES))
    return _MARGIN * (largest + added)


def _run(
    matrices: Tensor,
    queries: Tensor,
    batch: int,
    added: float,
    scale: float,
    depths: Sequence[int],
    rng: np.random.Generator,
) -> list[tuple[int, Tensor]]:
    """The estimate (M, P) at each depth of one run."""
    now, found = queries.clone(), []
    for step in range(1, max(depths) + 1):
        now = queries + now - (now @ _mean(matrices, batch, rng) + added * now) / scale
        if step in depths:
            found.append((step, now / scale))
    return found
