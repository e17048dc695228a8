"""How repetitive a set of texts is: distinct-n and the compression ratio. Both depend on n and on the texts' length."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from spa_bench.metrics.chosen import Chosen, entries_of, firsts, shared
from spa_bench.metrics.ngrams import Counts, FloatArray, IntArray, count_ngrams, words

_SEPARATOR = b" "
_LEVEL = 9
_GZIP = 16  # added to zlib's wbits: a gzip header without file name and with mtime 0
_TABLES = {bits: (_GZIP + bits, min(bits - 6, zlib.DEF_MEM_LEVEL)) for bits in range(9, zlib.MAX_WBITS + 1)}
"""Bits of a window -> zlib's wbits and its level of memory: a table of 2 ** (level + 6) symbols, as many as the window has."""


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    r"""Different n-grams / all n-grams, pooled over the texts, in (0, 1]; None if there is no n-gram.

    Li et al. 2016 (arXiv 1510.03055), where n = 1, 2. Tokens are matches of \w+|[^\w\s]. The value falls with longer and with
    more texts: compare at equal n, and read it beside the length. Raises ValueError for n below 1.
    """
    return distinct_share(count_ngrams([words(text) for text in texts], (n,))[0], np.arange(len(texts)))


def distinct_share(counts: Counts, chosen: IntArray) -> float | None:
    """`distinct_n` of the rows at these places (no place twice) of counted n-grams."""
    share = float(distinct_shares(counts, Chosen.of([chosen]))[0])
    return None if math.isnan(share) else share


def distinct_shares(counts: Counts, chosen: Chosen, place: IntArray | None = None) -> FloatArray:
    """`distinct_share` of each subset, (S,); NaN where there is no n-gram.

    The places of `chosen` are rows of `counts`, or samples whose rows `place`, (n,), has: equal texts are counted once.
    """
    rows = chosen.places if place is None else place[chosen.places]
    several = shared(counts)
    # kinds that one row alone has need no comparison: they are its entries that are not of several rows
    alone = np.bincount(counts.rows, minlength=counts.items) - np.bincount(several.rows, minlength=counts.items)
    totals = np.bincount(counts.rows, weights=counts.counts, minlength=counts.items)
    kinds = np.zeros(chosen.count)
    first = 0
    for span, part in chosen.parts(len(several.rows) + counts.items):
        there = np.zeros((part.count, counts.items), dtype=bool)
        there[part.owner, rows[span]] = True
        subset, entry = entries_of(several.rows, there)
        kind = subset * len(several.rows) + several.kinds[entry]  # ascending
        kinds[first : first + part.count] = np.bincount(subset[firsts(kind)], minlength=part.count) + there @ alone
        first += part.count
    sums = np.bincount(chosen.owner, weights=totals[rows], minlength=chosen.count)
    return np.where(sums > 0, kinds / np.maximum(sums, 1), np.nan)


def compression_ratio(texts: Sequence[str]) -> float | None:
    """Bytes of the texts joined by one space / bytes of the same after gzip; higher is more repetitive. None if no bytes.

    Shaib et al. 2024 (arXiv 2403.00553); joined by a space as in their package `diversity`. The bytes are UTF-8 (lone
    surrogates as they are), level 9, without a file name, with mtime 0, so they depend on the texts and the zlib in use alone.
    Limits: gzip's 18 bytes of frame weigh on short texts (the ratio can fall below 1); the separator counts, so many empty
    answers look repetitive; gzip looks back 32 KiB, so in longer sets the order of the texts matters; it is the order given.
    """
    [ratio] = compression_ratios(texts, Chosen.of([np.arange(len(texts))]))
    return None if math.isnan(ratio) else float(ratio)


def compression_ratios(texts: Sequence[str], chosen: Chosen) -> FloatArray:
    """`compression_ratio` of each subset of the texts, (S,); NaN where there are no bytes."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    joined = (_SEPARATOR.join([parts[i] for i in subset]) for subset in chosen.each())
    return np.array([len(data) / _gzipped(data) if data else np.nan for data in joined], dtype=np.float64)


def _gzipped(data: bytes) -> int:
    """The number of bytes that gzip of level 9 makes of `data`.

    Tables that fit `data` give the bytes that the largest ones give, and clearing those takes several times as long as
    compressing a short text. No match may lie farther back than the window less 262 bytes, and a block ends
    when its table of symbols, at most one a byte, is full.
    """
    window, memory = _TABLES[min((len(data) + 262).bit_length(), zlib.MAX_WBITS)]
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, window, memory)
    return len(packer.compress(data)) + len(packer.flush())
