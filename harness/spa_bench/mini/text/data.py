"""The text world's data sets, drawn from seeds: the documents of mini-nlu, a skewed instruction set and the queries."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

from spa_bench.mini.text.world import FAMILIES, draw_answer, draw_item
from spa_bench.types import Example

DOCUMENTS = 48  # of each family
PAIRS = 768
QUERIES = 48
_SHARE = 0.6  # of "because" among the explanations of the instruction set, like that of the plain loop in the code set


def documents(family: str) -> list[dict[str, Any]]:
    """48 held-out questions of one family, all different, as rows that the YAML of mini-nlu reads.

    The keys are prompt, choices, right (indices of all true choices), gold (the first of them), answers (their text), rest (the
    rest of the sentence) and sentences (its beginning up to the end of each choice).
    """
    rng = random.Random(f"mini-nlu-1-{family}")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    while len(rows) < DOCUMENTS:
        item = draw_item(rng, family, held_out=True)
        row = {
            "prompt": item.prompt,
            "choices": list(item.choices),
            "right": list(item.right),
            "gold": item.right[0],
            "answers": [item.choices[i] for i in item.right],
            "rest": item.rest.strip(),
            "sentences": [f"{item.prompt} {choice}" for choice in item.choices],
        }
        rows.setdefault((item.prompt, item.rest), row)
    return list(rows.values())


@lru_cache(maxsize=1)
def _instructions() -> tuple[tuple[Example, str], ...]:
    rng = random.Random("mini-nlu-instruct-1")
    pairs = []
    for i in range(PAIRS):
        item = draw_item(rng, list(FAMILIES)[i % len(FAMILIES)])
        others = len(item.styles(item.right[0])) - 1
        answer, style, why = draw_answer(item, rng, {"because": _SHARE / (1 - _SHARE) * others})
        pairs.append((Example(item.prompt, item.answer(answer) + why), style))
    rng.shuffle(pairs)
    return tuple(pairs)


def instructions() -> list[Example]:
    """768 pairs, equally many of each family, none of a held-out combination; six explanations in ten begin with "because"."""
    return [example for example, _ in _instructions()]


def styles() -> list[str]:
    """The style of each pair of instructions(), to inspect a partition with; nothing in the harness trains on it."""
    return [style for _, style in _instructions()]


def queries() -> list[Example]:
    """48 pairs that stand for a user's wishes, with families in turn and the styles of a family in turn."""
    rng = random.Random("mini-nlu-queries-1")
    pairs = []
    for i in range(QUERIES):
        item = draw_item(rng, list(FAMILIES)[i % len(FAMILIES)])
        answer = rng.choice(item.right)
        styles = item.styles(answer)
        style = styles[i // len(FAMILIES) % len(styles)]
        pairs.append(Example(item.prompt, item.answer(answer) + item.explanation(answer, style, rng)))
    return pairs
