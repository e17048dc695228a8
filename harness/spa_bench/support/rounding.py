"""What rounding alone does to numbers: another CPU, or another release of a library, may round the last digits otherwise."""

from __future__ import annotations

import math


def same_values(one: object, other: object) -> bool:
    """Equality of JSON values, except in the last digits of floats (1e-7 relative, 1e-9 absolute)."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_values(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_values, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-7, abs_tol=1e-9)
    return bool(one == other)


def at_least(value: float) -> int:
    """The least whole number that is not below `value`, but for rounding: 0.07 × 100 is 7.000000000000001, and gives 7."""
    return math.ceil(round(value, 9))


def fixed(value: float, digits: int) -> str:
    """`value` with so many decimals; a number that is 0 but for rounding has no minus."""
    return f"{0.0 if abs(value) < 1e-9 else value:.{digits}f}"
