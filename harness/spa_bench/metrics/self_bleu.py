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
    """The n-gram counts of the texts of one problem, from which the self-BLEU of any of its subsets follows."""

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
        for order, one in enumerate(count_ngrams(tokens, range(1, MAX_ORDER + 1))):
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
        if len(chosen) < 2:
            return None
        copies = np.bincount(self.place[chosen], minlength=len(self.lengths))
        return float(self._scores(copies) @ copies / len(chosen))

    def _scores(self, copies: IntArray) -> FloatArray:
        """BLEU / 100 of each distinct text against the others, (U,), where text u occurs copies[u] times; 0 where absent."""
        matches = self._matches(copies)
        totals = np.maximum(self.lengths[:, None] - np.arange(MAX_ORDER), 0)
        real = totals > 0
        # Smoothing exp: the j-th order without a match counts as 1 / 2**j of a match.
        misses = np.cumsum(real & (matches == 0), axis=1)
        smoothed = np.where(matches > 0, matches, 0.5**misses)
        logs = np.where(real, np.log(np.where(real, smoothed / np.maximum(totals, 1), 1.0)), 0.0)
        effective = np.maximum(real.sum(axis=1), 1)
        closest = self._closest_lengths(copies)
        penalty = np.exp(np.minimum(1.0 - closest / np.maximum(self.lengths, 1), 0.0))
        scores = penalty * np.exp(logs.sum(axis=1) / effective)
        return np.where((matches.sum(axis=1) > 0) & (copies > 0), scores, 0.0)

    def _matches(self, copies: IntArray) -> FloatArray:
        """The number of each text's n-grams that the others have too, (U, 4); an n-gram counts as often as one other has it."""
        there = np.flatnonzero((copies > 0)[self.rows])  # places rather than a mask, because most subsets are small
        grams, counts, rows = self.grams[there], self.counts[there], self.rows[there]
        again = grams[1:] == grams[:-1]  # whether entry i + 1 is of the same n-gram as entry i
        starts = np.flatnonzero(np.append(True, ~again)[: len(grams)])
        # Entries of an n-gram run from the largest count down: for the first one the largest among the others is
        # the second entry, or 0 if there is none; for all others the first.
        others = np.repeat(counts[starts], np.diff(np.append(starts, len(grams))))
        others[starts] = np.where(np.append(again, False)[starts], np.append(counts[1:], 0)[starts], 0)
        # A text with a copy of itself among the others matches in full.
        matched = np.where(copies[rows] > 1, counts, np.minimum(counts, others))
        sums = np.bincount(self.slots[there], weights=matched, minlength=len(self.lengths) * MAX_ORDER)
        return np.asarray(sums.reshape(-1, MAX_ORDER), dtype=np.float64)

    def _closest_lengths(self, copies: IntArray) -> FloatArray:
        """The length among the others that is closest to each text's own, (U,); of two equally close lengths the shorter."""
        there = np.flatnonzero(copies)
        gaps = np.abs(self.lengths[:, None] - self.lengths[there]).astype(np.float64)
        gaps[there, np.arange(len(there))] = np.where(copies[there] > 1, 0.0, np.inf)
        nearest = gaps.min(axis=1)
        candidates = np.where(gaps == nearest[:, None], self.lengths[there].astype(np.float64), np.inf)
        return np.asarray(candidates.min(axis=1), dtype=np.float64)
