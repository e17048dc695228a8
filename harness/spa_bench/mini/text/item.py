"""A question of the text world, and the words that its families share."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

Why = Mapping[str, tuple[str, ...]]  # style -> wordings of one explanation, each true

NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
COLOURS = ("red", "blue", "green", "black", "white")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SMALL: dict[str, tuple[str, ...]] = {
    "fruit": ("apple", "plum", "fig", "lemon"),
    "animal": ("hen", "cat", "frog", "duck"),
    "tool": ("saw", "drill", "hammer", "axe"),
    "instrument": ("flute", "horn", "drum", "fiddle"),
}
BIG: dict[str, tuple[str, ...]] = {
    "fruit": ("melon", "pumpkin"),
    "animal": ("cow", "horse"),
    "tool": ("ladder", "plow"),
    "instrument": ("piano", "harp"),
}
KINDS = tuple(SMALL)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question: a prompt, its choices, the true ones, and explanations."""

    family: str
    prompt: str  # ends where the answer begins
    choices: tuple[str, ...]
    right: tuple[int, ...]  # every choice that is true, in order
    key: str  # the combination of the question, without names and wording: the unit that is held out
    why: tuple[Why, ...]  # for each of `right`: its explanations, which follow the answer directly
    rest: str = ""  # the rest of the sentence after the choice, before any explanation

    def styles(self, answer: int) -> tuple[str, ...]:
        """Names of the ways in which the true choice `answer` can be explained."""
        return tuple(self.why[self.right.index(answer)])

    def answer(self, answer: int) -> str:
        """The choice `answer` as it follows the prompt."""
        return f" {self.choices[answer]}{self.rest}"

    def explanation(self, answer: int, style: str, rng: random.Random) -> str:
        """Why the true choice `answer` is true, as it follows the answer; the wording is drawn from `rng`."""
        return rng.choice(self.why[self.right.index(answer)][style]) + "\n"


def question(text: str) -> str:
    """The prompt of a question; its answer begins with a space."""
    return f"Q: {text}\nA:"


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def with_article(noun: str) -> str:
    """`an apple`, `a plum`."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def counted(number: int, noun: str) -> str:
    """`1 plum`, `2 plums`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
