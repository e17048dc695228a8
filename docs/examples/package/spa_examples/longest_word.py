"""How long the longest word of the answers to a problem is."""

from __future__ import annotations

from spa_bench.metrics.suite import Metric, Samples


def longest_word(samples: Samples) -> float | None:
    """Over all answers that have a word; None where none has."""
    lengths = [len(word) for text in samples.texts for word in text.split()]
    return float(max(lengths)) if lengths else None


METRIC = Metric(
    name="longest_word",
    description="characters in the longest word of all answers",
    compute=longest_word,
    missing="no answer has a word",
)
