"""The metrics of a run: one table from name to what it computes for one problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spa_bench.metrics.divergence import average_kl, average_kl_symmetric
from spa_bench.metrics.diversity import distinct_correct, diversity_score, effective_diversity, program_key
from spa_bench.metrics.intervals import estimate
from spa_bench.metrics.pass_at_k import pass_at_k, pass_at_k_members
from spa_bench.metrics.vendi import ngram_kernel, vendi_score
from spa_bench.types import Estimate


@dataclass(frozen=True)
class Samples:
    """All n samples of one problem, in the order (member, draw)."""

    texts: Sequence[str]  # what was graded, stripped
    programs: Sequence[str]  # whole programs
    passed: Sequence[bool]
    members: int  # K; n = r K
    k: int  # the k of pass@K
    kl: np.ndarray | None = None  # (K, K), nats a token


Value = float | None


@dataclass(frozen=True)
class Metric:
    """A metric computed problem by problem."""

    name: str
    description: str
    compute: Callable[[Samples], Value]
    rate: bool = False  # a share between 0 and 1: Wilson's interval at the ends
    alias: str = ""  # the short name that is always there
    missing: str = ""  # why `compute` may give None
    depends_on_n: bool = True  # its expectation changes with n: only computed when all problems have the same n


def _pass_at(samples: Samples, k: int) -> float:
    counts = np.asarray(samples.passed, int).reshape(samples.members, -1)
    if samples.members == 1:
        return float(pass_at_k(counts.sum(1), counts.shape[1], k)[0])
    return float(pass_at_k_members(counts.sum(1)[None], counts.shape[1], k)[0])


def _vendi(samples: Samples) -> Value:
    return vendi_score(ngram_kernel(samples.texts), order=1.0) if len(samples.texts) > 1 else None


_TWO = "needs at least two samples a problem, and as many for every problem"
_EQUAL = "problems have different numbers of samples"
_KL = "one member: there is nothing to compare; or no problem fits the context"

METRICS: tuple[Metric, ...] = (
    Metric("pass@1", "share of right answers", lambda s: float(np.mean(s.passed)), rate=True, depends_on_n=False),
    Metric("pass@K", "chance that one of k answers is right (unbiased; by members when K > 1)", lambda s: _pass_at(s, s.k),
           rate=True,
           depends_on_n=False),
    Metric("diversity_score[exact]", "1 - duplicate pairs / all pairs, texts compared exactly",
           lambda s: diversity_score(s.texts),
           rate=True, alias="diversity_score", missing=_TWO),
    Metric("diversity_score[ast]", "the same, programs compared by syntax tree with names normalised",
           lambda s: diversity_score([program_key(p) for p in s.programs]), rate=True, missing=_TWO),
    Metric("effective_diversity[ast,correct]", "distinct syntax trees among the correct answers, as a share of n",
           lambda s: effective_diversity(s.programs, s.passed), rate=True, alias="effective_diversity", missing=_EQUAL),
    Metric("distinct_correct[ast]", "distinct syntax trees among the correct answers",
           lambda s: float(distinct_correct(s.programs, s.passed)),
           missing=_EQUAL),
    Metric("vendi[ngram,q=1]", "Vendi score: effective number of different texts (1- and 2-grams)",
           _vendi, alias="vendi", missing=_TWO),
    Metric("average_kl[i<j]", "mean KL between members, nats a token, over i < j (the paper's; depends on their order)",
           lambda s: None if s.kl is None else average_kl(s.kl), alias="average_kl", missing=_KL),
    Metric("average_kl[i!=j]", "the same over i != j",
           lambda s: None if s.kl is None else average_kl_symmetric(s.kl), missing=_KL),
)  # fmt: skip


def per_problem(samples: Mapping[str, Samples]) -> dict[str, list[Value]]:
    """Metric name -> one value a problem, in the order of `samples`; None where there is none.

    When problems have different numbers of samples, metrics that depend on n have no values at all.
    """
    equal = len({len(s.texts) for s in samples.values()}) == 1
    return {m.name: [m.compute(s) if equal or not m.depends_on_n else None for s in samples.values()] for m in METRICS}


def estimates(values: Mapping[str, Sequence[Sequence[Value]]]) -> dict[str, Estimate]:
    """Estimates from metric name -> S seeds × P problems, the short aliases included."""
    found: dict[str, Estimate] = {}
    for metric in METRICS:
        table = values.get(metric.name)
        if table is None:
            continue
        scores = np.array([[np.nan if v is None else v for v in row] for row in table], float)
        result = Estimate.missing(metric.missing) if np.isnan(scores).all() else estimate(scores, rate=metric.rate)
        found[metric.name] = result
        if metric.alias:
            found[metric.alias] = result
    return found
