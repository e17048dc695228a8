"""The differences of two specs as a flat list: dotted keys with both values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spa_bench.runs.folder import flat

ABSENT = "(absent)"


@dataclass(frozen=True)
class Change:
    """One key in which two specs differ."""

    key: str
    before: str  # as JSON, or ABSENT
    after: str


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The keys in which `after` differs from `before`, sorted; the seed is left out, because it differs within a group."""
    one, other = _values(before), _values(after)
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key, ABSENT) != other.get(key, ABSENT))
    return [Change(key, one.get(key, ABSENT), other.get(key, ABSENT)) for key in keys]


def _values(spec: Mapping[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value, sort_keys=True) for key, value in flat(spec).items() if key != "seed"}
