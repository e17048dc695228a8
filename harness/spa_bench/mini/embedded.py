"""The names of what comes with the package, a model and pairs, and of the real model that other tasks take by default."""

from __future__ import annotations

EMBEDDED = "embedded"  # the model that comes with the package
REAL = "smollm2"  # in spa_bench.models.shipped.SHIPPED
_PAIRS = {"mini": "embedded pairs", "mini-nlu": "embedded questions"}


def pairs_name(examples: str) -> str:
    """What plans and boards call the training pairs of a card's `data.examples`."""
    return _PAIRS.get(examples, examples)
