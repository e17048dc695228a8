"""The number of gradients that the curvature of a card takes."""

from __future__ import annotations

from spa_bench.cards.training import AttributionCard
from spa_bench.spa.attribution import lissa


def estimate_cost(card: AttributionCard, examples: int, queries: int) -> int:
    """The number of example gradients for the curvature. A product counts one for each example of its batch and query."""
    size = min(card.curvature_examples or examples, examples)
    passes = {"fisher": 1, "datainf": 2, "ekfac": 2 * card.draws, "lissa": card.draws * (card.damping_kind != "absolute")}
    gradients = size * (passes.get(card.curvature, 0) + (card.features == "core" and card.core == "pca"))
    if card.curvature == "lissa":
        directions = queries * card.depth * card.repeats + (0 if card.scale else lissa.POWER_PRODUCTS)
        gradients += directions * min(card.lissa_batch, size)
    return gradients
