"""The target examples of a synthesis, read and checked."""

from __future__ import annotations

from dataclasses import replace

from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.cards.training import DataCard
from spa_bench.errors import DataError
from spa_bench.spa.data.sets import as_pairs, distinct, example_rows
from spa_bench.spa.data.templates import Template
from spa_bench.spa.synthesize.base import synthesis_kind
from spa_bench.types import Example


def read_targets(card: SynthesisCard, data: DataCard | None = None) -> list[Example]:
    """The different targets of a card as text, instructions as they are. Raises DataError, also for too few."""
    data = replace(data or DataCard(), examples=card.targets)
    read = example_rows(data)
    targets = distinct(as_pairs(read, Template("plain"), card.targets))
    least = synthesis_kind(card.method).targets
    if len(targets) < least:
        raise DataError(
            f"{card.targets} has {len(targets)} example{'s' * (len(targets) != 1)}, and {card.method} needs at least {least} "
            "different ones to know what kind of pairs is wanted: give more targets"
        )
    return targets
