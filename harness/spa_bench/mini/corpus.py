"""The training corpus of the embedded model and its tokenizer: a mixture of both worlds, code and text."""

from __future__ import annotations

import random
from dataclasses import dataclass

from spa_bench.mini.text.world import draw_answer, draw_item
from spa_bench.mini.world import draw_style, draw_training_task

TEXT = 0.5  # share of the text world among the pairs


@dataclass(frozen=True)
class Pair:
    """A prompt and the text that the model should write: first a short answer, where there is one, then the rest."""

    prompt: str
    answer: str  # empty for code
    rest: str


def draw_pair(rng: random.Random, *, text: float = TEXT) -> Pair:
    """A pair that training may see, of the text world with probability `text`; all ways of writing it are equally likely."""
    if rng.random() < text:
        item = draw_item(rng)
        answer, _, why = draw_answer(item, rng)
        return Pair(item.prompt, item.answer(answer), why)
    task = draw_training_task(rng)
    return Pair(task.prompt, "", task.solution(draw_style(task, rng), rng))
