r"""Counts of features in texts as sorted arrays: token n-grams, and anything else that can be listed.

One text has few of all the n-grams there are, so counts are kept as (row, kind, count) entries; self-BLEU and distinct-n
work on any subset of the rows by filtering them. Tokens here are matches of \w+|[^\w\s]: words and single signs, which
suits code and text written with spaces; scripts without spaces give very long words.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Counts:
    """How often each kind of feature occurs in each row; entries sorted by kind, then from the largest count down."""

    rows: IntArray  # (E,) the row of each entry, 0..items - 1
    kinds: IntArray  # (E,) the kind of each entry, 0, 1, ... without gaps
    counts: IntArray  # (E,) at least 1
    items: int  # the number of rows, those without any feature included

    def dense(self) -> FloatArray:
        """The counts as a matrix, shape (items, kinds)."""
        matrix = np.zeros((self.items, int(self.kinds[-1]) + 1 if len(self.kinds) else 1))
        matrix[self.rows, self.kinds] = self.counts
        return matrix


def words(text: str) -> list[str]:
    r"""The tokens of a text, matches of \w+|[^\w\s]; white space has no effect."""
    return _TOKEN.findall(text)


def count_features(rows: Sequence[Sequence[Hashable]]) -> Counts:
    """The counts of the features listed in each row; equal (==) features are one kind."""
    return count_ngrams(rows, (1,))[0]


def count_ngrams(rows: Sequence[Sequence[Hashable]], orders: Sequence[int]) -> list[Counts]:
    """The counts of the n-grams of each row of tokens, one `Counts` for each order n, in the order of `orders`.

    A row of L tokens has max(L - n + 1, 0) n-grams, none of which crosses into another row. Raises ValueError without
    orders or for an order below 1.
    """
    if not orders or min(orders) < 1:
        raise ValueError(f"orders must be one or more whole numbers from 1 on, not {tuple(orders)}")
    number: dict[Hashable, int] = {}
    tokens = np.array([number.setdefault(token, len(number)) for row in rows for token in row], dtype=np.int64)
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    grams = tokens
    by_order: dict[int, Counts] = {}
    for n in range(1, max(orders) + 1):
        if n > 1:
            # An n-gram is the (n - 1)-gram that begins there and the token n - 1 places on, numbered again so that
            # the product stays small; where the two lie in different rows there is no n-gram.
            whole = owner[: len(owner) - n + 1] == owner[n - 1 :]
            pairs = grams[: len(whole)] * len(number) + tokens[n - 1 :]
            grams = np.full(len(pairs), -1, dtype=np.int64)
            grams[whole] = np.unique(pairs[whole], return_inverse=True)[1]
        if n in orders:
            real = grams >= 0
            by_order[n] = _counts(owner[: len(grams)][real], grams[real], len(rows))
    return [by_order[n] for n in orders]


def _counts(owner: IntArray, kinds: IntArray, items: int) -> Counts:
    pairs, counts = np.unique(kinds * max(items, 1) + owner, return_counts=True)
    kind, row = np.divmod(pairs, max(items, 1))
    order = np.lexsort((-counts, kind))
    return Counts(row[order], kind[order], counts[order].astype(np.int64), items)
