"""The table of built-in metrics, from name to what it computes for one problem.

A metric is one line: a name with its parameters, a description, a function of `Samples`. Metrics of texts that depend on
n are in `text_table`; they are computed at several sizes, so that runs with other n can be compared at equal n.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spa_bench.metrics.distribution_table import DISTRIBUTION_METRICS
from spa_bench.metrics.diversity import diversity_score, program_key
from spa_bench.metrics.metric import Metric, Samples, Value, digests, share
from spa_bench.metrics.pass_at_k import pass_at_k, pass_at_k_members
from spa_bench.metrics.quality import any_of_n, any_of_n_chance, majority_vote
from spa_bench.metrics.text_table import TEXT_METRICS, TextMetric

KS = (*range(2, 11), 16, 20, 25, 32, 50, 64, 100)  # of pass@k


def _pass_at(samples: Samples, k: int) -> Value:
    counts = np.asarray(samples.passed, int).reshape(samples.members, -1)
    if k > (samples.members if samples.members > 1 else counts.shape[1]):
        return None
    if samples.members == 1:
        return _pass_of(int(counts.sum()), counts.shape[1], k)
    return float(pass_at_k_members(counts.sum(1)[None], counts.shape[1], k)[0])


@functools.lru_cache(maxsize=4096)
def _pass_of(correct: int, draws: int, k: int) -> float:
    """pass@k of one problem: there are few different ones in a run."""
    return float(pass_at_k([correct], draws, k)[0])


def _on_base(compute: Callable[[Samples], Value]) -> Callable[[Samples], Value]:
    """`compute` as if the base tests were the only tests."""
    return lambda s: None if s.passed_base is None else compute(replace(s, passed=s.passed_base))


def right_by_vote(s: Samples) -> Value:
    """Whether the most frequent behaviour, or choice, is right."""
    return majority_vote(digests(s), s.passed) if any(digests(s)) else None


def _trees(s: Samples) -> Value:
    return None if s.programs is None else diversity_score([program_key(p) for p in s.programs], failed=s.failed)


def _noise(s: Samples) -> Value:
    return None if s.noise is None else diversity_score(s.noise)


UNEQUAL = "the problems have different numbers of samples"
NO_RIGHT = "no right answer: the task's answers are neither right nor wrong"
NO_QUALITY = "no quality is judged (options.quality of the task), or a reply of the judge holds none"
_ONE_SUITE = "the task has one suite of tests"
TWO = "needs at least two samples a problem"
_NO_BEHAVIOUR = "no behaviour of programs is known here"
_NO_CHOICES = "the task has no choices to guess from"

METRICS: tuple[Metric, ...] = (
    Metric(
        name="pass@1",
        description="share of right answers (accuracy)",
        compute=lambda s: share(s.passed),
        rate=True,
        of_verdicts=True,
        missing=NO_RIGHT,
    ),
    Metric(
        name="pass@K",
        description="chance that one of k answers is right (unbiased; by members when K > 1)",
        compute=lambda s: _pass_at(s, s.k),
        rate=True,
        of_verdicts=True,
        missing="fewer answers than k",
    ),
    *(
        Metric(
            name=f"pass@{k}",
            description=f"the same for k = {k}",
            compute=functools.partial(_pass_at, k=k),
            rate=True,
            of_verdicts=True,
            missing=f"fewer than {k} answers a problem, or members when K > 1",
        )
        for k in KS
    ),
    Metric(
        name="pass@1[base]",
        description="pass@1 if the base tests alone counted, from the same verdicts",
        compute=_on_base(lambda s: share(s.passed)),
        rate=True,
        of_verdicts=True,
        missing=_ONE_SUITE,
    ),
    Metric(
        name="pass@K[base]",
        description="pass@K on the base tests",
        compute=_on_base(lambda s: _pass_at(s, s.k)),
        rate=True,
        of_verdicts=True,
        missing=f"{_ONE_SUITE}, or fewer answers than k",
    ),
    *(
        Metric(
            name=f"pass@{k}[base]",
            description=f"pass@{k} on the base tests",
            compute=_on_base(functools.partial(_pass_at, k=k)),
            rate=True,
            of_verdicts=True,
            missing=f"{_ONE_SUITE}, or fewer than {k} answers a problem, or members when K > 1",
        )
        for k in KS
    ),
    Metric(
        name="any_of_n",
        description="whether any of the n answers is right",
        compute=lambda s: any_of_n(s.passed),
        rate=True,
        of_verdicts=True,
        missing=UNEQUAL,
    ),
    Metric(
        name="any_of_n[chance]",
        description="what guessing gets in any-of-n",
        compute=lambda s: any_of_n_chance(len(s.texts), s.choices, s.right),
        rate=True,
        of_verdicts=True,
        missing=_NO_CHOICES,
    ),
    Metric(
        name="majority_vote[behaviour]",
        description="whether the most frequent behaviour is right, ties at random",
        compute=right_by_vote,
        rate=True,
        of_verdicts=True,
        missing=_NO_BEHAVIOUR,
    ),
    Metric(
        name="majority_vote[exact]",
        description="the same for the most frequent text, texts compared after stripping",
        compute=lambda s: majority_vote([None if f else t for t, f in zip(s.texts, s.failed, strict=True)], s.passed),
        rate=True,
        of_verdicts=True,
        missing=UNEQUAL,
    ),
    Metric(
        name="diversity_score[exact]",
        description="1 - duplicate pairs / all pairs, texts compared after stripping",
        compute=lambda s: diversity_score(s.texts, failed=s.failed),
        rate=True,
        alias="diversity_score",
        missing=TWO,
    ),
    Metric(
        name="diversity_score[ast]",
        description="the same, programs compared by syntax tree with names normalised",
        compute=_trees,
        rate=True,
        missing=f"{TWO}, and answers that are programs",
    ),
    Metric(
        name="noise_floor[diversity_score,exact]",
        description="diversity score of one member's same draw in other batches: numerics alone",
        compute=_noise,
        rate=True,
        missing="not measured: float32 on a CPU gives the same bytes in every batch",
    ),
    *DISTRIBUTION_METRICS,
    Metric(
        name="length",
        description="characters of an answer that was graded",
        compute=lambda s: share([len(t) for t in s.texts]),
    ),
    Metric(
        name="tokens",
        description="new tokens of an answer",
        compute=lambda s: share(s.tokens),
        missing="samples from elsewhere",
    ),
    Metric(
        name="tokens[spent]",
        description="tokens drawn for an answer, those thrown away included",
        compute=lambda s: share(s.spent),
        missing="samples from elsewhere",
    ),
)


def _mean_quality(s: Samples) -> Value:
    """The mean over answers that have a text; None where the quality of one of them is not known."""
    if not s.qualities or s.behaviours is None:
        return None
    known = [q for q, behaviour in zip(s.qualities, s.behaviours, strict=True) if behaviour.digest]
    there = [q for q in known if q is not None]
    return float(np.mean(there)) if there and len(there) == len(known) else None


OPEN_METRICS: tuple[Metric, ...] = (
    Metric(
        name="quality[judged]",
        description="judged quality of an answer, 1 to 10, mean over the answers that have a text",
        compute=_mean_quality,
        missing=NO_QUALITY,
        bounds=(1.0, 10.0),
    ),
)
"""Metrics of answers that are neither right nor wrong, which a run has where a problem has no right answer."""

_SIZE = "not a size that the design of the draws can give"
QD = "qd_score[ast]"
AT_SIZES: tuple[TextMetric, ...] = (
    *TEXT_METRICS,
    TextMetric(
        name=QD,
        description="QD-score: best share of probes answered rightly in each syntax tree, summed, / n",
        rate=True,
        missing="the answers are no programs",
    ),
)
"""Metrics that depend on n: tables show them at equal n only."""

OPEN_AT_SIZES: tuple[TextMetric, ...] = (
    TextMetric(
        name="distinct_k[class]",
        description="NoveltyBench's distinct_k: classes of equivalent answers, as the task compares them",
        rate=False,
        missing=f"{_SIZE}, or the task puts its answers into no classes",
        counts_samples=True,
    ),
    TextMetric(
        name="utility_k[class]",
        description="NoveltyBench's utility_k, 0 to 10: judged quality of each answer of a new class, discounted by patience",
        rate=False,
        missing=NO_QUALITY,
    ),
)
"""The same, of those that depend on n."""
