"""Sampler cards: a mixture of members as TOML, with how each member is trained and how it draws."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from spa_bench.cards import training
from spa_bench.cards.checks import countable, not_negative, one_of, positive
from spa_bench.cards.guard import checked_by
from spa_bench.cards.kinds import CardKind, NoOptions, as_declared
from spa_bench.cards.objects import check_given, is_object
from spa_bench.cards.reading import (
    card_folder,
    card_of_object,
    check_known,
    check_name,
    filled,
    read_content,
    read_options,
)
from spa_bench.cards.registry import kind_of
from spa_bench.cards.synthesis import SynthesisCard, checked
from spa_bench.cards.templates import with_texts
from spa_bench.cards.training import AttributionCard, DataCard, LoraCard, PartitionCard
from spa_bench.errors import CardError
from spa_bench.types import RARE, Decoding

Options = TypeVar("Options")
_OF_TRAINING = (
    "lora",
    "partition",
    "attribution",
    "data",
    "synthesize",
)  # the tables of a card that play a part where adapters are trained
_FILLED = re.compile(r"\{([a-z_]+(?:\.[a-z_]+)*)\}")  # in a sampler's description: a setting of its card, after --set


@dataclass(frozen=True, kw_only=True)
class DecodingCard:
    """How a sampler draws; the task adds the length limit and the stop strings."""

    # In square brackets: the unit or range of a key. scripts/docs/pages.py makes docs/reference/cards.md of these comments.
    temperature: float = 0.0  # [0 upward] divides the logits before the softmax; 0: the most probable token each time
    top_p: float = 1.0  # [share, above 0 to 1] draws from the fewest tokens that hold this probability together; 1: from all
    top_k: int = 0  # [tokens] draws from this many of the most probable tokens; 0: from all
    min_p: float = 0.0  # [share, 0 to 1] leaves out tokens less probable than this share of the most probable one; 0: none
    # [share, above 0 to 1] draws from the tokens whose surprise is nearest to the entropy, as few as hold this probability
    # together (locally typical sampling, arXiv 2202.00666); 1: from all
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0  # [probability, 0 to below 1] leaves out less probable tokens (arXiv 2210.15191); 0: none
    # [probability, 0 to below 1] ε of eta sampling: leaves out tokens less probable than min(ε, sqrt(ε) exp(-entropy))
    # (arXiv 2210.15191); 0: none
    eta_cutoff: float = 0.0
    # [standard deviations, 0 upward] leaves out tokens whose logit is farther than this below the largest, at any temperature
    # (top-nσ, arXiv 2411.07641); 0: none
    top_n_sigma: float = 0.0
    # [bits a token, 0 upward] the mean surprise that mirostat 2.0 steers to (arXiv 2007.14966), from the most surprising token
    # allowed down; 0: off
    mirostat_tau: float = 0.0
    mirostat_eta: float = 0.1  # [share, above 0] how much of the last token's error moves mirostat's bound


@dataclass(frozen=True, kw_only=True)
class SamplerCard:
    """A mixture of members, or a sampler of another kind over one."""

    name: str  # the sampler's name in tables and in the names of run folders
    # one line about it; {decoding.temperature} in it becomes that setting of the card, so that --set changes it too
    description: str
    kind: str = "mixture"  # one of ours, one of an installed package, or package.module:build on the import path
    members: int = 1  # [members] K: how many share the answers
    draws: int = 4  # [answers to a problem] of all members together (each gives draws / members), unless --n says how many
    # which are trained. none; all: one, on all data; seeds: K, on all data with different seeds; parts: K, on the parts;
    # served: none, because a server has K models
    adapters: str = "none"
    # [adapters] how many are trained, where the kind makes its members of them; 0: as many as members
    sources: int = 0
    served: tuple[str, ...] = ()  # the names of the members on a server, in their order
    decoding: DecodingCard = field(default_factory=DecodingCard)  # how tokens are drawn
    lora: LoraCard = field(default_factory=LoraCard)  # how each adapter is trained
    attribution: AttributionCard = field(default_factory=AttributionCard)  # how training pairs are scored
    partition: PartitionCard = field(default_factory=PartitionCard)  # how scores become parts
    data: DataCard = field(default_factory=DataCard)  # on what adapters are trained
    synthesize: SynthesisCard = field(default_factory=SynthesisCard)  # how the pairs are made, where none are given
    options: object = field(default_factory=NoOptions)  # an instance of the dataclass that the kind declares

    @property
    def trains(self) -> bool:
        """Whether adapters are trained for it."""
        return self.adapters not in {"none", "served"}

    @property
    def synthesizes(self) -> bool:
        """Whether its training pairs are made, by the method of [synthesize]."""
        return self.trains and bool(self.synthesize.method)

    @property
    def trained(self) -> int:
        """The number of adapters that are trained for it, beside those that its kind asks for."""
        if not self.trains:
            return 0
        return 1 if self.adapters == "all" else self.sources or self.members

    def options_as(self, declared: type[Options]) -> Options:
        """The options as `declared`, the class that the card's kind declares. Raises TypeError for another class."""
        return as_declared(self.options, declared)


