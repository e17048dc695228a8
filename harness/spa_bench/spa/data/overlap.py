"""Contamination: training pairs that overlap the problems of a task, found in one pass over the pairs.

A text is its words in lower case, without punctuation, so that layout and quoting have no effect. Three ways, by strength:

* exact: a pair contains the whole question or the whole reference of a problem (as StarCoder's data were filtered, Li et al.
  2023, arXiv:2305.06161), of at least EXACT_WORDS words;
* ngram: a pair shares NGRAM words in a row with a problem (Brown et al. 2020, arXiv:2005.14165, appendix C); a sequence that
  more than COMMON problems have is ignored, as there;
* minhash: the Jaccard similarity of 5-word shingles is at least SIMILAR (the near-deduplication of StarCoder's data: the same
  shingles and threshold); candidates by `datasketch`, each checked by the similarity itself.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from spa_bench.spa.data.near import PERMUTATIONS, Words, grams_of, minhash_of, shingles_of, words_of
from spa_bench.spa.data.shapes import Row
from spa_bench.types import Example, Problem

if TYPE_CHECKING:
    from datasketch import MinHashLSH

EXACT_WORDS = 8
NGRAM = 13
COMMON = 10
SIMILAR = 0.7
_DOCSTRING = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)
_EXAMPLES = re.compile(r"^\s*(>>>|assert\b|Examples?:?\s*$|For example)", re.MULTILINE)

Way = Literal["exact", "ngram", "minhash"]
WAYS: tuple[Way, ...] = ("exact", "ngram", "minhash")  # by strength


@dataclass(frozen=True)
class Overlap:
    """A pair that overlaps a problem, in the strongest way that finds it."""

    row: int  # which row of the source, from 1
    problem: str
    way: Way
    shared: str  # the shared words; for minhash the similarity


@dataclass(frozen=True)
class Audit:
    """What the pairs of a source share with the problems of a task."""

    pairs: int
    problems: int
    overlaps: tuple[Overlap, ...]  # in the order of the rows

    @property
    def rows(self) -> set[int]:
        """The rows that overlap a problem."""
        return {one.row for one in self.overlaps}

    def counts(self) -> dict[str, int]:
        """Pairs by the strongest way that finds them."""
        best: dict[int, int] = {}
        for one in self.overlaps:
            best[one.row] = min(best.get(one.row, len(WAYS)), WAYS.index(one.way))
        found = Counter(best.values())
        return {way: found[i] for i, way in enumerate(WAYS)}

    def line(self) -> str:
        """The counts in one line."""
        touched = len({one.problem for one in self.overlaps})
        ways = ", ".join(f"{count} {way}" for way, count in self.counts().items())
        return f"{len(self.rows)} of {self.pairs} training pairs overlap {touched} of {self.problems} problems ({ways})"

    def to_json(self) -> dict[str, object]:
        """Counts, thresholds and the overlaps."""
        return {
            "pairs": self.pairs,
            "overlapping": len(self.rows),
            "problems": self.problems,
            "overlapped_problems": len({one.problem for one in self.overlaps}),
            "by_way": self.counts(),
            "thresholds": {"exact_words": EXACT_WORDS, "ngram": NGRAM, "common": COMMON, "minhash": SIMILAR},
            "overlaps": [asdict(one) for one in self.overlaps],
        }


def audit(rows: Iterable[Row], problems: Sequence[Problem], numbers: Iterable[int] | None = None) -> Audit:
    """Compare every row with all problems; `numbers` says which row of the source each is. Linear in the rows' length."""
    counted = numbers if numbers is not None else itertools.count(1)
    return audit_numbered(zip(counted, rows, strict=False), problems)


def audit_numbered(rows: Iterable[tuple[int, Row]], problems: Sequence[Problem]) -> Audit:
    """`audit` of (which row of the source it is, the row): no more than one row is kept at a time."""
    against, overlaps, count = Against(problems), list[Overlap](), 0
    for number, row in rows:
        count += 1
        overlaps += [Overlap(number, *found) for found in against.overlaps(*_texts(row))]
    return Audit(count, len(problems), tuple(overlaps))


class Against:
    """An index of the texts of problems."""

    def __init__(self, problems: Sequence[Problem]):
        self._ids = [p.id for p in problems]
        self._pieces = [(i, words) for i, p in enumerate(problems) for words in _pieces(p)]
        self._begins: dict[Words, list[tuple[int, Words]]] = defaultdict(list)
        self._ngrams: dict[Words, set[int]] = defaultdict(set)
        for i, words in self._pieces:
            self._begins[words[:EXACT_WORDS]].append((i, words))
            for gram in grams_of(words, NGRAM):
                self._ngrams[gram].add(i)
        self._shingles = [shingles_of(words) for _, words in self._pieces]
        self._every: frozenset[Words] = frozenset().union(*self._shingles)
        self._lsh = _index(self._shingles)

    def overlaps(self, prompt: str, completion: str) -> Iterator[tuple[str, Way, str]]:
        """(problem, way, what is shared) of one pair, each problem once."""
        asked, answer = words_of(prompt), words_of(completion)
        words, found = asked + answer, dict[int, tuple[Way, str]]()
        for at in range(len(words) - EXACT_WORDS + 1):
            for i, piece in self._begins.get(words[at : at + EXACT_WORDS], ()):
                if words[at : at + len(piece)] == piece:
                    found.setdefault(i, ("exact", " ".join(piece)))
        for gram in grams_of(words, NGRAM):
            owners = self._ngrams.get(gram, ())
            for i in owners if len(owners) <= COMMON else ():
                found.setdefault(i, ("ngram", " ".join(gram)))
        for text in (asked, answer, words):
            if len(text) >= EXACT_WORDS:
                for i, value in self._alike(shingles_of(text)):
                    found.setdefault(i, ("minhash", f"{value:.2f}"))
        for i in sorted(found):
            yield (self._ids[i], *found[i])

    def _alike(self, shingles: frozenset[Words]) -> Iterator[tuple[int, float]]:
        if len(shingles & self._every) < SIMILAR * len(shingles):  # no problem can be similar enough
            return
        for key in sorted(self._lsh.query(minhash_of(shingles))):
            other = self._shingles[key]
            if (value := len(shingles & other) / len(shingles | other)) >= SIMILAR:
                yield self._pieces[key][0], value


def _index(shingles: Sequence[frozenset[Words]]) -> MinHashLSH:
    from datasketch import MinHashLSH

    # candidates at a lower similarity than SIMILAR, since each is checked: hardly any is missed
    lsh = MinHashLSH(threshold=SIMILAR - 0.2, num_perm=PERMUTATIONS)
    for key, some in enumerate(shingles):
        lsh.insert(key, minhash_of(some))
    return lsh


def _texts(row: Row) -> tuple[str, str]:
    """(what is asked, the answer) of a row, before a template."""
    if isinstance(row, Example):
        return row.prompt, row.completion
    return "\n".join([*(text for role, text in row.turns if role != "system"), row.given]), row.completion


def _pieces(problem: Problem) -> list[Words]:
    """The texts of a problem that are long enough to say something: prompt, question without its examples, reference, all."""
    texts = [problem.prompt, problem.reference, f"{problem.prompt}\n{problem.reference}"]
    for found in _DOCSTRING.finditer(problem.prompt):
        texts.append(_EXAMPLES.split(found.group(1) or found.group(2) or "")[0])
    pieces = dict.fromkeys(words_of(text) for text in texts)
    return [words for words in pieces if len(words) >= EXACT_WORDS]
