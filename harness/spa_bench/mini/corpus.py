"""What the embedded model and its tokenizer are trained on: a mixture of both worlds, code and text."""

from __future__ import annotations

import random

from spa_bench.mini.text.world import draw_answer, draw_item
from spa_bench.mini.world import draw_style, draw_training_task
from spa_bench.types import Example

TEXT = 0.4  # share of the text world among the pairs


def draw_pair(rng: random.Random, *, text: float = TEXT) -> Example:
    """A pair that training may see, with probability `text` of the text world; all ways of writing it alike."""
    if rng.random() < text:
        item = draw_item(rng)
        return Example(item.prompt, draw_answer(item, rng)[1])
    task = draw_training_task(rng)
    return Example(task.prompt, task.solution(draw_style(task, rng), rng))
