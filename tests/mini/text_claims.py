"""Reads a question of the text world from its words alone, and says which answers and which explanations are true.

Nothing of the generator is used: tables of words are written again, and every family is solved by another road
(Python's own `eval`, enumeration of orders, simulation).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise, permutations

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
THINGS = {
    "fruit": ("apple plum fig lemon", "melon pumpkin"),
    "animal": ("hen cat frog duck", "cow horse"),
    "tool": ("saw drill hammer axe", "ladder plow"),
    "instrument": ("flute horn drum fiddle", "piano harp"),
}
KIND = {noun: kind for kind, sizes in THINGS.items() for nouns in sizes for noun in nouns.split()}
SIZE = {
    noun: size
    for sizes in THINGS.values()
    for nouns, size in zip(sizes, ("small", "big"), strict=True)
    for noun in nouns.split()
}
AHEAD = {"beat", "outran", "taught", "helped", "paid", "fed", "carried", "lifted"}
BEHIND = {"lost to", "chased", "asked", "copied", "begged from", "lived off", "leaned on", "clung to"}
GOOD = {"fast", "fit", "clever", "wise", "rich", "generous", "strong", "big"}
BAD = {"slow", "tired", "new", "confused", "poor", "hungry", "weak", "small"}
PAST = {
    "wins": "won",
    "loses": "lost",
    "leads": "led",
    "learns": "learned",
    "gives": "gave",
    "takes": "took",
    "holds": "held",
    "rests": "rested",
}

Answers = list[int]
Read = Callable[[str, Sequence[str], str], tuple[Answers, Callable[[int, str], bool]]]


def number(text: str) -> int:
    return int(text)


def words(text: str) -> list[str]:
    """The members of a list in words: `a, b and c`."""
    return re.split(r", | and ", text)


def match(pattern: str, text: str) -> tuple[str, ...] | None:
    found = re.fullmatch(pattern, text)
    return tuple(g or "" for g in found.groups()) if found else None


def boolean(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    [expression] = match(r"Q: What is (.*) \?\nA:", prompt) or match(r"Q: (.*) is True or False\?\nA:", prompt) or ()
    value = eval(expression)
    cut = next(
        i for i in range(len(expression))
        if re.match(r" (and|or) ", expression[i:]) and expression[:i].count("(") == expression[:i].count(")")
    )  # fmt: skip
    word = expression[cut:].split()[0]
    sides = [eval(expression[:cut]), eval(expression[cut + len(word) + 2 :])]
    rules = {
        ". Both sides are True.": word == "and" and all(sides),
        ". One False side is enough.": word == "and" and not all(sides),
        ". One True side is enough.": word == "or" and any(sides),
        ". Both sides are False.": word == "or" and not any(sides),
    }

    def holds(answer: int, why: str) -> bool:
        if why in rules:
            return rules[why]
        claims = re.findall(r"([()A-Za-z ]+?) is (True|False)", why)
        left = re.sub(r"[()A-Za-z ]+? is (True|False)", "", why)
        for claim, said in claims:
            claim = re.sub(r"^( because| so| as| and)? ", "", claim)
            if claim not in expression and claim != f"{sides[0]} {word} {sides[1]}":
                return False
            if str(eval(claim)) != said:
                return False
        return bool(claims) and re.fullmatch(r"[.,: ]*", left) is not None

    return [choices.index(str(value))], holds


def counting(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    said, kind = match(r"Q: I \w+ (.*)\. How many (\w+)s do I \w+\?\nA:", prompt) or ()
    things = [(number(n), noun.removesuffix("s") if number(n) > 1 else noun) for n, noun in (w.split() for w in words(said))]
    mine = [(n, noun) for n, noun in things if KIND[noun] == kind]
    total, everything = sum(n for n, _ in mine), sum(n for n, _ in things)

    def known(text: str) -> tuple[int, str]:
        n, noun = text.split()
        return number(n), noun.removesuffix("s") if number(n) > 1 else noun

    def holds(answer: int, why: str) -> bool:
        if found := match(r", because (.*) = (\d+)\.", why):
            return sorted(map(int, found[0].split(" + "))) == sorted(n for n, _ in mine) and number(found[1]) == total
        if found := match(r"\. (\d+) - (\d+) = (\d+)\.", why):
            return list(map(int, found)) == [everything, everything - total, total]
        if found := match(r"\. (.*) are (\d+)\.", why):
            return sorted(map(known, words(found[0]))) == sorted(mine) and number(found[1]) == total
        first, *more = why[2:-1].split(", ")
        so_far, seen = known(first)[0], [known(first)]
        for part in more:
            name, made = part.split(" make ")
            seen.append(known(name))
            so_far += seen[-1][0]
            if so_far != number(made):
                return False
        return so_far == total and sorted(seen) == sorted(mine)

    return [choices.index(str(total))], holds


def dates(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    told = match(r"Q: The \w+ is on (\w+), the (\w+) (\d+) days (later|earlier)\. When is the (\w+)\?\nA:", prompt)
    bare = match(r"Q: The (\w+) is (\d+) days (after|before) the \w+ on (\w+)\. When is the (\w+)\?\nA:", prompt)
    if told:
        day, event, ago, how, asked = told
    else:
        event, ago, how, day, asked = bare or ("",) * 5
    assert event == asked
    step = 1 if how in ("later", "after") else -1
    today = DAYS.index(day)
    answer = DAYS[(today + step * number(ago)) % 7]

    def apart(a: str, b: str, n: str, side: str) -> bool:
        return (DAYS.index(a) + (1 if side == "after" else -1) * number(n)) % 7 == DAYS.index(b)

    def holds(chosen: int, why: str) -> bool:
        if found := match(r", because (\w+) is (\d+) days (after|before) (\w+)\.", why):
            return found[3] == day and found[0] == answer and apart(day, answer, found[1], found[2])
        if found := match(r"\. It is also (\d+) days (after|before) (\w+)\.", why):
            return found[2] == day and apart(found[2], answer, found[0], found[1])
        if found := match(r"\. (\d+) days (after|before) (\w+) is (\w+)\.", why):
            return found[2] == answer and found[3] == day and apart(answer, found[3], found[0], found[1])
        found = match(r"\. (A week changes nothing\. )?([\w, ]+)\.", why) or ("", "")
        walk = found[1].split(", ")
        whole = all(apart(a, b, "1", "after" if step > 0 else "before") for a, b in pairwise(walk))
        return whole and bool(found[0]) == (number(ago) >= 7) and [walk[0], walk[-1]] == [day, answer]

    return [choices.index(answer)], holds


WAY = {"forward": (0, 1), "back": (0, -1), "right": (1, 0), "left": (-1, 0)}


def navigate(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    [walk] = (
        match(r"Q: Go (.*)\. Are you at the start\?\nA:", prompt)
        or match(r"Q: You walk (.*)\. Do you end where you began\?\nA:", prompt)
        or ()
    )
    moves = [(number(n), way) for n, way in (w.split() for w in words(walk))]
    places = [(0, 0)]
    for n, way in moves:
        places.append((places[-1][0] + n * WAY[way][0], places[-1][1] + n * WAY[way][1]))
    x, y = places[-1]

    def holds(answer: int, why: str) -> bool:
        if why == ". Every step is undone.":
            return (x, y) == (0, 0)
        if found := match(r"\. You end too far (.*)\.", why):
            return set(words(found[0])) == {w for w, (a, b) in WAY.items() if a * x + b * y > 0} != set()
        if found := match(r"\. The start is (\d+) away\.", why):
            return number(found[0]) == abs(x) + abs(y)
        if found := match(r"(?:\. You are at|\. From 0 0 to) (.*)\.", why):
            return [tuple(map(int, p.split())) for p in re.split(r", then |, ", found[0])] == places[1:]
        found = match(r", because (.*)\.", why) or ("",)
        sums = [match(r"(\d+) (\w+) and (\d+) (\w+) leave (\d+)", part) or () for part in found[0].split(", ")]
        told = {way: number(n) for a, v, b, w, _ in sums for n, way in ((a, v), (b, w))}
        walked = {way: sum(n for n, w in moves if w == way) for way in WAY}
        return all(told.get(way, 0) == walked[way] for way in WAY) and all(
            abs(int(a) - int(b)) == int(c) for a, _, b, _, c in sums
        )

    return [choices.index("Yes" if (x, y) == (0, 0) else "No")], holds


HIGHER = {"older": "younger", "taller": "shorter", "faster": "slower"}


def ordering(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    told = re.findall(r"(\w+) is (\w+) than (\w+)\.", prompt)
    asked = re.findall(r"Who is (?:the |in the )(\w+)\?", prompt)[0]

    def fits(order: Sequence[str], claims: Sequence[tuple[str, str, str]]) -> bool:
        return all((order.index(a) < order.index(b)) == (how in HIGHER) for a, how, b in claims)

    [order] = [o for o in permutations(choices) if fits(o, told)]
    answer = order[1 if asked == "middle" else 0 if asked in ("oldest", "tallest", "fastest") else 2]

    def holds(chosen: int, why: str) -> bool:
        if found := match(r", because (.*)\.", why):
            claims = re.findall(r"(\w+) is (\w+) than (\w+)", found[0])
            return len(claims) == len(order) - 1 and fits(order, claims)
        if found := match(r"\. First (.*)\.", why) or match(r"\. In order: (.*)\.", why):
            return tuple(re.split(r", then |, ", found[0])) == order
        if found := match(r"\. Last is (.*)\.", why):
            return tuple(found[0].split(", before that ")) == order[::-1]
        who, how = match(r"\. (Nobody|Only \w+) is (\w+)\.", why) or ("", "")
        better = order[: order.index(answer)] if how in HIGHER else order[order.index(answer) + 1 :]
        return (["Only " + p for p in better] or ["Nobody"]) == [who]

    return [choices.index(answer)], holds


def pick(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    condition = re.findall(r"(is .*?)(?:\?|:)", prompt)[0]

    def fits(noun: str) -> bool:
        if found := match(r"is an? (small|big) (\w+)", condition):
            return (SIZE[noun], KIND[noun]) == found
        if found := match(r"is neither an? (\w+) nor an? (\w+)", condition):
            return KIND[noun] not in found
        if found := match(r"is of the same kind as an? (\w+)", condition):
            return KIND[noun] == KIND[found[0]]
        if found := match(r"is as big as an? (\w+)", condition):
            return SIZE[noun] == SIZE[found[0]]
        return KIND[noun] in (match(r"is an? (\w+) or an? (\w+)", condition) or match(r"is an? (\w+)", condition) or ())

    right = [i for i, noun in enumerate(choices) if fits(noun)]
    assert all(re.search(rf"\b{noun}\b", prompt) for noun in choices)

    def holds(answer: int, why: str) -> bool:
        others = [choices[i] for i in right if i != answer]
        if found := match(r"(, because|\. But) (an?) (\w+) is an? (\w+) (\w+)\.", why):
            _, article, noun, size, kind = found
            correct = (noun == choices[answer]) if found[0] == ", because" else (noun in choices and not fits(noun))
            return correct and (SIZE[noun], KIND[noun]) == (size, kind) and article == ("an" if noun[0] in "aeiou" else "a")
        if found := match(r"\. Yes: (.*)\. No: (.*)\.", why):
            return [choices.index(n) for n in found[0].split(", ")] == right and set(found[1].split(", ")) == {
                n for n in choices if not fits(n)
            }
        if found := match(r"\. So is the (.*)\.", why):
            return words(found[0]) == others != []
        return why == ". Nothing else is." and not others

    return right, holds


def pronoun(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    first, verb, second, link = match(r"(\w+) (.*) (\w+) (because|since|although|even though)", prompt) or ("",) * 4
    assert (verb in AHEAD) != (verb in BEHIND)
    [word] = match(r" was (\w+)\.", rest) or ()
    assert (word in GOOD) != (word in BAD)
    ahead, behind = (first, second) if verb in AHEAD else (second, first)
    plain = link in ("because", "since")
    meant = ahead if (word in GOOD) == plain else behind
    other = second if meant == first else first

    def holds(answer: int, why: str) -> bool:
        if found := match(r" It was (\w+) who was (\w+)\.", why):
            return found == (meant, word)
        if found := match(r" (The|Yet the) (\w+) one often (\w+)\.", why):
            return (found[0] == "The") == plain and found[1] == word and (list(PAST).index(found[2]) % 2 == 0) == (word in GOOD)
        if found := match(r" So (\w+) (\w+)\.", why):
            return found[0] == (ahead if list(PAST.values()).index(found[1]) % 2 == 0 else behind)
        return why == f" {other} was not."

    return [choices.index(meant)], holds


def table(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    rows = re.findall(r"(\w+): (\d) (years|kg)\.", prompt)
    assert tuple(p for p, *_ in rows) == tuple(choices)
    how, bound = re.findall(r"Who is (?:the )?(\w+)(?: than (\d) (?:years|kg))?\?", prompt)[0]
    unit = "kg" if how[:5] in ("heavi", "light") else "years"
    top = how in ("older", "oldest", "heavier", "heaviest")
    assert {u for *_, u in rows} == {unit}
    values = [int(v) for _, v, _ in rows]
    if bound:
        right = [i for i, v in enumerate(values) if (v > int(bound) if top else v < int(bound))]
    else:
        right = [values.index(max(values) if top else min(values))]
    ranked = sorted(values, reverse=top)

    def holds(answer: int, why: str) -> bool:
        if found := match(r", because (\d) is (more|less) than (.*)\.", why):
            beaten = [v for v in ranked if (v < values[answer] if top else v > values[answer])]
            return (int(found[0]), found[1] == "more", list(map(int, words(found[2])))) == (values[answer], top, beaten)
        if found := match(r"\. In order: (.*)\.", why):
            return found[0] == ", ".join(f"{choices[values.index(v)]} {v}" for v in ranked)
        if found := match(r"\. (Nobody else is|Others are, too)\.(?: (Most|Least) is (\d)\.)?", why):
            alone = (found[0] == "Nobody else is") == (len(right) == 1)
            return alone and found[1:] in (("", ""), ("Most" if top else "Least", str(ranked[0])))
        others = {f"{p} has {v} {unit}" for i, (p, v) in enumerate(zip(choices, values, strict=True)) if i != answer}
        return set(words(why[2:-1])) == others

    return right, holds


def tracking(prompt: str, choices: Sequence[str], rest: str) -> tuple[Answers, Callable[[int, str], bool]]:
    begin, *acts = prompt.removeprefix("Q: ").split(". ")
    held = dict(re.findall(r"(\w+) (?:has )?the (\w+) (?:ball|one)", begin))
    swaps = re.findall(r"(\w+) and (\w+) swap", ". ".join(acts))
    states = [dict(held)]
    for a, b in swaps:
        held[a], held[b] = held[b], held[a]
        states.append(dict(held))
    if found := re.search(r"Who has the (\w+) ball\?", prompt):
        colour = found[1]
        answer = next(p for p, c in held.items() if c == colour)
    else:
        answer = colour = held[re.findall(r"Which ball does (\w+) have\?", prompt)[0]]
    holders = [next(p for p, c in s.items() if c == colour) for s in states]
    path = [p for i, p in enumerate(holders) if i == 0 or p != holders[i - 1]]

    def holds(chosen: int, why: str) -> bool:
        if found := match(r", because the (\w+) ball went from (.*)\.", why):
            return found[0] == colour and found[1].split(" to ") == path and len(path) > 1
        if found := match(r", because (\w+) kept the (\w+) ball\.", why) or match(r"\. (\w+) never swapped it away\.", why):
            return path == [found[0]] and found[1:] in ((), (colour,))
        if found := match(r"\. The (\w+) ball: (.*)\.", why):
            return found[0] == colour and found[1].split(", ") == holders
        if "got it" in why:
            steps = [match(r"(\w+) got it from (\w+)", part) for part in why[2:-1].split(" and ")]
            return steps == list(zip(path[::-1], path[-2::-1], strict=False))
        claims = re.findall(r"(\w+) has the (\w+) ball", why)
        return len(claims) == 2 and dict(claims) == {p: c for p, c in held.items() if c != colour}

    return [choices.index(answer)], holds


READERS: dict[str, Read] = {
    f.__name__: f for f in (boolean, counting, dates, navigate, ordering, pick, pronoun, table, tracking)
}
