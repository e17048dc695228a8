"""Mixture-of-Agents (Wang et al. 2024, arXiv 2406.04692): the models of a server read each other's answers, layer by layer.

In the first layer every proposer answers the problem. In each further layer but the last, every proposer aggregates all answers
of the layer before. In the last, the members of the card do: each gives n / K of the answers, and they are its draws. The
paper has one aggregator and other proposers, which is `members = 1`, `served = ["AGGREGATOR"]` and their names in `proposers`;
with no `proposers` the members propose too. The paper has three layers; two are its MoA-Lite.

The paper's words stand in a system message; here they are in the question, in our words. A proposer without an answer is left
out of the next layer, and noted.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.templates import template_file
from spa_bench.errors import CardError
from spa_bench.models.base import Model, ServesMembers
from spa_bench.samplers.asking.aggregation import aggregated, drafts_in, lacking, why_none
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Case, Steps, failed
from spa_bench.samplers.asking.checks import MOST, is_temperature, within
from spa_bench.samplers.base import check_chat
from spa_bench.samplers.mixture import members_served
from spa_bench.types import Member


@dataclass(frozen=True, kw_only=True)
class MoaOptions:
    """The [options] of kind moa."""

    layers: int = 2  # [layers] the last of which gives the answers
    drafts: int = 1  # [answers] of each proposer in each layer
    proposers: tuple[str, ...] = ()  # names of models of the server that propose; empty: the members of the card
    temperature: float | None = None  # of the last layer; none: the card's, as of the others
    system: str = ""  # a system message before each question; "": none
    draft: str = template_file("draft", needs="prompt", may="answer")  # what is asked in the first layer
    aggregate: str = template_file("aggregate", needs="prompt responses", may="answer")  # and in the others, with {responses}
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers

    def __post_init__(self) -> None:
        within(2, 100, layers=self.layers)
        within(1, MOST, drafts=self.drafts)
        if "" in self.proposers or len(set(self.proposers)) < len(self.proposers):
            raise ValueError(f"proposers is {list(self.proposers)}: a name is empty or there twice")
        is_temperature(self.temperature)


def procedure(case: Case, options: MoaOptions) -> Steps:
    """The layers on one problem; see the module."""
    proposers = [case.names.index(name) for name in options.proposers or case.names[: case.members]]
    voices = [member for member in proposers for _ in range(options.drafts)]
    replies = yield [case.ask(case.words(options.draft), member=member) for member in voices]
    notes = []
    for layer in range(1, options.layers):
        drafts = drafts_in(replies)
        if not drafts:
            return [failed(f"layer {layer}: {why_none(replies)}", replies[0])] * case.n
        notes.append(lacking(replies))
        last = layer == options.layers - 1
        asked = [i // (case.n // case.members) for i in range(case.n)] if last else voices
        temperature = options.temperature if last else None
        replies = yield [
            aggregated(case, options.aggregate, drafts, member=member, temperature=temperature) for member in asked
        ]
    note = "; ".join(dict.fromkeys(filter(None, notes)))
    return [case.answer(one, note=note, step="aggregation") for one in replies]


def check(card: SamplerCard) -> None:
    """Raise CardError for members that are no models of a server, and for one model alone."""
    if card.adapters != "served":
        raise CardError(
            f"sampler {card.name!r}: kind 'moa' mixes models that a server has by name, and adapters is {card.adapters!r}; set "
            'adapters = "served" and served = ["NAME", "NAME"], or use the kind \'self-moa\', which takes one model'
        )
    if len(names := {*card.served, *card.options_as(MoaOptions).proposers}) < 2:
        raise CardError(
            f"sampler {card.name!r}: kind 'moa' mixes several models, and {', '.join(names)} is one; name others in served or "
            "options.proposers, or use the kind 'self-moa'"
        )


def check_model(card: SamplerCard, model: Model) -> None:
    """Raise ModelError for a model without messages, and where the server lacks a proposer."""
    check_chat(card, model)
    if (beside := others(card)) and isinstance(model, ServesMembers):
        model.check_served([*card.served, *(member.served for member in beside)])


def others(card: SamplerCard) -> list[Member]:
    """The proposers that are no members."""
    return members_served(card, [name for name in card.options_as(MoaOptions).proposers if name not in card.served])


KIND = asking_kind(MoaOptions, procedure, others=others, check=check, check_model=check_model)
