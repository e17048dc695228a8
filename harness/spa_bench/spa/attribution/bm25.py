"""Lexical attribution: BM25 between training pair and query (rank-bm25, its default parameters)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spa_bench.spa.attribution.base import Progress, Setting
from spa_bench.types import Example

_TOKEN = re.compile(r"\w+|[^\w\s]")


def _tokens(example: Example) -> list[str]:
    return _TOKEN.findall(f"{example.prompt} {example.completion}".lower())


class BM25Attributor:
    """BM25+ (Lv and Zhai 2011), the variant whose formula the SPA paper prints; documents are the training pairs."""

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: Path | None = None
    ) -> NDArray[np.float32]:
        """See Attributor.scores; tokens are words and single signs, lowercased."""
        from rank_bm25 import BM25Plus

        index = BM25Plus([_tokens(e) for e in examples])
        columns = []
        for i, query in enumerate(queries):
            columns.append(np.asarray(index.get_scores(_tokens(query)), np.float32))
            progress(i + 1, len(queries))
        return np.stack(columns, axis=1)


def build(setting: Setting) -> BM25Attributor:
    """The attributor; it has no settings and needs no model."""
    return BM25Attributor()
