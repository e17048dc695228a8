"""Questions about words: the thing that fits a condition, with several true answers, and the person that a sentence means."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spa_bench.mini.text.item import BIG, KINDS, NAMES, SMALL, Item, Why, listed, question, with_article

_KIND = {noun: kind for kind in KINDS for noun in SMALL[kind] + BIG[kind]}
_SIZE = {noun: "small" for nouns in SMALL.values() for noun in nouns} | {n: "big" for nouns in BIG.values() for n in nouns}
_LISTED = 4


def pick(rng: random.Random) -> Item:
    """Name one of four things that fits a condition; one or two of them do, and each is a true answer."""
    while True:
        nouns = rng.sample(list(_KIND), _LISTED)
        condition, fits = _condition(rng)
        right = [i for i, noun in enumerate(nouns) if (_KIND[noun], _SIZE[noun]) in fits]
        if 1 <= len(right) <= 2:
            break
    text = rng.choice((f"Which of {listed(nouns)} {condition}?", f"Name one that {condition}: {listed(nouns)}."))
    key = f"{condition}: {' '.join(sorted(nouns))}"
    why = tuple(_why_pick(nouns, i, right, rng) for i in right)
    return Item(family="pick", prompt=question(text), choices=tuple(nouns), right=tuple(right), key=key, why=why)


def _condition(rng: random.Random) -> tuple[str, frozenset[tuple[str, str]]]:
    """A condition in words, and the (kind, size) that fit it."""
    (kind, second), size = rng.sample(KINDS, 2), rng.choice(("small", "big"))
    like = rng.choice(list(_KIND))
    texts: dict[str, Callable[[str, str], bool]] = {
        f"is {with_article(kind)}": lambda k, s: k == kind,
        f"is {with_article(kind)} or {with_article(second)}": lambda k, s: k in (kind, second),
        f"is neither {with_article(kind)} nor {with_article(second)}": lambda k, s: k not in (kind, second),
        f"is {with_article(f'{size} {kind}')}": lambda k, s: (k, s) == (kind, size),
        f"is of the same kind as {with_article(like)}": lambda k, s: k == _KIND[like],
        f"is as big as {with_article(like)}": lambda k, s: s == _SIZE[like],
    }
    text, fits = rng.choice(list(texts.items()))
    return text, frozenset((k, s) for k in KINDS for s in ("small", "big") if fits(k, s))


def _fact(noun: str) -> str:
    return f"{with_article(noun)} is {with_article(f'{_SIZE[noun]} {_KIND[noun]}')}"


def _why_pick(nouns: Sequence[str], chosen: int, right: Sequence[int], rng: random.Random) -> Why:
    wrong = [noun for i, noun in enumerate(nouns) if i not in right]
    also = [nouns[i] for i in right if i != chosen]
    return {
        "because": (f", because {_fact(nouns[chosen])}.",),
        "list": (f". Yes: {', '.join(nouns[i] for i in right)}. No: {', '.join(wrong)}.",),
        "others": (f". But {_fact(rng.choice(wrong))}.",),
        "also": (f". {'So is the ' + listed(also) if also else 'Nothing else is'}.",),
    }


@dataclass(frozen=True, kw_only=True)
class _Domain:
    """Verbs that compare two people, and words about the person who is ahead and the one who is behind."""

    ahead: tuple[str, ...]  # verbs whose subject is ahead
    behind: tuple[str, ...]  # verbs whose subject is behind
    good: tuple[str, ...]  # reasons to be ahead
    bad: tuple[str, ...]
    acts: tuple[str, str]  # acts of the person ahead and of the one behind
    done: tuple[str, str]  # the same in the past


_DOMAINS = (
    _Domain(
        ahead=("beat", "outran"),
        behind=("lost to", "chased"),
        good=("fast", "fit"),
        bad=("slow", "tired"),
        acts=("wins", "loses"),
        done=("won", "lost"),
    ),
    _Domain(
        ahead=("taught", "helped"),
        behind=("asked", "copied"),
        good=("clever", "wise"),
        bad=("new", "confused"),
        acts=("leads", "learns"),
        done=("led", "learned"),
    ),
    _Domain(
        ahead=("paid", "fed"),
        behind=("begged from", "lived off"),
        good=("rich", "generous"),
        bad=("poor", "hungry"),
        acts=("gives", "takes"),
        done=("gave", "took"),
    ),
    _Domain(
        ahead=("carried", "lifted"),
        behind=("leaned on", "clung to"),
        good=("strong", "big"),
        bad=("weak", "small"),
        acts=("holds", "rests"),
        done=("held", "rested"),
    ),
)
_LINKS = {"because": True, "since": True, "although": False, "even though": False}  # whether the reason supports the act


def pronoun(rng: random.Random) -> Item:
    """A sentence about two people whose rest fits one of them, as in WinoGrande.

    `although` reverses whom the reason fits, and so does a verb whose subject is behind.
    """
    domain, (first, second) = rng.choice(_DOMAINS), rng.sample(NAMES, 2)
    subject_ahead, good, link = rng.random() < 0.5, rng.random() < 0.5, rng.choice(list(_LINKS))
    verb = rng.choice(domain.ahead if subject_ahead else domain.behind)
    word = rng.choice(domain.good if good else domain.bad)
    subject_meant = subject_ahead == (good == _LINKS[link])
    ahead, behind = (first, second) if subject_ahead else (second, first)
    meant, other = (first, second) if subject_meant else (second, first)
    choices = tuple(sorted((first, second)))
    act = domain.acts[0 if good else 1]
    why: Why = {
        "because": (f" It was {meant} who was {word}.",),
        "rule": (f" The {word} one often {act}." if _LINKS[link] else f" Yet the {word} one often {act}.",),
        "other": (f" {other} was not.",),
        "outcome": (f" So {ahead} {domain.done[0]}.", f" So {behind} {domain.done[1]}."),
    }
    key = f"{verb} {link} {word}"
    return Item(
        family="pronoun",
        prompt=f"{first} {verb} {second} {link}",
        choices=choices,
        right=(choices.index(meant),),
        key=key,
        why=(why,),
        rest=f" was {word}.",
    )
