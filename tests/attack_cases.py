"""The attacks of the package as parameters of tests."""

from __future__ import annotations

from typing import Any

import pytest

from spa_bench.sandbox.attacks import Attack, all_attacks


def cases(goal: str) -> list[Any]:
    """A parameter for each attack with this goal: its mark and its name."""
    found = [attack for attack in all_attacks() if attack.goal == goal]
    return [pytest.param(marks=_mark(attack), id=attack.name) for attack in found]


def _mark(attack: Attack) -> pytest.MarkDecorator:
    options = {"check": attack.check, "then": attack.then, "only": attack.only}
    given: dict[str, Any] = {name: value for name, value in options.items() if value}
    return pytest.mark.attack(attack.source, seconds=attack.seconds, **given)
