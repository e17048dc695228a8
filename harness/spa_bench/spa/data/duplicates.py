"""Near-duplicates within a data set, by the shingles, the similarity and the MinHash of the audit (overlap.py)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from spa_bench.spa.data.overlap import SHINGLE, SIMILAR

_WORD = re.compile(r"\w+")
_PERMUTATIONS = 128
Shingles = NDArray[np.uint64]


def near_twins(texts: Sequence[str], *, progress: Callable[[int, int], None] = lambda done, total: None) -> list[list[int]]:
    """For each text the other texts that are nearly the same: the Jaccard similarity of 5-word shingles is at least 0.7.

    A text is its words in lower case; one of fewer than 5 words is one shingle. Candidates come from a MinHash index of
    `datasketch`, built for a lower similarity, and each is checked; hardly any is missed. Texts without a word have no twins.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=SIMILAR - 0.2, num_perm=_PERMUTATIONS)
    shingles, twins = [shingles_of(text) for text in texts], [list[int]() for _ in texts]
    for i, mine in enumerate(shingles):
        if len(mine):
            sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
            sketch.update_batch([one.tobytes() for one in mine])
            for j in sorted(index.query(sketch)):
                if _jaccard(mine, shingles[j]) >= SIMILAR:
                    twins[i].append(j)
                    twins[j].append(i)
            index.insert(i, sketch)
        progress(i + 1, len(texts))
    return twins


def shingles_of(text: str) -> Shingles:
    """The hashes of the different 5-word shingles of a text, ascending; none without words."""
    words = _WORD.findall(text.lower())
    grams = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))} if words else set()
    hashes = (hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=8).digest() for gram in grams)
    return np.sort(np.frombuffer(b"".join(hashes), dtype=np.uint64))


def _jaccard(a: Shingles, b: Shingles) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)