def load_sampler_card(name_or_path: str, overrides: Mapping[str, object] | None = None) -> SamplerCard:
    """The sampler card of that name or file. Raises UsageError or CardError.

    The card's kind declares the class of [options], and which cards it cannot use: see spa_bench.cards.kinds.
    """
    if is_object(name_or_path):
        return card_of_object("sampler", name_or_path, SamplerCard, overrides or {})
    content = read_content("sampler", "baselines", name_or_path, overrides or {})
    where = f"sampler {name_or_path!r}"
    card = build_sampler_card(content.values, content.place, where, folder=card_folder("sampler", name_or_path))
    if "adapters" not in content.values and (idle := [table for table in _OF_TRAINING if table in content.said]):
        raise CardError(
            f"{where}: [{idle[0]}] says how adapters are made, and the card does not say whether it trains any; add "
            'adapters = "all" (one), "seeds" or "parts" (one for each member), or "none" if it trains none'
        )
    return card


def said_of_data(name_or_path: str) -> dict[str, object]:
    """What the [data] of the sampler card of that name or file itself says, by `data.KEY`. Raises as load_sampler_card."""
    if is_object(name_or_path):
        return {}
    content = read_content("sampler", "baselines", name_or_path, {})
    return {f"data.{key}": value for key, value in _table(content.values, "data").items()}


def build_sampler_card(content: Mapping[str, object], place: str, where: str, *, folder: Path | None = None) -> SamplerCard:
    """The card with that content, which comes from a file or a run's spec; `place` and `where` name it in messages.

    The paths of its templates start at `folder`; the texts are read here, so that the card has the words.
    """
    check_given("sampler", content.get("kind"), place)
    options = content.get("options", {})
    values, made = _without_options(content)
    card = filled(SamplerCard, values, place, "")
    _check_sampler(where, card)
    off = "method" in _table(values, "synthesize")
    card = dataclasses.replace(card, synthesize=checked(card.synthesize, made, place, where, folder=folder, off=off))
    _check_synthesis(where, card)
    kind: CardKind[object, SamplerCard] = kind_of(CardKind, "sampler", card.kind)
    _check_members(where, card, own=kind.own_members)
    given = checked_by(
        "sampler", card.kind, "its options", lambda: read_options(kind.options, options, card.kind, place, where)
    )
    read = with_texts(given, folder, where)
    card = dataclasses.replace(card, options=read)
    card = dataclasses.replace(card, description=_FILLED.sub(lambda m: _setting(card, m), card.description))
    checked_by("sampler", card.kind, "check()", lambda: kind.check(card))
    return card


def _without_options(content: Mapping[str, object]) -> tuple[dict[str, object], object]:
    """(a card's content without the options of its kind and of its synthesis, the options of its synthesis)."""
    values = {k: v for k, v in content.items() if k != "options"}
    table = _table(values, "synthesize")
    if "options" not in table:
        return values, {}
    return values | {"synthesize": {k: v for k, v in table.items() if k != "options"}}, table["options"]


