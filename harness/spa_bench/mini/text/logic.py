"""Questions that are answered by logic: boolean expressions, and the order of three people."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

from spa_bench.mini.text.item import NAMES, Item, Why, question

_SCALES = (("older", "younger", "oldest", "youngest"), ("taller", "shorter", "tallest", "shortest"),
           ("faster", "slower", "fastest", "slowest"))  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """An expression as Python reads it, and its value."""

    text: str
    value: bool

    @property
    def bare(self) -> bool:
        return self.text == str(self.value)


def _negated(part: _Part, rng: random.Random, share: float) -> _Part:
    return _Part(f"not {part.text}", not part.value) if rng.random() < share else part


def _joined(a: _Part, word: str, b: _Part) -> _Part:
    return _Part(f"{a.text} {word} {b.text}", (a.value and b.value) if word == "and" else (a.value or b.value))


def _plain(rng: random.Random) -> _Part:
    value = rng.random() < 0.5
    return _Part(str(value), value)


def boolean(rng: random.Random) -> Item:
    """A pair of values in brackets and one more value, some of them negated, as in BBH's boolean_expressions."""
    wanted = rng.random() < 0.5
    while True:
        inner = _joined(_plain(rng), rng.choice(("and", "or")), _plain(rng))
        bracket = _negated(_Part(f"( {inner.text} )", inner.value), rng, 0.4)
        a, b = rng.sample((bracket, _negated(_plain(rng), rng, 0.4)), 2)
        word = rng.choice(("and", "or"))
        whole = _joined(a, word, b)
        if whole.value == wanted:
            break
    wording = rng.choice((f"What is {whole.text} ?", f"{whole.text} is True or False?"))
    why = _why_boolean(a, word, b, whole.value)
    return Item(
        family="boolean",
        prompt=question(wording),
        choices=("True", "False"),
        right=(0 if wanted else 1,),
        key=whole.text,
        why=(why,),
    )


def _why_boolean(a: _Part, word: str, b: _Part, value: bool) -> Why:
    said = [f"{p.text} is {p.value}" for p in (a, b) if not p.bare]
    last = f"{a.value} {word} {b.value} is {value}"
    if word == "and":
        rule = "Both sides are True." if value else "One False side is enough."
    else:
        rule = "One True side is enough." if value else "Both sides are False."
    return {
        "because": (f", because {' and '.join(said)}.",),
        "steps": (f". {'. '.join(said)}. {last}.", f": {', '.join(said)}, so {last}."),
        "backwards": (f". {last}, as {' and '.join(said[::-1])}.",),
        "rule": (f". {rule}",),
    }


def ordering(rng: random.Random) -> Item:
    """Three people, each compared with the next; the question asks for a rank, as in BBH's logical_deduction."""
    people = rng.sample(NAMES, 3)  # from the first to the last rank
    more, less, most, least = rng.choice(_SCALES)
    pairs = rng.sample(range(2), 2)
    turned = [rng.random() < 0.5 for _ in pairs]
    premises = [
        f"{people[i + 1]} is {less} than {people[i]}." if back else f"{people[i]} is {more} than {people[i + 1]}."
        for i, back in zip(pairs, turned, strict=True)
    ]
    rank = rng.randrange(3)
    place = (f"the {most}", "in the middle", f"the {least}")[rank]
    order = sorted(people)
    key = f"{most} {''.join(f'{i}{int(back)}' for i, back in zip(pairs, turned, strict=True))} {rank}"
    text = f"{' '.join(premises)} Who is {place}?"
    answer = order.index(people[rank])
    return Item(
        family="ordering",
        prompt=question(text),
        choices=tuple(order),
        right=(answer,),
        key=key,
        why=(_why_ordering(people, rank, more, less),),
    )


def _why_ordering(people: list[str], rank: int, more: str, less: str) -> Why:
    chain = " and ".join(f"{a} is {more} than {b}" for a, b in pairwise(people))
    only = (f"Nobody is {more}", f"Only {people[0]} is {more}", f"Nobody is {less}")[rank]
    return {
        "because": (f", because {chain}.",),
        "down": (f". First {', then '.join(people)}.", f". In order: {', '.join(people)}."),
        "up": (f". Last is {', before that '.join(people[::-1])}.",),
        "rank": (f". {only}.",),
    }
