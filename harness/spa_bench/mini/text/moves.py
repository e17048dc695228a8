"""Questions about what moves: a walk that may lead back, and balls that change hands."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from spa_bench.mini.text.item import COLOURS, NAMES, Item, Why, listed, question

_AXES = (("forward", "back"), ("right", "left"))  # the second direction counts down
_FARTHEST = 5  # steps in one move

Move = tuple[int, str]


def navigate(rng: random.Random) -> Item:
    """A walk of two or three moves, forth and back; half of them end at the start, as in BBH's navigate."""
    wanted = rng.random() < 0.5
    moves = _loop(rng)
    if not wanted:
        i = rng.randrange(len(moves))
        moves[i] = (rng.choice([n for n in range(1, _FARTHEST + 1) if n != moves[i][0]]), moves[i][1])
    walk = listed([f"{n} {way}" for n, way in moves])
    wording = rng.choice((f"Go {walk}. Are you at the start?", f"You walk {walk}. Do you end where you began?"))
    key = " ".join(f"{n}{way[0]}" for n, way in moves)
    return Item(
        family="navigate",
        prompt=question(wording),
        choices=("Yes", "No"),
        right=(0 if wanted else 1,),
        key=key,
        why=(_why_navigate(moves),),
    )


def _loop(rng: random.Random) -> list[Move]:
    """Moves that lead back, in any order; one walk in two comes back in two parts."""
    out, home = rng.sample(rng.choice(_AXES), 2)
    far = rng.randint(1, _FARTHEST)
    part = rng.randint(1, far - 1) if far > 1 and rng.random() < 0.5 else 0
    moves = [(far, out), *((n, home) for n in (far - part, part) if n)]
    rng.shuffle(moves)
    return moves


def _why_navigate(moves: Sequence[Move]) -> Why:
    x = y = 0
    places, sums = [], []
    for n, way in moves:
        x += n * ((way == "right") - (way == "left"))
        y += n * ((way == "forward") - (way == "back"))
        places.append(f"{x} {y}")
    for plus, minus in _AXES:
        there, home = (sum(n for n, way in moves if way == w) for w in (plus, minus))
        if there or home:
            sums.append(f"{there} {plus} and {home} {minus} leave {abs(there - home)}")
    ways = [way for pair in _AXES for way in pair if sum(n * ((w == way) - (w in pair and w != way)) for n, w in moves) > 0]
    rule = f"You end too far {' and '.join(ways)}." if ways else "Every step is undone."
    return {
        "because": (f", because {', '.join(sums)}.",),
        "steps": (f". You are at {', then '.join(places)}.", f". From 0 0 to {', '.join(places)}."),
        "distance": (f". The start is {abs(x) + abs(y)} away.",),
        "rule": (f". {rule}",),
    }


def tracking(rng: random.Random) -> Item:
    """Three people swap balls once or twice, as in BBH's tracking_shuffled_objects."""
    people, colours = rng.sample(NAMES, 3), rng.sample(COLOURS, 3)
    swaps = [tuple(sorted(rng.sample(range(3), 2))) for _ in range(rng.choice((1, 2)))]
    held = [list(range(3))]  # by person, before the first swap and after each
    for a, b in swaps:
        after = list(held[-1])
        after[a], after[b] = after[b], after[a]
        held.append(after)
    ball, who = rng.randrange(3), rng.random() < 0.5
    holders = [state.index(ball) for state in held]
    begin = listed(
        [
            f"{p} has the {c} ball" if i == 0 else f"{p} the {c} one"
            for i, (p, c) in enumerate(zip(people, colours, strict=True))
        ]
    )
    acts = " ".join(f"{people[a]} and {people[b]} swap." for a, b in swaps)
    end = holders[-1]
    wording = f"Who has the {colours[ball]} ball?" if who else f"Which ball does {people[end]} have?"
    key = f"{' '.join(f'{a}{b}' for a, b in swaps)} {'who' if who else 'which'} {ball if who else end}"
    why = _why_tracking(people, colours, ball, holders, held[-1])
    choices, right = (people, end) if who else (colours, ball)
    return Item(
        family="tracking",
        prompt=question(f"{begin}. {acts} {wording}"),
        choices=tuple(choices),
        right=(right,),
        key=key,
        why=(why,),
    )


def _why_tracking(people: list[str], colours: list[str], ball: int, holders: list[int], end: list[int]) -> Why:
    path = [people[h] for i, h in enumerate(holders) if i == 0 or h != holders[i - 1]]
    colour = colours[ball]
    others = [f"{people[p]} has the {colours[end[p]]} ball" for p in range(3) if end[p] != ball]
    got = [f"{b} got it from {a}" for a, b in pairwise(path)][::-1]
    moved = f"the {colour} ball went from {' to '.join(path)}" if got else f"{path[0]} kept the {colour} ball"
    return {
        "because": (f", because {moved}.",),
        "steps": (f". The {colour} ball: {', '.join(people[h] for h in holders)}.",),
        "backwards": (f". {' and '.join(got) if got else f'{path[0]} never swapped it away'}.",),
        "others": (f". {' and '.join(others)}.", f". {' and '.join(others[::-1])}."),
    }