def _table(content: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The table of that name; empty where there is none."""
    found = content.get(name)
    return found if isinstance(found, Mapping) else {}


def _check_synthesis(where: str, card: SamplerCard) -> None:
    """Raises CardError for a synthesis that nothing trains on, and for pairs that are made and given."""
    method = card.synthesize.method
    if method and not card.trains:
        raise CardError(
            f"{where}: synthesize.method is {method!r}, and the sampler trains nothing on pairs; set adapters to all, seeds or "
            "parts, or leave [synthesize] out"
        )
    if method and card.data.examples != DataCard().examples:
        raise CardError(
            f"{where}: synthesize.method = {method!r} makes the pairs, and data.examples is {card.data.examples!r}: leave one "
            "out (--set synthesize.method= takes the given pairs)"
        )


def _setting(card: SamplerCard, key: re.Match[str]) -> str:
    """The value of the setting that a description names, as `{decoding.temperature}` does; other braces are unchanged."""
    value: object = card
    for name in key[1].split("."):
        value = getattr(value, name, None)
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else key[0]


def _check_served(where: str, card: SamplerCard) -> None:
    """Raises CardError unless `served` names each member of a card of served members, and is empty in others."""
    names = card.served
    if card.adapters != "served":
        if names:
            raise CardError(f'{where}: served is {list(names)}, and adapters is {card.adapters!r}; set adapters = "served"')
        return
    if len(names) != card.members:
        raise CardError(
            f"{where}: served names {len(names)} models, {list(names)}, and members is {card.members}; name each, as "
            """--set 'served=["NAME", "NAME"]' --set members=2"""
        )
    if "" in names or len(set(names)) < len(names):
        raise CardError(f"{where}: served is {list(names)}: a name is empty or there twice, and each member has its own")


_LATER = (*RARE, "mirostat_eta")


def said_decoding(decoding: DecodingCard | Decoding) -> dict[str, object]:
    """A decoding in a spec: the keys that came later stand in it only where they are not as usual, so that hashes stay."""
    usual = DecodingCard()
    return {k: v for k, v in dataclasses.asdict(decoding).items() if k not in _LATER or v != getattr(usual, k)}


def _check_decoding(where: str, decoding: DecodingCard) -> None:
    """Raises CardError for a key outside its range, and for two of which one has no effect beside the other."""
    said = {f"decoding.{key}": value for key, value in dataclasses.asdict(decoding).items()}
    above = ("decoding.top_p", "decoding.typical_p", "decoding.mirostat_eta")
    positive(where, {key: said[key] for key in above})
    not_negative(where, {key: value for key, value in said.items() if key not in above})
    countable(where, said)
    if decoding.top_p > 1 or decoding.min_p > 1:
        raise CardError(f"{where}: decoding.top_p and decoding.min_p are shares between 0 and 1; got {decoding}")
    if decoding.typical_p > 1:
        raise CardError(
            f"{where}: decoding.typical_p is {decoding.typical_p:g}; it is a share between 0 and 1, 1 for all tokens"
        )
    for key in ("decoding.epsilon_cutoff", "decoding.eta_cutoff"):
        if said[key] >= 1:
            raise CardError(f"{where}: {key} is {said[key]:g}; it is a probability below 1, such as 0.0009")
    usual = DecodingCard(
        temperature=decoding.temperature, mirostat_tau=decoding.mirostat_tau, mirostat_eta=decoding.mirostat_eta
    )
    if decoding.mirostat_tau and decoding != usual:
        other = next(key for key in said if said[key] != getattr(usual, key.removeprefix("decoding.")))
        raise CardError(f"{where}: mirostat decides alone which tokens are left, and {other} is {said[other]:g}; leave one out")
    if decoding.mirostat_eta != DecodingCard().mirostat_eta and not decoding.mirostat_tau:
        raise CardError(
            f"{where}: decoding.mirostat_eta is {decoding.mirostat_eta:g} and has no effect without decoding.mirostat_tau"
        )


def _check_sampler(where: str, card: SamplerCard) -> None:
    check_name(where, card.name)
    check_known(where, "kind", "sampler", card.kind)
    one_of(where, "adapters", card.adapters, ("none", "all", "seeds", "parts", "served"))
    positive(where, {"members": card.members, "draws": card.draws})
    _check_decoding(where, card.decoding)
    training.check(where, data=card.data, attribution=card.attribution, partition=card.partition, lora=card.lora)
    _check_served(where, card)


def _check_members(where: str, card: SamplerCard, *, own: bool) -> None:
    """Raises CardError for a number of members or of trained adapters that cannot be; `own` is CardKind.own_members."""
    not_negative(where, {"sources": card.sources})
    if card.sources and not own:
        raise CardError(
            f"{where}: sources is {card.sources}, and kind {card.kind!r} draws from each adapter; set members alone"
        )
    if card.sources and card.adapters not in {"seeds", "parts"}:
        raise CardError(f"{where}: sources counts adapters on parts or seeds; got adapters = {card.adapters!r}")
    if card.members > 1 and card.adapters in {"none", "all"} and not own:
        raise CardError(f'{where}: {card.members} members need adapters = "parts" or "seeds"; got {card.adapters!r}')
    if card.adapters == "parts" and card.trained < 2:
        raise CardError(f'{where}: adapters = "parts" needs at least 2 {"sources" if own else "members"}; got {card.trained}')
