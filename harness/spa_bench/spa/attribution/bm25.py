"""Lexical attribution: BM25 between training pair and query (rank-bm25, its default parameters)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spa_bench.spa.attribution.base import AttributionSetting, Progress
from spa_bench.spa.encoders import check_texts, text_of, tokens
from spa_bench.types import Example


class BM25Attributor:
    """BM25 scores, where documents and queries are pairs and tokens are lowercased words and single signs.

    plus: BM25+ (Lv and Zhai 2011), the variant whose formula the SPA paper prints: k1 = 1.5, b = 0.75, delta = 1.
    okapi: the same without delta, and with rank-bm25's floor under the weights of words of more than half of all pairs (a
    quarter of the mean weight), which would be negative.
    """

    def __init__(self, variant: str):
        self._variant = variant

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: Path | None = None
    ) -> NDArray[np.float32]:
        """See Attributor.scores. Raises DataError for an example or query without a word or sign."""
        from rank_bm25 import BM25Okapi, BM25Plus

        documents, query_texts = ([text_of(e) for e in pairs] for pairs in (examples, queries))
        check_texts(documents, "example")
        check_texts(query_texts, "query")
        index = {"plus": BM25Plus, "okapi": BM25Okapi}[self._variant]([tokens(d) for d in documents])
        columns = []
        for i, query in enumerate(query_texts):
            columns.append(np.asarray(index.get_scores(tokens(query)), np.float32))
            progress(i + 1, len(queries))
        return np.stack(columns, axis=1)


def build(setting: AttributionSetting) -> BM25Attributor:
    """The attributor; it takes the variant from the card and needs neither the model nor a seed."""
    return BM25Attributor(setting.card.variant)
