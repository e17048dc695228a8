"""How repetitive a set of texts is: distinct-n and the compression ratio. Both depend on n and on the texts' length."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from spa_bench.metrics.ngrams import Counts, IntArray, count_ngrams, words

_SEPARATOR = " "
_LEVEL = 9
_GZIP = 31  # zlib's wbits for a gzip header without file name and with mtime 0


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    r"""Different n-grams / all n-grams, pooled over the texts, in (0, 1]; None if there is no n-gram.

    Li et al. 2016 (arXiv 1510.03055), where n = 1, 2. Tokens are matches of \w+|[^\w\s]. The value falls with longer and with
    more texts: compare at equal n, and read it beside the length. Raises ValueError for n below 1.
    """
    return distinct_share(count_ngrams([words(text) for text in texts], (n,))[0], np.arange(len(texts)))


def distinct_share(counts: Counts, chosen: IntArray) -> float | None:
    """`distinct_n` of the rows at these places (no place twice) of counted n-grams."""
    there = np.zeros(counts.items, dtype=bool)
    there[chosen] = True
    entries = np.flatnonzero(there[counts.rows])  # places rather than a mask, because most subsets are small
    total = int(counts.counts[entries].sum())
    kinds = counts.kinds[entries]  # sorted
    return (1 + int(np.count_nonzero(kinds[1:] != kinds[:-1]))) / total if total else None


def compression_ratio(texts: Sequence[str]) -> float | None:
    """Bytes of the texts joined by one space / bytes of the same after gzip; higher is more repetitive. None if no bytes.

    Shaib et al. 2024 (arXiv 2403.00553); joined by a space as in their package `diversity`. The bytes are UTF-8 (lone
    surrogates as they are), level 9, without a file name, with mtime 0, so they depend on the texts and the zlib in use alone.
    Limits: gzip's 18 bytes of frame weigh on short texts (the ratio can fall below 1); the separator counts, so many empty
    answers look repetitive; gzip looks back 32 KiB, so in longer sets the order of the texts matters; it is the order given.
    """
    data = _SEPARATOR.join(texts).encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, _LEVEL, _GZIP)) if data else None
