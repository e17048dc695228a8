"""Weighted sums of LoRA adapters as adapters: sum_i w_i s_i B_i A_i, exactly, by the factors of all of them side by side.

That is the sum of the updates themselves, so that base + merged update is the weighted average of the adapted weights, as model
soups and WiSE-FT average whole models. It is not the average of the factors A and B, whose product would mix A of one adapter
with B of another. Its rank is the sum of the ranks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spa_bench.errors import ModelError
from spa_bench.models.base import StageModel
from spa_bench.models.hf.stacked_lora import Adapter, StackedLinear, read_adapter, trained_over


@dataclass(frozen=True, kw_only=True)
class Source:
    """An adapter that is merged with others."""

    name: str  # in messages
    adapter: Adapter
    base: str  # the model that its config names; "": none
    weights: str  # the words for the quantised weights over which it was trained; "": none
    targets: tuple[str, ...] = ()  # names of the layers that it changes, as PEFT knows them; empty: its config names none

    @staticmethod
    def at(folder: Path, name: str) -> Source:
        """The adapter in `folder`. Raises ModelError as read_adapter."""
        adapter = read_adapter(folder)
        config = json.loads((folder / "adapter_config.json").read_bytes())
        base, targets = config.get("base_model_name_or_path"), config.get("target_modules")
        return Source(
            name=name,
            adapter=adapter,
            base=str(base or ""),
            weights=trained_over(folder),
            targets=tuple(sorted(map(str, targets))) if isinstance(targets, list) else (),
        )


def to_be_trained(name: str, model: StageModel, layers: Mapping[str, StackedLinear] | None, *, like: Source) -> Source:
    """What is known of an adapter of `model` on `layers` before it is trained: its base, and the shapes of its updates.

    Its factors have no numbers. Where the layers are not here (None), the shapes are those of `like`.
    """
    adapter = like.adapter
    if layers is not None:
        shapes = {path: (layer.out_features, layer.in_features) for path, layer in layers.items()}
        factors = {p: (torch.empty(1, n, device="meta"), torch.empty(m, 1, device="meta")) for p, (m, n) in shapes.items()}
        adapter = Adapter(factors, 1, 1.0)
    return Source(name=name, adapter=adapter, base=model.name, weights=str(model.training_numerics().get("weights", "")))


def check_mergeable(sources: Sequence[Source], *, same_base: bool = False) -> None:
    """Raise ModelError unless all `sources` are of one base, change the same layers, and agree in their shapes.

    With `same_base` the names of their bases may differ: one model can have several.
    """
    if not sources:
        return
    first, named = sources[0], [source for source in sources if source.base]
    for other in named[1:]:
        if other.base != named[0].base and not same_base:
            raise ModelError(
                f"the adapters {named[0].name} and {other.name} cannot be merged: their bases are {named[0].base!r} and "
                f"{other.base!r}; where both names are of one model, set options.same_base = true"
            )
    for other in sources[1:]:
        pair = f"the adapters {first.name} and {other.name} cannot be merged"
        if first.weights != other.weights:
            raise ModelError(
                f"{pair}: one was trained over {first.weights or 'whole weights'}, the other over "
                f"{other.weights or 'whole weights'}; train both over the same"
            )
        ours, theirs = first.adapter.factors, other.adapter.factors
        if odd := sorted(ours.keys() ^ theirs.keys()):
            raise ModelError(
                f"{pair}: {odd[0]!r} is changed by one of them alone ({len(odd)} such layers); train both with the same targets"
            )
        for path in ours:
            if _shape(ours[path]) != _shape(theirs[path]):
                raise ModelError(
                    f"{pair}: at {path} their updates are {_shape(ours[path])} and {_shape(theirs[path])}; they were made for "
                    "different models"
                )


def names_for_peft(sources: Sequence[Source]) -> Sequence[str]:
    """The names of the layers that the sum of mergeable `sources` changes: theirs where they agree, else whole paths."""
    named = {source.targets for source in sources}
    [only] = named if len(named) == 1 else [()]
    return only or sorted(sources[0].adapter.factors)


def _shape(factors: tuple[Tensor, Tensor]) -> tuple[int, int]:
    """(out, in) of the update B A."""
    low, high = factors
    return high.shape[0], low.shape[1]


def update_norm(adapter: Adapter) -> float:
    """The Frobenius norm of the whole update, all layers s B A together, in float64."""
    total = 0.0
    for low, high in adapter.factors.values():
        a, b = low.double(), high.double()
        total += float(((b.mT @ b) * (a @ a.mT)).sum())  # |BA|² = tr(BᵀB AAᵀ)
    return abs(adapter.scale) * math.sqrt(max(total, 0.0))


def balanced(adapters: Sequence[Adapter]) -> list[float]:
    """A factor for each adapter that gives all of their updates the mean of their norms; 1 for one that changes nothing."""
    norms = [update_norm(adapter) for adapter in adapters]
    there = [norm for norm in norms if norm > 0]
    return [sum(there) / len(there) / norm if norm > 0 else 1.0 for norm in norms]


def merged(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """The adapter whose update is the sum of those of `adapters`, each times its weight; they are mergeable.

    An adapter of weight 0 adds no rank. One of weight 1 beside zeros is given as it is; with zeros alone the update is 0.
    """
    chosen = [(adapter, weight) for adapter, weight in zip(adapters, weights, strict=True) if weight]
    if [weight for _, weight in chosen] == [1.0]:
        return chosen[0][0]
    chosen = chosen or [(adapters[0], 0.0)]
    factors = {}
    for path in adapters[0].factors:
        low = torch.cat([adapter.factors[path][0].float() for adapter, _ in chosen])
        high = torch.cat([adapter.factors[path][1].float() * (weight * adapter.scale) for adapter, weight in chosen], 1)
        factors[path] = low, high
    rank = sum(adapter.rank for adapter, _ in chosen)
    return Adapter(factors, rank, float(rank))
