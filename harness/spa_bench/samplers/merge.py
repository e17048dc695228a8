"""Members that are weighted sums of adapters: a dial between two ends, points of a convex hull, and averages.

Each member's update is sum_i w_i ΔW_i, exactly (see models/hf/merged_lora.py), so that its weights are the weighted average of
the adapted models. All members are read from one batch, as any members are, whatever their weights.

- dial: (1 - λ) × the anchor + λ × a source, a member for each source. With the base as the anchor, whose update is 0, it is
  WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903), which interpolates between a model and its fine-tuned form.
- line: as a dial with one source, at K equally spaced λ from 0 to 1, a member each.
- hull: K points of the simplex over the anchor and the sources, drawn with the run's seed from a symmetric Dirichlet
  distribution. IBCL (Lu et al. 2023, arXiv 2305.14782) keeps a convex hull of distributions of parameters and takes a point of
  it for each preference of a user, without training; here the corners are the adapters themselves, and preferences are drawn.
- soup: the uniform average of the anchor and the sources, one member (Wortsman et al. 2022, arXiv 2203.05482).

`balance` is for balanced averaging (BANG, Lin et al. 2024, arXiv 2309.17230). Known from the paper: where one model is more
confident than the other, its errors dominate the average, and BANG balances the two by fine-tuning with label smoothing and
mixup before WiSE-FT. That is a matter of training. What is defined here needs none: the updates are scaled to the mean of their
Frobenius norms before they are averaged, so that no adapter dominates by the size of its update.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spa_bench.cards.merging import Merging
from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import CardError, ModelError, UsageError
from spa_bench.models.base import AdapterMaker, Model, StageModel
from spa_bench.models.given import given_adapters
from spa_bench.models.spread import SpreadModel
from spa_bench.samplers.asking.checks import one_of
from spa_bench.samplers.base import SamplerKind
from spa_bench.samplers.mixture import build
from spa_bench.support.seeds import derive_seed

_MOST_CONCENTRATION = 1e9  # every point is the average then; far above, draws overflow and all weights are 0


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """The [options] of kind merge."""

    rule: str = "dial"  # dial, line, hull or soup
    weight: float = 0.5  # [share, 0 to 1] dial: λ, the weight of the sources; the anchor has the rest
    # what is merged with the sources: all (an adapter on all data, as single trains it), base (no adapter), none, or the place
    # of one adapter; auto: all for dial and line, none for hull and soup
    anchor: str = "auto"
    # places of sources, beside those that are trained: folders in PEFT's format, or runs with adapters
    given: tuple[str, ...] = ()
    # [above 0 to 1e9] hull: of the Dirichlet distribution; 1: all points alike, less: nearer to the corners
    concentration: float = 1.0
    balance: bool = False  # whether the updates get the mean of their norms before they are averaged
    same_base: bool = False  # whether adapters that name different bases were made for one model all the same

    def __post_init__(self) -> None:
        """Raises ValueError."""
        one_of(_RULES, rule=self.rule)
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight is {self.weight:g}; it is a share between 0 (the anchor) and 1 (the sources)")
        if not 0 < self.concentration <= _MOST_CONCENTRATION:
            raise ValueError(f"concentration is {self.concentration:g}; it must be greater than 0 and at most 1e9")
        if not self.anchor or "" in self.given:
            raise ValueError(f"{'anchor' if not self.anchor else 'given'} has an empty text; name a folder or a run")
        if self.rule in {"dial", "line"} and self.anchor == "none":
            raise ValueError(f"anchor is 'none', and a {self.rule} goes from an anchor to sources; name all, base or a place")

    @property
    def merged_with(self) -> str:
        """The anchor, settled: "auto" is one of the others."""
        return self.anchor if self.anchor != "auto" else "all" if self.rule in {"dial", "line"} else "none"


Weights = list[list[float]]


def _dial(options: MergeOptions, members: int, sources: int, anchored: bool, seed: int) -> Weights:
    return [[1 - options.weight, *(options.weight * (i == k) for i in range(sources))] for k in range(members)]


def _line(options: MergeOptions, members: int, sources: int, anchored: bool, seed: int) -> Weights:
    return [[1 - k / (members - 1), k / (members - 1)] for k in range(members)]


def _hull(options: MergeOptions, members: int, sources: int, anchored: bool, seed: int) -> Weights:
    corners = [options.concentration] * (sources + anchored)
    return [np.random.default_rng(derive_seed(seed, "hull", k)).dirichlet(corners).tolist() for k in range(members)]


def _soup(options: MergeOptions, members: int, sources: int, anchored: bool, seed: int) -> Weights:
    return [[1 / (sources + anchored)] * (sources + anchored)]


_RULES: dict[str, Callable[[MergeOptions, int, int, bool, int], Weights]] = {
    "dial": _dial,
    "line": _line,
    "hull": _hull,
    "soup": _soup,
}


def merging(card: SamplerCard) -> Merging:
    """How the members of `card` are made."""
    options = card.options_as(MergeOptions)
    anchored = options.merged_with != "none"

    def weights(sources: int, seed: int) -> Weights:
        _check_counts(card, sources)
        return _RULES[options.rule](options, card.members, sources, anchored, seed)

    return Merging(
        anchor=options.merged_with,
        given=options.given,
        weights=weights,
        balance=options.balance,
        same_base=options.same_base,
    )


def _check_counts(card: SamplerCard, sources: int) -> None:
    """Raises UsageError for a number of members that the rule does not give from these `sources`, without the anchor."""
    options = card.options_as(MergeOptions)
    rule, corners = options.rule, sources + (options.merged_with != "none")
    there = f"{sources} source{'s' * (sources != 1)}"
    if rule == "dial" and card.members != sources:
        raise UsageError(f"{card.name}: a dial has a member for each source; there are {there}, so set members={sources}")
    if rule == "line" and (sources != 1 or card.members < 2):
        raise UsageError(
            f"{card.name}: a line has one source and at least 2 members on the way to it; there are {there} and "
            f"{card.members} member{'s' * (card.members > 1)}"
        )
    if rule == "soup" and card.members != 1:
        raise UsageError(f"{card.name}: a soup is one average, and members is {card.members}; set members=1 sources={sources}")
    if rule in {"hull", "soup"} and corners < 2:
        raise UsageError(
            f"{card.name}: a {rule} needs at least 2 adapters, and there is {corners}; set sources or options.given"
        )


def check(card: SamplerCard) -> None:
    """Raise CardError for a card without adapters, or whose anchor must be trained where nothing is."""
    options = card.options_as(MergeOptions)
    where = f"sampler {card.name!r}"
    if card.served:
        raise CardError(f"{where}: adapters on a server cannot be merged here; name their folders in options.given")
    if not card.trains and not options.given:
        raise CardError(f'{where}: there is nothing to merge; set adapters = "parts", "seeds" or "all", or name options.given')
    if options.merged_with == "all" and not card.trains:
        raise CardError(
            f'{where}: options.anchor is "all", which is trained, and adapters is "none"; name base or a place as anchor'
        )
    if options.merged_with == "all" and card.adapters == "all":
        raise CardError(
            f'{where}: options.anchor and adapters are both "all", one adapter; name base, or set adapters = "parts" or "seeds"'
        )
    if not options.given:
        _check_counts(card, card.trained)


def check_model(card: SamplerCard, model: Model) -> None:
    """Raise ModelError for a model whose adapters have no weights, and for given adapters that cannot be merged.

    Raise UsageError for an anchor that is several adapters, and for a number of members that the rule does not give.
    """
    if isinstance(model, AdapterMaker):
        raise ModelError(f"{card.name} merges weights, and the adapters of {model.name!r} have none; use --engine hf")
    options = card.options_as(MergeOptions)
    places = [*options.given, *([options.anchor] if is_place(options.anchor) else [])]
    found = [given_adapters(place) for place in places]
    if is_place(options.anchor) and len(found[-1].folders) > 1:
        raise UsageError(f"options.anchor is {options.anchor!r}, which has {len(found[-1].folders)} adapters; name one of them")
    _check_counts(card, card.trained + sum(len(one.folders) for one in found[: len(options.given)]))
    if not found:
        return
    from spa_bench.models.hf.merged_lora import Source, check_mergeable, to_be_trained

    sources = [Source.at(folder, one.name) for one in found for folder in one.folders]
    check_mergeable(sources, same_base=options.same_base)
    if not card.trains or not isinstance(model, StageModel):
        return
    theirs, layers = sources[0].adapter.factors, None
    if not isinstance(model, SpreadModel):  # workers hold the layers themselves; there the stage finds what does not fit
        layers = model.lora_layers(card.lora.targets)
        if odd := sorted(layers.keys() ^ theirs.keys()):
            raise ModelError(
                f"the adapter {sources[0].name} and those that are trained cannot be merged: {odd[0]!r} is changed by one "
                f"alone ({len(odd)} such layers); set lora.targets as it was trained"
            )
    trained = to_be_trained(f"{card.adapters}-0 (to be trained)", model, layers, like=sources[0])
    check_mergeable([trained, *sources], same_base=options.same_base)


def is_place(anchor: str) -> bool:
    """Whether an anchor is the place of an adapter, not a word."""
    return anchor not in {"auto", "all", "base", "none"}


KIND = SamplerKind(
    build=build,
    options=MergeOptions,
    check=check,
    check_model=check_model,
    merging=merging,
    own_members=True,
    goes_on=True,
)
