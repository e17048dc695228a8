"""Metrics of texts against vendi-score and sacrebleu.

vendi-score gives the score of a kernel. The kernel of n-grams is built here as vendi-score's own `ngram_vendi_score` builds it,
with scikit-learn's CountVectorizer; the one of syntax trees is ours, because no library has it.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics.kernels import ast_kernel
from spa_bench.metrics.metric import Samples
from spa_bench.metrics.rarefaction import subsets
from spa_bench.runs.references.part import Comparison, Differences, Part, absent

FloatArray = NDArray[np.float64]
_ORDERS: dict[str, float | str] = {"0.5": 0.5, "1": 1, "2": 2, "inf": "inf"}
"""Of `vendi[...]`. Not 0.1: vendi-score counts rounding noise there, 4.29 for three distinct items of a hundred."""
_TOLERANCE = 1e-6
_WORDS = re.compile(r"\w+|[^\w\s]")


def vendi(part: Part) -> Comparison:
    """Vendi scores of three kernels at four orders."""
    what = "vendi[ngram|ast|embedding, q=0.5|1|2|inf]"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that scipy has moved
            from vendi_score.vendi import score_K
    except ImportError as error:
        return absent(what, "vendi-score", error, "vendi-score")
    found = Differences()
    for place in part.chosen:
        samples = part.samples[place]
        answered = ~np.asarray(samples.failed, dtype=bool)
        for kernel_name, kernel in _kernels(samples, answered):
            for size in part.sizes():
                scores = {order: list[float]() for order in _ORDERS}
                for chosen in _subsets(samples, size):
                    there = chosen[answered[chosen]]
                    for order, q in _ORDERS.items():
                        scores[order].append(_score(score_K, kernel[np.ix_(there, there)], q))
                for order, each in scores.items():
                    metric = f"vendi[{kernel_name},q={order}]"
                    reference = float(np.mean(each)) if each else None
                    found.pair(f"{metric} of {samples.problem} at {size}", part.kept(metric, place, size), reference)
    return found.outcome(what, "vendi-score", tolerance=_TOLERANCE, unit="relative", none="no problem has two answers")


def self_bleu(part: Part) -> Comparison:
    """Self-BLEU."""
    try:
        from sacrebleu import sentence_bleu
    except ImportError as error:
        return absent("self_bleu", "sacrebleu", error, "sacrebleu")
    found = Differences()
    for place in part.chosen:
        samples = part.samples[place]
        for size in part.sizes():
            means = []
            for chosen in _subsets(samples, size):
                texts = [samples.texts[i] for i in chosen if not samples.failed[i]]
                if len(texts) > 1:
                    scores = [sentence_bleu(text, [*texts[:i], *texts[i + 1 :]]).score for i, text in enumerate(texts)]
                    means.append(math.fsum(scores) / len(scores) / 100)
            reference = math.fsum(means) / len(means) if means else None
            found.pair(f"self_bleu of {samples.problem} at {size}", part.kept("self_bleu", place, size), reference)
    return found.outcome("self_bleu", "sacrebleu", tolerance=_TOLERANCE, unit="relative", none="no problem has two answers")


def _subsets(samples: Samples, size: int) -> Iterator[NDArray[np.int64]]:
    """The subsets of `size` over which a run's metrics are means."""
    found = subsets(len(samples.texts), samples.members, size, problem=samples.problem)
    return iter(()) if found is None else iter(found)


def _kernels(samples: Samples, answered: NDArray[np.bool_]) -> Iterator[tuple[str, FloatArray]]:
    """(name, kernel (n, n)) of the samples of one problem; rows of failed ones mean nothing."""
    yield "ngram", _ngrams([text if there else "" for text, there in zip(samples.texts, answered, strict=True)])
    if samples.programs is not None:
        yield "ast", ast_kernel([p if there else "" for p, there in zip(samples.programs, answered, strict=True)])
    if samples.embeddings is not None:
        from sklearn.preprocessing import normalize

        rows = normalize(np.asarray(samples.embeddings, dtype=np.float64))
        yield "embedding", rows @ rows.T


def _ngrams(texts: Sequence[str]) -> FloatArray:
    """The mean over 1- and 2-grams of the cosine of counts; texts too short for any are alike, and like no other."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    kernels = []
    for order in (1, 2):
        counter = CountVectorizer(tokenizer=_WORDS.findall, token_pattern=None, ngram_range=(order, order), lowercase=False)
        try:
            rows = normalize(counter.fit_transform(texts).astype(np.float64)).toarray()
        except ValueError:  # no text has an n-gram: "empty vocabulary"
            rows = np.zeros((len(texts), 1))
        kernel, empty = rows @ rows.T, ~rows.any(axis=1)
        kernel[np.ix_(empty, empty)] = 1.0
        kernels.append(kernel)
    return np.asarray(np.mean(kernels, axis=0), dtype=np.float64)


def _score(score_of_kernel: Callable[[FloatArray, float | str], float], kernel: FloatArray, order: float | str) -> float:
    """vendi-score's number; 0 where nothing was answered, which the library does not know."""
    if not len(kernel):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(score_of_kernel(kernel, order))
