"""The table [synthesize] of a sampler card: how its instruction set is made, where none is given."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from spa_bench.cards.checks import not_negative, one_of, positive
from spa_bench.cards.guard import checked_by
from spa_bench.cards.kinds import CardKind, NoOptions, as_declared
from spa_bench.cards.reading import check_known, read_options
from spa_bench.cards.registry import kind_of
from spa_bench.cards.templates import with_texts
from spa_bench.errors import CardError

Options = TypeVar("Options")
CODE = ("auto", "none", "parse", "run", "pass")
DRAFTS_A_PAIR = 16  # drafts for each pair that is wanted, where the card says no number


@dataclass(frozen=True, kw_only=True)
class SynthesisCard:
    """How pairs are made; without a method, data.examples are taken as they are."""

    # template, softsrv, oss-instruct, self-instruct, skill-mix, or package.module:build on the import path; "": none is used
    method: str = ""
    targets: str = "mini"  # pairs of the kind that is wanted: a source, as data.examples takes them
    pairs: int = 256  # [pairs] how many are wanted after the filters
    least: int = 0  # [pairs] the fewest with which the next stage begins; 0: as many as `pairs`
    drafts: int = 0  # [drafts] the most that are made for them; 0: 16 for each pair that is wanted
    # what the program of a draft must do: parse, run, pass (its own tests too) or none; auto: pass where the draft has tests,
    # run where the targets are programs, else none
    code: str = "auto"
    near: float = 0.8  # [similarity, above 0 to 1] from which on a draft repeats a target or an earlier pair; 1: in all words
    decontaminate: bool = True  # leave out (and count) drafts that overlap the task's problems
    options: object = field(default_factory=NoOptions)  # an instance of the dataclass that the method declares

    @property
    def wanted(self) -> int:
        """The fewest pairs with which the next stage begins."""
        return self.least or self.pairs

    @property
    def most(self) -> int:
        """The most drafts that are made."""
        return self.drafts or DRAFTS_A_PAIR * self.pairs

    def options_as(self, declared: type[Options]) -> Options:
        """The options as `declared`, the class that the method declares. Raises TypeError for another class."""
        return as_declared(self.options, declared)


def checked(
    card: SynthesisCard, options: object, place: str, where: str, *, folder: Path | None = None, off: bool = False
) -> SynthesisCard:
    """`card` with the `options` of its method, templates as texts. Raises CardError for the first value that cannot be used.

    `place` and `where` name the card in messages; paths of templates start at `folder`. `off`: the method is said to be none,
    so that the other keys have no effect.
    """
    if not card.method:
        if not off and (card != SynthesisCard() or options):
            raise CardError(f"{where}: [synthesize] has no method; name one, such as synthesize.method=template")
        return SynthesisCard()
    check_known(where, "synthesize.method", "synthesis", card.method)
    one_of(where, "synthesize.code", card.code, CODE)
    positive(where, {"synthesize.pairs": card.pairs, "synthesize.near": card.near})
    not_negative(where, {"synthesize.least": card.least, "synthesize.drafts": card.drafts})
    if card.near > 1:
        raise CardError(f"{where}: synthesize.near is {card.near:g}; it is a similarity, at most 1")
    if card.least > card.pairs:
        raise CardError(f"{where}: synthesize.least is {card.least}, of {card.pairs} pairs that are wanted")
    if 0 < card.drafts < card.pairs:
        raise CardError(f"{where}: synthesize.drafts is {card.drafts}; {card.pairs} pairs need as many drafts at least")
    kind: CardKind[object, SynthesisCard] = kind_of(CardKind, "synthesis", card.method)
    read = checked_by(
        "synthesis",
        card.method,
        "its options",
        lambda: read_options(kind.options, options, card.method, place, where, key="synthesize.options"),
    )
    made = dataclasses.replace(card, options=with_texts(read, folder, f"{where}, synthesize"))
    checked_by("synthesis", card.method, "check()", lambda: kind.check(made))
    return made
