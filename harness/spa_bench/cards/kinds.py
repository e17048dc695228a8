"""What a name in a table of the registry leads to: one object that declares all that the harness asks of a kind.

Each table has its own class, with the protocol that its kinds build: SamplerKind, TaskKind, PartitionKind and so on. Every
member but `build` has a default, which asks for nothing. A module of a user's own may say the same by attributes beside a
function instead; `spa_bench.cards.plugins.declared` reads them, and nothing else does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

Build = TypeVar("Build", covariant=True)
Card = TypeVar("Card", contravariant=True)
Options = TypeVar("Options")


@dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


def beside(name: str) -> Mapping[str, str]:
    """For a member of a kind: the attribute that says the same in a module beside a function."""
    return {"beside": name}


def any_card(card: object) -> None:
    """Takes every card."""


def as_declared(options: object, kind: type[Options]) -> Options:
    """`options` of a card, which are of the class that the card's kind declares.

    Raises TypeError where they are of another: the code asks for the options of another kind.
    """
    if not isinstance(options, kind):
        raise TypeError(f"the card has options of {type(options).__name__}, not of {kind.__name__}")
    return options


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[Build]):
    """A kind of anything; a table whose kinds are functions and nothing more has a class of its own all the same."""

    table: ClassVar[str] = ""  # of the registry, whose kinds these are; "": any
    build: Build  # the factory: what it takes and gives is the table's to say


@dataclass(frozen=True, kw_only=True)
class CardKind(Kind[Build], Generic[Build, Card]):
    """A kind that a card names, `kind = "NAME"`: what reading such a card needs to know of it."""

    # a frozen dataclass for the card's [options]: a ValueError of its __post_init__ becomes a CardError
    options: type[object] = field(default=NoOptions, metadata=beside("OPTIONS"))
    # raises CardError for a card that the kind cannot use
    check: Callable[[Card], None] = field(default=any_card, metadata=beside("check"))
    # of an installed package: the .toml that comes with the kind, from the folder of the module on; None: made of defaults
    card: str | os.PathLike[str] | None = field(default=None, metadata=beside("CARD"))
