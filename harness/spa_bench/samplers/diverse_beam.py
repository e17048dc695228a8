"""Diverse beam search (Vijayakumar et al. 2016, arXiv 1610.02424): answers from groups of beams that avoid each other.

The n answers are the best beam of each of n groups; with fewer groups than answers, the second-best beams follow, and so on. It
is a search, not a draw: the seed affects only the training of the adapter, and pass@k over subsets describes the n answers of
the search, not a distribution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spa_bench.cards.sampler import DecodingCard, SamplerCard
from spa_bench.errors import CardError, ModelError, UsageError
from spa_bench.models.base import BeamModel, Beams, Model
from spa_bench.models.beams import BeamSearch
from spa_bench.samplers.asking.checks import not_negative, within
from spa_bench.samplers.base import SamplerKind, one_member, spread, waiting
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.support.seeds import draw_seed
from spa_bench.types import Completion, Decoding, Key, Prompt, Request


@dataclass(frozen=True)
class DiverseBeamOptions:
    """The [options] of kind diverse-beam."""

    groups: int = 0  # [groups] G; 0: as many groups as answers
    width: int = 2  # [beams] of a group
    penalty: float = 0.5  # [nats] λ; the paper finds 0.2 to 0.8 good
    length_power: float = 1.0  # [power, 0 upward] scores are divided by length ** this

    def __post_init__(self) -> None:
        within(0, None, groups=self.groups)
        within(1, None, width=self.width)
        not_negative(penalty=self.penalty, length_power=self.length_power)


def check(card: SamplerCard) -> None:
    """Raise CardError for more than one member, and for a decoding, which would have no effect."""
    one_member(card)
    if card.decoding != DecodingCard():
        raise CardError(f"sampler {card.name!r}: kind 'diverse-beam' searches and does not draw; remove [decoding]")


def drawn(card: SamplerCard, n: int) -> int:
    """The number of beams searched for a problem, of which n are kept."""
    options = card.options_as(DiverseBeamOptions)
    return (options.groups or n) * options.width


def check_n(card: SamplerCard, n: int) -> None:
    """Raises UsageError for more answers than there are beams."""
    if not 1 <= n <= drawn(card, n):
        options = card.options_as(DiverseBeamOptions)
        groups, width = options.groups or n, options.width
        raise UsageError(
            f"n is {n}, but {card.name} has {groups} groups of {width} beams: choose n between 1 and "
            f"{groups * width}, or more options.groups"
        )


def check_model(card: SamplerCard, model: Model) -> None:
    """Raises ModelError for a model that cannot search."""
    if not isinstance(model, BeamModel):
        raise ModelError(f"{card.name} needs a model that can search with beams, and {model.name!r} cannot")


class DiverseBeam:
    """The sampler; see Sampler."""

    def __init__(self, card: SamplerCard, adapters: Sequence[Path]):
        self.name, self._card = card.name, card
        self.members = build_mixture(card, adapters).members
        self._options = card.options_as(DiverseBeamOptions)

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """See Sampler.sample. A problem that lacks an answer is searched again, which gives the same answers."""
        check_n(self._card, n)
        check_model(self._card, model)
        assert isinstance(model, BeamModel)
        search = BeamSearch(self._options.groups or n, self._options.width, self._options.penalty, self._options.length_power)
        requests = [_request(p) for p in waiting(prompts, n, done)]
        for beams in model.diverse_beams(requests, self.members[0], search):
            for draw, answer in enumerate(_answers(beams, n)):
                key = Key(beams.request.problem_id, 0, draw)
                if key not in done:
                    yield replace(answer, key=key, seed=draw_seed(seed, task, *key))


def _request(prompt: Prompt) -> Request:
    decoding = Decoding(max_new_tokens=prompt.max_new_tokens, stop=prompt.stop)
    return Request(
        problem_id=prompt.problem_id,
        member=0,
        draw=0,
        kind="generate",
        prompt=prompt.text,
        decoding=decoding,
        seed=0,
        messages=prompt.messages,
    )


def _answers(beams: Beams, n: int) -> list[Completion]:
    """n answers, the best of each group first; they account for all tokens of all beams together."""
    ranked = [group[rank] for rank in range(max(map(len, beams.groups))) for group in beams.groups if rank < len(group)]
    cause = ranked[0].failure or f"the search found {len(ranked)} of {n} answers"
    lost = Completion(
        key=beams.request.key,
        text="",
        tokens=0,
        finish=ranked[0].finish if ranked[0].failure else "failed",
        seed=0,
        failure=cause,
    )
    answers = ranked[:n] + [lost] * (n - len(ranked))
    return [replace(answer, spent=spent) for answer, spent in zip(answers, spread(beams.drawn, n), strict=True)]


def build(card: SamplerCard, adapters: Sequence[Path]) -> DiverseBeam:
    """The sampler of `card` over its adapter, or over the base model."""
    return DiverseBeam(card, adapters)


KIND = SamplerKind(
    build=build,
    options=DiverseBeamOptions,
    check=check,
    check_n=check_n,
    check_model=check_model,
    drawn=drawn,
    together=True,
)
