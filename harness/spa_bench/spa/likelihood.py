"""The likelihood of pairs under a model as it is, without any adapter: the loss of each completion, given its prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spa_bench.models.base import LoraTrainable
from spa_bench.models.hf.placed import input_device
from spa_bench.models.hf.stacked_lora import bare
from spa_bench.spa.attribution.gradients import Batch, over_batches, own_labels
from spa_bench.spa.batches import encode, fitting
from spa_bench.spa.losses import token_losses
from spa_bench.types import Example

FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], None]


def completion_losses(
    model: LoraTrainable, examples: Sequence[Example], *, progress: Progress = lambda done, total: None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """(sums (N,) of the nats of each completion's tokens, numbers (N,) of these tokens), given the prompt; teacher-forced.

    The tokens are those that training counts: of the completion with the token that ends it. A pair that does not fit the
    model's context has NaN and 0. Raises ModelError where the losses of a pair are not finite.
    """
    sums, counts = np.full(len(examples), np.nan), np.zeros(len(examples), np.int64)
    fits = fitting(model, examples)
    encoded = encode(model, [examples[i] for i in fits], "pair")
    done = 0

    def run(batch: Batch) -> None:
        nonlocal done
        losses = token_losses(model.network, batch.ids, batch.where, own_labels(batch)).double().cpu()
        for row, part in zip(batch.indices, torch.split(losses, batch.counts), strict=True):
            sums[fits[row]], counts[fits[row]] = float(part.sum()), len(part)
        done += len(batch.indices)
        progress(done, len(fits))

    with torch.no_grad(), bare(model.network):
        over_batches(encoded, input_device(model.network), run)
    return sums, counts
