"""What differs in two specs, flat: dotted keys with both values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ABSENT = "(absent)"


@dataclass(frozen=True)
class Change:
    """One key in which two specs differ."""

    key: str
    before: str  # as JSON, or ABSENT
    after: str


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The keys in which `after` differs from `before`, sorted; the seed is no part of what two groups of runs share."""
    one, other = (_flat({k: v for k, v in spec.items() if k != "seed"}) for spec in (before, after))
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key, ABSENT) != other.get(key, ABSENT))
    return [Change(key, one.get(key, ABSENT), other.get(key, ABSENT)) for key in keys]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value, sort_keys=True)
    return found
