"""Self-BLEU: how much each sample repeats the others; higher is less diverse.

Zhu et al. 2018 (Texygen, arXiv 1802.01886): the mean over samples of the BLEU of each against all others as references.
BLEU is sacrebleu's `sentence_bleu` with its defaults: tokenizer 13a, orders 1 to 4, smoothing exp, effective order. This
implementation counts n-grams once a sample instead of once a pair: the two largest counts of an n-gram give the largest count
among the *others*. 13a is made for news text; on code it splits at most operators and keeps `_` and `.` in names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from spa_bench.metrics.chosen import Chosen, entries_of, firsts, shared
from spa_bench.metrics.ngrams import FloatArray, IntArray, count_ngrams

MAX_ORDER = 4
_TOKENIZER = Tokenizer13a()  # type: ignore[no-untyped-call]  # one: each keeps texts that it has seen


def self_bleu(texts: Sequence[str]) -> float | None:
    """The mean over the texts of BLEU(text, all other texts) / 100, in [0, 1]; None with fewer than 2 texts.

    Equal to the mean of `sacrebleu.sentence_bleu(text, others).score / 100` (to 1e-9). A text without tokens scores 0,
    also against other such texts, so n empty answers score 0 although they are equal. The value falls with smaller n, because
    there are fewer references: compare at equal n.
    """
    if len(texts) < 2:
        return None
    return SelfBleu.of(texts).mean(np.arange(len(texts)))


@dataclass(frozen=True, kw_only=True)
class SelfBleu:
    """The n-gram counts of the texts of one problem, from which the self-BLEU of any of its subsets follows.

    The entries are of n-grams that several distinct texts have. Any other matches nothing, unless the text has a copy, and a
    text with a copy among the others matches in full.
    """

    place: IntArray  # (n,) the distinct text that each text equals
    lengths: IntArray  # (U,) tokens of each distinct text
    rows: IntArray  # (E,) distinct text of each entry; entries sorted by n-gram, then from the largest count down
    grams: IntArray  # (E,) n-gram of each entry, all orders numbered together
    counts: IntArray  # (E,)
    slots: IntArray  # (E,) row * 4 + order - 1

    @classmethod
    def of(cls, texts: Sequence[str]) -> SelfBleu:
        """Count the n-grams of orders 1 to 4 once; equal texts are counted together."""
        distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        tokens = [_TOKENIZER(text.rstrip()).split() for text in distinct]
        rows, grams, counts, slots, so_far = [], [], [], [], 0
        for order, one in enumerate(map(shared, count_ngrams(tokens, range(1, MAX_ORDER + 1)))):
            rows.append(one.rows)
            grams.append(one.kinds + so_far)
            counts.append(one.counts)
            slots.append(one.rows * MAX_ORDER + order)
            so_far += int(one.kinds[-1]) + 1 if len(one.kinds) else 0
        lengths = np.array([len(row) for row in tokens], dtype=np.int64)
        place = np.array([distinct[text] for text in texts], dtype=np.int64)
        return cls(
            place=place,
            lengths=lengths,
            rows=np.concatenate(rows),
            grams=np.concatenate(grams),
            counts=np.concatenate(counts),
            slots=np.concatenate(slots),
        )

    def mean(self, chosen: IntArray) -> float | None:
        """The self-BLEU of the texts at these places (no place twice), in [0, 1]; None for fewer than 2."""
        return float(self.means(Chosen.of([chosen]))[0]) if len(chosen) > 1 else None

    def means(self, chosen: Chosen) -> FloatArray:
        """The self-BLEU of each subset, (S,); NaN for fewer than 2 texts."""
        scores = np.zeros(len(chosen.places))
        for span, part in chosen.parts(len(self.rows) + len(self.lengths) * MAX_ORDER):
            scores[span] = self._scores(part)
        sizes = chosen.sizes()
        sums = np.bincount(chosen.owner, weights=scores, minlength=chosen.count)
        return np.where(sizes > 1, sums / np.maximum(sizes, 1), np.nan)

    def _scores(self, chosen: Chosen) -> FloatArray:
        """BLEU / 100 of the text at each place against the others of its subset, (P,)."""
        texts = self.place[chosen.places]
        lengths = self.lengths[texts]
        totals = np.maximum(lengths[:, None] - np.arange(MAX_ORDER), 0)
        matches = self._matches(chosen.owner, texts, totals, chosen.count)
        real = totals > 0
        # Smoothing exp: the j-th order without a match counts as 1 / 2**j of a match.
        misses = np.cumsum(real & (matches == 0), axis=1)
        smoothed = np.where(matches > 0, matches, 0.5**misses)
        logs = np.log(np.where(real, smoothed / np.maximum(totals, 1), 1.0))
        effective = np.maximum(real.sum(axis=1), 1)
        penalty = np.exp(np.minimum(1.0 - _closest(chosen.owner, lengths) / np.maximum(lengths, 1), 0.0))
        return np.where(matches.any(axis=1), penalty * np.exp(logs.sum(axis=1) / effective), 0.0)

    def _matches(self, owner: IntArray, texts: IntArray, totals: IntArray, subsets: int) -> FloatArray:
        """The number of each text's n-grams that the others have too, (P, 4); an n-gram counts as often as one other has it."""
        distinct = len(self.lengths)
        copies = np.bincount(owner * distinct + texts, minlength=subsets * distinct)
        subset, there = entries_of(self.rows, copies.reshape(subsets, distinct) > 0)
        grams, counts = subset * len(self.grams) + self.grams[there], self.counts[there]
        starts = np.flatnonzero(firsts(grams))
        sizes = np.diff(np.append(starts, len(grams)))
        # Entries of an n-gram run from the largest count down: for the first one the largest among the others is
        # the second entry, or 0 if there is none; for all others the first.
        others = np.repeat(counts[starts], sizes)
        others[starts] = np.where(sizes > 1, np.append(counts[1:], 0)[starts], 0)
        slots = subset * (distinct * MAX_ORDER) + self.slots[there]
        sums = np.bincount(slots, weights=np.minimum(counts, others), minlength=subsets * distinct * MAX_ORDER)
        mine = owner * distinct + texts
        return np.where(copies[mine, None] > 1, totals, sums.reshape(-1, MAX_ORDER)[mine])


def _closest(owner: IntArray, lengths: IntArray) -> FloatArray:
    """The length among the others of the same owner that is closest to each, (P,); of two equally close ones the shorter."""
    order = np.lexsort((lengths, owner))
    ascending, owners = lengths[order].astype(np.float64), owner[order]
    gaps = np.where(owners[1:] == owners[:-1], np.diff(ascending), np.inf)
    before, after = np.full((2, len(order)), np.inf)
    before[1:], after[:-1] = gaps, gaps
    closest = np.empty(len(order))
    closest[order] = ascending + np.where(before <= after, -before, after)
    return closest
