"""The examples that one member reads at each of its optimiser steps, and the learning rate.

Both depend on the member's own part, seed and card alone, never on the members that are trained beside it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from spa_bench.cards.training import LoraCard


def steps_of(examples: int, card: LoraCard) -> int:
    """Optimiser steps of a member with `examples` examples: the card's, or those of its epochs (the last may be short)."""
    return card.steps or math.ceil(_read(examples, card) / (card.batch * card.accumulation))


def learning_rate(card: LoraCard, step: int, steps: int) -> float:
    """Rate at `step` of `steps`: linear warm-up, then the card's schedule, which reaches 0 behind the last step."""
    if step < card.warmup:
        return card.learning_rate * (step + 1) / card.warmup
    done = (step - card.warmup) / max(1, steps - card.warmup)
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[card.schedule]
    return card.learning_rate * shape


def order(lengths: Sequence[int], card: LoraCard, seed: int) -> list[list[int]]:
    """For each step the indices of its examples, whose `lengths` in tokens are given.

    Epochs are shuffled, and examples of similar length stand together within four steps. A step has batch x accumulation
    examples, except the last one where epochs set the length. How they are split into batches changes no member's steps.
    """
    rng = random.Random(seed)
    size, total = card.batch * card.accumulation, _read(len(lengths), card)
    stream: list[int] = []
    while len(stream) < total:
        epoch = list(range(len(lengths)))
        rng.shuffle(epoch)
        stream += epoch
    stream = stream[:total]
    steps: list[list[int]] = []
    for start in range(0, total, 4 * size):
        # every member reads its short and long examples at the same steps, so the stacked pass needs less padding
        pool = sorted(stream[start : start + 4 * size], key=lambda i: lengths[i])
        steps += [pool[i : i + size] for i in range(0, len(pool), size)]
    return steps


def _read(examples: int, card: LoraCard) -> int:
    """The number of examples that a member reads in all."""
    return card.steps * card.batch * card.accumulation or max(1, round(card.epochs * examples))
