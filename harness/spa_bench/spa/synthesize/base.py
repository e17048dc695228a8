"""The synthesis protocol: rounds of drafts, of which the filters keep some until there are enough pairs.

A method is prepared once (a soft prompt is trained, skills are extracted), and what comes of it is asked for one round of
drafts after another. A round depends on the seed, its number and the pairs that earlier rounds left, and on nothing else. So
a stopped synthesis goes on behind its last whole round, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from spa_bench.cards.kinds import CardKind, beside
from spa_bench.cards.registry import kind_of
from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.models.base import Model
from spa_bench.types import Example

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method may use; `build(setting)` makes one."""

    card: SynthesisCard
    model: Model  # that writes; its weights stay as they are
    targets: Sequence[Example]  # pairs of the kind that is wanted, as text: instructions as they are, in no template
    seed: int


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One attempt at a pair, before the filters."""

    text: str  # what the model wrote, or a generator gave
    example: Example | None = None  # the pair that is read from it; None: there is none
    failure: str = ""  # why there is no pair, in a few words that are counted; empty when there is one
    tests: str = ""  # a program that tests the completion, where the model wrote one
    source: str = ""  # what it was made from: "target 3", "skills a, b"
    tokens: int = 0  # drawn for it, those of earlier steps included


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A method that is prepared, and drafts pairs."""

    facts: dict[str, object]  # about the preparation, for the report: losses, sizes, counts
    # (number of the round, from 0; pairs that earlier rounds left after the filters) -> the drafts of that round
    round: Callable[[int, Sequence[Example]], Iterator[Draft]]


class Synthesizer(Protocol):
    """A method before its first round."""

    def prepare(self, *, progress: Progress, kept: Path) -> Prepared:
        """Do what comes once before the first round.

        `kept` is a folder for what is expensive. What an earlier, stopped process left there is used, with the same result.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SynthesisKind(CardKind[Callable[[Setting], Synthesizer], SynthesisCard]):
    """A kind of synthesis. `build` makes one of a setting."""

    table = "synthesis"
    # raises ModelError or UsageError for a model that the method cannot use, before anything is drawn
    check_model: Callable[[SynthesisCard, Model], None] = field(
        default=lambda card, model: None, metadata=beside("check_model")
    )
    # what its pairs are: a text and its continuation, which stay as they are, or an instruction, which gets a template later
    shape: Literal["pair", "instruction"] = field(default="pair", metadata=beside("SHAPE"))
    targets: int = field(default=1, metadata=beside("TARGETS"))  # the fewest target examples that it can use
    # what else its pairs depend on, beside card, targets and model: hashes of files
    depends_on: Callable[[SynthesisCard], dict[str, object]] = lambda card: {}


def synthesis_kind(name: str) -> SynthesisKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(SynthesisKind, "synthesis", name)
