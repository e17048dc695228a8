"""How a sampler says of which adapters its members are made: what the kind declares, and the stages carry out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Merging:
    """How the members of a sampler are made of other adapters: those that its card trains and those that are given."""

    anchor: str  # an adapter before the others: all, base, none or a place; see samplers/merge.py
    given: tuple[str, ...]  # places
    # (sources without the anchor, seed) -> the weights (K, [anchor +] sources) of each member; raises UsageError
    weights: Callable[[int, int], list[list[float]]]
    balance: bool = False
    same_base: bool = False
