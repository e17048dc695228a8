"""How alike two texts are in their words: shingles, their Jaccard similarity, and an index that finds the alike ones.

A text is its words in lower case, without punctuation, so that layout and quoting have no effect. Two texts are as alike as
the sets of their shingles, SHINGLE words in a row: common ones divided by all (Jaccard). MinHash finds candidates (Broder
1997), and each is checked by the similarity itself, so that chance can miss a pair and never make one up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 5
PERMUTATIONS = 128
_BELOW = 0.2  # candidates are those of a threshold lower by this, so that hardly any is missed
_WORD = re.compile(r"\w+")
Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """The words of a text, in lower case and without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def grams_of(words: Words, n: int) -> Iterator[Words]:
    """Every n words in a row."""
    return (words[i : i + n] for i in range(len(words) - n + 1))


def shingles_of(words: Words) -> frozenset[Words]:
    """The shingles of a text's words; a text that is shorter than one is a shingle as a whole."""
    return frozenset(grams_of(words, SHINGLE)) or frozenset([words])


def minhash_of(shingles: frozenset[Words]) -> MinHash:
    """The MinHash of a set of shingles; the same one everywhere."""
    sketch = _empty().copy()  # drawing the permutations takes most of the time of a new one
    sketch.update_batch([" ".join(one).encode("utf-8", "surrogatepass") for one in shingles])
    return sketch


@cache
def _empty() -> MinHash:
    """The MinHash of no shingle."""
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1)


class NearIndex:
    """Texts, of which those can be found that are at least `threshold` alike to another one; above 0 to 1."""

    def __init__(self, threshold: float):
        from datasketch import MinHashLSH

        self._threshold = threshold
        self._lsh = MinHashLSH(threshold=max(0.05, threshold - _BELOW), num_perm=PERMUTATIONS)
        self._shingles: list[frozenset[Words]] = []

    def add(self, text: str) -> None:
        """Add a text; the first has the number 0."""
        shingles = shingles_of(words_of(text))
        self._lsh.insert(len(self._shingles), minhash_of(shingles))
        self._shingles.append(shingles)

    def nearest(self, text: str) -> tuple[int, float] | None:
        """(the number of the most similar text, the similarity), of equally similar ones the earliest; None: none is near."""
        return min(self.near(text), key=lambda pair: (-pair[1], pair[0]), default=None)

    def near(self, text: str) -> list[tuple[int, float]]:
        """(the number of a text, its similarity) of all that are near, by their number; none are near to one without a word."""
        if not (words := words_of(text)):
            return []
        shingles = shingles_of(words)
        found = (
            (key, len(shingles & self._shingles[key]) / len(shingles | self._shingles[key]))
            for key in sorted(self._lsh.query(minhash_of(shingles)))
        )
        return [(key, value) for key, value in found if value >= self._threshold]


def near_twins(
    texts: Sequence[str], threshold: float, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[list[int]]:
    """For each text the places of the others that are at least `threshold` alike; texts without a word have no twins."""
    index, twins = NearIndex(threshold), [list[int]() for _ in texts]
    for i, text in enumerate(texts):
        for number, _ in index.near(text):
            twins[i].append(number)
            twins[number].append(i)
        index.add(text)
        progress(i + 1, len(texts))
    return twins
