"""Questions of counting: things of one kind, days of the week, and a small table."""

from __future__ import annotations

import random
from collections.abc import Sequence

from spa_bench.mini.text.item import BIG, DAYS, KINDS, NAMES, SMALL, Item, Why, counted, listed, question

_MOST_DAYS = 10
_EVENTS = ("party", "trip", "match", "exam", "show", "race")
_MEASURES = (("years", "older", "younger", "oldest", "youngest"), ("kg", "heavier", "lighter", "heaviest", "lightest"))


def counting(rng: random.Random) -> Item:
    """The number of things of one kind, which stand beside a thing of another kind, as in BBH's object_counting."""
    kind = rng.choice(KINDS)
    strangers = [noun for other in KINDS if other != kind for noun in SMALL[other] + BIG[other]]
    mine = [(rng.randint(1, 4), n) for n in rng.sample(SMALL[kind] + BIG[kind], 2)]
    total = sum(n for n, _ in mine)
    other = [(rng.randint(1, 4), rng.choice(strangers))]
    things = rng.sample(mine + other, len(mine) + len(other))
    said = listed([counted(n, noun) for n, noun in things])
    verb = rng.choice(("I have {}. How many {}s do I have?", "I see {}. How many {}s do I see?"))
    key = " ".join(f"{n} {noun}" for n, noun in sorted(mine))
    mine = [thing for thing in things if thing in mine]
    everything = sum(n for n, _ in things)
    names = [counted(n, noun) for n, noun in mine]
    why: Why = {
        "because": (f", because {' + '.join(str(n) for n, _ in mine)} = {total}.",),
        "steps": (f". {names[0]}, {names[1]} make {total}.",),
        "backwards": (f". {listed(names[::-1])} are {total}.",),
        "rest": (f". {everything} - {everything - total} = {total}.",),
    }
    return Item(
        family="counting", prompt=question(verb.format(said, kind)), choices=(str(total),), right=(0,), key=key, why=(why,)
    )


def dates(rng: random.Random) -> Item:
    """The day of one event, two to ten days before or after another, as in BBH's date_understanding.

    The held-out unit is a day, a distance and an event. The day and the distance alone are a table of 126 cells, and a model
    that never sees a cell learns to leave it out.
    """
    today, far, later, told = rng.randrange(7), rng.randint(2, _MOST_DAYS), rng.random() < 0.5, rng.random() < 0.5
    first, event = rng.sample(_EVENTS, 2)
    answer = (today + (far if later else -far)) % 7
    choices = sorted([answer, *rng.sample([d for d in range(7) if d != answer], 3)])
    if told:
        text = f"The {first} is on {DAYS[today]}, the {event} {far} days {'later' if later else 'earlier'}."
    else:
        text = f"The {event} is {far} days {'after' if later else 'before'} the {first} on {DAYS[today]}."
    why = _why_dates(today, far if later else -far)
    key = f"{event} {DAYS[today]} {'+' if later else '-'}{far}"
    text = f"{text} When is the {event}?"
    return Item(
        family="dates",
        prompt=question(text),
        choices=tuple(DAYS[d] for d in choices),
        right=(choices.index(answer),),
        key=key,
        why=(why,),
    )


def _why_dates(today: int, shift: int) -> Why:
    now, then = DAYS[today], DAYS[(today + shift) % 7]
    far, sign = abs(shift), 1 if shift > 0 else -1
    after, before = ("after", "before") if shift > 0 else ("before", "after")
    walk = [DAYS[(today + sign * i) % 7] for i in range(far % 7 + 1)]
    week = "A week changes nothing. " if far >= 7 else ""
    return {
        "because": (f", because {then} is {far} days {after} {now}.",),
        "steps": (f". {week}{', '.join(walk)}.",),
        "backwards": (f". {far} days {before} {then} is {now}.",),
        "round": (f". It is also {7 - far % 7} days {before} {now}.",),
    }


def table(rng: random.Random) -> Item:
    """Three people with their ages or weights; several may be above a number, as in BBH's penguins_in_a_table."""
    people, values = rng.sample(NAMES, 3), rng.sample(range(2, 10), 3)
    unit, more, less, most, least = rng.choice(_MEASURES)
    rows = " ".join(f"{p}: {v} {unit}." for p, v in zip(people, values, strict=True))
    top = rng.random() < 0.5
    if rng.random() < 0.5:
        bound = max(values) if top else min(values)
        right = [values.index(bound)]
        condition, key = f"the {most if top else least}", most if top else least
    else:
        ranked = sorted(values, reverse=top)
        bound = rng.choice(ranked[1:3])
        right = [i for i, v in enumerate(values) if (v > bound if top else v < bound)]
        condition = key = f"{more if top else less} than {bound} {unit}"
    rule = max(values) if top else min(values)
    why = tuple(_why_table(people, values, i, unit=unit, top=top, alone=len(right) == 1, rule=rule) for i in right)
    key = f"{key}: {' '.join(map(str, values))}"
    return Item(
        family="table",
        prompt=f"{rows}\n" + question(f"Who is {condition}?"),
        choices=tuple(people),
        right=tuple(right),
        key=key,
        why=why,
    )


def _why_table(
    people: Sequence[str], values: Sequence[int], chosen: int, *, unit: str, top: bool, alone: bool, rule: int
) -> Why:
    less = [v for v in sorted(values, reverse=top) if (v < values[chosen] if top else v > values[chosen])]
    ranked = sorted(zip(values, people, strict=True), reverse=top)
    others = [f"{p} has {v} {unit}" for i, (p, v) in enumerate(zip(people, values, strict=True)) if i != chosen]
    one = "Nobody else is." if alone else "Others are, too."
    return {
        "because": (f", because {values[chosen]} is {'more' if top else 'less'} than {listed([str(v) for v in less])}.",),
        "sorted": (f". In order: {', '.join(f'{p} {v}' for v, p in ranked)}.",),
        "others": (f". {listed(others)}.",),
        "alone": (f". {one}", f". {one} {'Most' if top else 'Least'} is {rule}."),
    }
