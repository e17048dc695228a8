"""The object behind a name in a table of the registry: it declares everything that the harness needs to know of a kind.

Each table has its own class, with the protocol that its kinds build: SamplerKind, TaskKind, PartitionKind and so on. Every
member but `build` has a default, which declares nothing special. A user's own module may declare the same by attributes
beside a function; only `spa_bench.cards.plugins.declared` reads these.
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
    """The metadata of a member of a kind: the attribute that declares the same beside a function in a module."""
    return {"beside": name}


def any_card(card: object) -> None:
    """Accepts every card."""


def as_declared(options: object, kind: type[Options]) -> Options:
    """The `options` of a card, typed as the class that the card's kind declares.

    Raises TypeError where they are of another class: the calling code expects the options of another kind.
    """
    if not isinstance(options, kind):
        raise TypeError(f"the card has options of {type(options).__name__}, not of {kind.__name__}")
    return options


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[Build]):
    """A kind of any table. A table whose kinds declare nothing but a function also has a class of its own."""

    table: ClassVar[str] = ""  # the registry's table of these kinds; "": any table
    build: Build  # the factory: its table defines what it takes and gives


@dataclass(frozen=True, kw_only=True)
class CardKind(Kind[Build], Generic[Build, Card]):
    """A kind that a card names by `kind = "NAME"`, with everything that reading such a card needs."""

    # a frozen dataclass for the card's [options]; a ValueError in its __post_init__ becomes a CardError
    options: type[object] = field(default=NoOptions, metadata=beside("OPTIONS"))
    # raises CardError for a card that the kind cannot use
    check: Callable[[Card], None] = field(default=any_card, metadata=beside("check"))
    # whether it makes its members of adapters by itself: their number is then not that of the adapters that are trained
    own_members: bool = field(default=False, metadata=beside("OWN_MEMBERS"))
    # for an installed package: the .toml of the kind, relative to the module's folder; None: a card made of defaults
    card: str | os.PathLike[str] | None = field(default=None, metadata=beside("CARD"))
