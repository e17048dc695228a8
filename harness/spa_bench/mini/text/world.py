"""Questions of the text world, drawn from seeds: nine families, with one combination in five held out of training."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping

from spa_bench.mini.text.item import Item
from spa_bench.mini.text.logic import boolean, ordering
from spa_bench.mini.text.moves import navigate, tracking
from spa_bench.mini.text.numbers import counting, dates, table
from spa_bench.mini.text.words import pick, pronoun

FAMILIES: dict[str, Callable[[random.Random], Item]] = {
    "boolean": boolean,
    "counting": counting,
    "dates": dates,
    "navigate": navigate,
    "ordering": ordering,
    "pick": pick,
    "pronoun": pronoun,
    "table": table,
    "tracking": tracking,
}


def is_held_out(item: Item) -> bool:
    """Whether the item's combination stays out of all training, with any names and wording (one in five does)."""
    return hashlib.blake2b(f"{item.family} {item.key}".encode(), digest_size=4).digest()[0] < 51


def draw_item(rng: random.Random, family: str | None = None, *, held_out: bool = False) -> Item:
    """A question of `family` (default: any) that training may see or, with `held_out`, one that it must not see."""
    make = FAMILIES[family or rng.choice(tuple(FAMILIES))]
    while True:
        item = make(rng)
        if is_held_out(item) == held_out:
            return item


def draw_answer(item: Item, rng: random.Random, weights: Mapping[str, float] | None = None) -> tuple[int, str, str]:
    """(true choice, style, explanation); true choices are equally likely, styles too or by `weights` (others weigh 1)."""
    answer = rng.choice(item.right)
    styles = item.styles(answer)
    style = rng.choices(styles, [(weights or {}).get(s, 1.0) for s in styles])[0]
    return answer, style, item.explanation(answer, style, rng)
