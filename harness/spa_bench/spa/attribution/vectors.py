"""The gradient of each pair as one vector: what SPA's attribution compares, without any query."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import DataError
from spa_bench.models.base import LoraTrainable
from spa_bench.spa.attribution.features import ProjectedFeatures, build_features
from spa_bench.spa.attribution.gradients import Batch, Point, over_batches
from spa_bench.spa.attribution.prepared import check_norms
from spa_bench.spa.attribution.sample import gradients
from spa_bench.spa.batches import encode
from spa_bench.support.memory import is_out_of_memory
from spa_bench.types import Example

DIMENSIONS = 1024  # of a vector: inner products of unit vectors are off by about 1 / sqrt(1024) = 0.03


def gradient_vectors(
    model: LoraTrainable,
    examples: Sequence[Example],
    *,
    lora: LoraCard | None = None,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """The gradient (N, dimensions) of each pair's loss with respect to the LoRA factors, at LoRA's start, projected at random.

    The loss is the token-mean cross-entropy of the completion. Gradients and projection are those of
    `attribution.features = "projection"` (spa.attribution.features); `lora` is the card's default where it is None. Every
    pair must fit the model's context. Raises DataError naming a pair that does not, or whose gradient is zero or not finite,
    and where memory ends.
    """
    lora = lora or LoraCard()
    card = AttributionCard(features="projection", dimensions=dimensions)
    encoded = encode(model, examples, "pair", length=lora.length, loss=lora.loss)
    point = Point(model, model.lora_layers(lora.targets), None, lora)
    features = build_features(card, lora, point.layers, adapter=None, seed=seed, moments=dict)
    assert isinstance(features, ProjectedFeatures)
    rows = np.zeros((len(encoded), dimensions), np.float32)
    done = 0

    def run(batch: Batch) -> None:
        nonlocal done

        def put(_: str, gradient: Tensor) -> None:
            found = gradient.flatten(1)
            check_norms(found.square().sum(1), batch.indices, examples, "pair")
            rows[batch.indices] = found.cpu().numpy()

        gradients(point, features, batch, put)
        done += len(batch.indices)
        progress(done, len(encoded))

    try:
        over_batches(encoded, point.device, run)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and not is_out_of_memory(error):
            raise
        raise DataError(
            f"gradients of {len(examples)} pairs ran out of memory; use shorter pairs or a smaller model"
        ) from error
    return rows
