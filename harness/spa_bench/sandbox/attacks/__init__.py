"""Hostile programs, which the tests and `spa-bench doctor --attack` run in each sandbox."""

from __future__ import annotations

from spa_bench.sandbox.attacks import cheating, excess, host
from spa_bench.sandbox.attacks.attack import ADDS_ONE, CHECK, Attack, attempt

__all__ = ["ADDS_ONE", "CHECK", "Attack", "all_attacks", "attempt"]


def all_attacks() -> list[Attack]:
    """Every attack, those of one goal together. `goal` and `name` are unique together."""
    return [*host.attacks(), *excess.attacks(), *cheating.attacks()]
