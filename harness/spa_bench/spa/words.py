"""The words that set each part apart: log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

MEASURE = "z of the log-odds against all other parts, Dirichlet prior (Monroe et al. 2008)"
_WORD = re.compile(r"[^\W\d]\w+")


def top_words(texts: Sequence[str], labels: Sequence[int], k: int, count: int) -> list[list[tuple[str, float]]]:
    """Up to `count` words of each of k parts with their z, the most distinctive first; a part may have none.

    For word w with y of n words in the part, y' of n' in the others and prior a = y + y', A = n + n' (the whole corpus): d =
    ln((y + a) / (n + A - y - a)) - ln((y' + a) / (n' + A - y' - a)), and z = d / sqrt(1 / (y + a) + 1 / (y' + a)). Words with
    z > 0 are kept; words of equal z are in alphabetical order. Words have two letters, digits or underscores at least and do
    not begin with a digit; case does not count.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        model = CountVectorizer(analyzer=_words)
        counts = model.fit_transform(texts)
    except ValueError:  # no text has a word
        return [[] for _ in range(k)]
    names = model.get_feature_names_out()
    of_label = np.asarray(labels)
    table = np.stack([np.asarray(counts[of_label == part].sum(0), np.float64).ravel() for part in range(k)])
    prior = table.sum(0)
    words_of_parts = []
    for part in range(k):
        z = _z(table[part], prior - table[part], prior)
        best = np.argsort(-z, kind="stable")[:count]
        words_of_parts.append([(str(names[i]), float(z[i])) for i in best if z[i] > 1e-9])
    return words_of_parts


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _z(here: np.ndarray, there: np.ndarray, prior: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # a corpus of one word has no odds
        odds = [np.log((y + prior) / (y.sum() + prior.sum() - y - prior)) for y in (here, there)]
        z = (odds[0] - odds[1]) / np.sqrt(1 / (here + prior) + 1 / (there + prior))
    return np.nan_to_num(np.asarray(z, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
