"""Attribution by embeddings: the cosine of example and query.

The cosine measures likeness, not influence: it shows what a pair is about, not the effect of training on it. It gives no
negative evidence either: with TF-IDF no score is below 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spa_bench.spa import encoders
from spa_bench.spa.attribution.base import AttributionSetting, Progress
from spa_bench.types import Example


class EmbeddingAttributor:
    """Cosine similarity of vectors from the encoder of that name: see spa_bench.spa.encoders."""

    def __init__(self, encoder: str):
        self._encoder = encoder

    def scores(
        self, examples: Sequence[Example], queries: Sequence[Example], *, progress: Progress, kept: Path | None = None
    ) -> NDArray[np.float32]:
        """See Attributor.scores; in [-1, 1]. A query that shares no word with any example scores 0 under TF-IDF.

        Raises DataError for an example or query without a word or sign.
        """
        texts, query_texts = ([encoders.text_of(e) for e in pairs] for pairs in (examples, queries))
        ours, theirs = encoders.encode(self._encoder, texts, query_texts, progress=progress)
        cosines = ours @ theirs.T
        return np.asarray(cosines.toarray() if hasattr(cosines, "toarray") else cosines, np.float32)


def build(setting: AttributionSetting) -> EmbeddingAttributor:
    """The attributor; it takes the encoder from the card and needs neither the model nor a seed."""
    return EmbeddingAttributor(setting.card.encoder)
