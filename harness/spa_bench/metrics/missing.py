"""Values that may be missing: None in files and rows, NaN in arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def with_nan(values: Sequence[float | None] | Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """`values`, or rows of values, as an array of the same shape, with NaN for None."""
    return np.array(values, dtype=np.float64)  # numpy reads None as NaN


def with_none(table: NDArray[np.float64]) -> list[list[float | None]]:
    """The rows of `table`, with None for NaN."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in table]
