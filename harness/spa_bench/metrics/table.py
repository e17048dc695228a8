"""The table of built-in metrics, from name to what it computes for one problem.

A metric is one line: a name with its parameters, a description, a function of `Samples`. Metrics of texts that depend on
n are in `texts`; they are computed at several sizes, so that runs with other n can be compared at equal n.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics import texts
from spa_bench.metrics.choices import agreement, best
from spa_bench.metrics.divergence import average_kl, average_kl_symmetric, jeffreys
from spa_bench.metrics.diversity import diversity_score, program_key
from spa_bench.metrics.metric import Metric, Samples, Value, digests
from spa_bench.metrics.pass_at_k import pass_at_k, pass_at_k_members
from spa_bench.metrics.quality import any_of_n, any_of_n_chance, majority_vote

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


def _pair(kind: str, mean: Callable[[NDArray[np.float64]], Value]) -> Callable[[Samples], Value]:
    """The mean over pairs of members of a (K, K) matrix."""

    def compute(s: Samples) -> Value:
        matrix = s.divergence.matrices.get(kind) if s.divergence else None
        return mean(np.array(matrix)) if matrix is not None and len(matrix) > 1 else None

    return compute


def _member(kind: str) -> Callable[[Samples], Value]:
    """The mean over members of one of their numbers."""
    return lambda s: float(np.mean(s.divergence.members[kind])) if s.divergence and kind in s.divergence.members else None


def _overall(kind: str) -> Callable[[Samples], Value]:
    return lambda s: s.divergence.overall.get(kind) if s.divergence else None


def _apart(kind: str, mean: Callable[[NDArray[np.float64]], Value]) -> Callable[[Samples], Value]:
    """The mean over pairs of members of how far apart they are on a multiple-choice problem."""
    return lambda s: mean(np.array(s.preferences.matrices[kind])) if s.preferences and kind in s.preferences.matrices else None


def _each(kind: str) -> Callable[[Samples], Value]:
    """The mean over members of one of their numbers on a multiple-choice problem."""
    return lambda s: float(np.mean(s.preferences.members[kind])) if s.preferences and kind in s.preferences.members else None


def _chosen(s: Samples) -> list[int]:
    """What each member finds most probable of the choices; empty where there are none."""
    return best(np.array(s.preferences.logprobs)[:, : s.choices]) if s.preferences else []


def _where_choices(compute: Callable[[Samples], Value]) -> Callable[[Samples], Value]:
    """`compute` for the problems that have choices; None for the others."""
    return lambda s: compute(s) if s.choices else None


def _right_by_vote(s: Samples) -> Value:
    return majority_vote(digests(s), s.passed) if any(digests(s)) else None


def _trees(s: Samples) -> Value:
    return None if s.programs is None else diversity_score([program_key(p) for p in s.programs], failed=s.failed)


def _noise(s: Samples) -> Value:
    return None if s.noise is None else diversity_score(s.noise)


def _share(values: Sequence[int] | Sequence[bool]) -> Value:
    return float(np.mean(values)) if len(values) else None


UNEQUAL = "the problems have different numbers of samples"
NO_RIGHT = "no right answer: the task's answers are neither right nor wrong"
NO_QUALITY = "no quality is judged (options.quality of the task), or a reply of the judge holds none"
_ONE_SUITE = "the task has one suite of tests"
_TWO = "needs at least two samples a problem"
_ONE_MEMBER = "one member: there is nothing to compare; or no problem fits the context"
_NO_CONTEXT = "not measured: samples from elsewhere, or no problem fits the context"
_NO_BEHAVIOUR = "no behaviour of programs is known here"
_NO_CHOICES = "the task has no choices to guess from"

METRICS: tuple[Metric, ...] = (
    Metric(
        name="pass@1",
        description="share of right answers (accuracy)",
        compute=lambda s: _share(s.passed),
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
        compute=_on_base(lambda s: _share(s.passed)),
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
        compute=_right_by_vote,
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
        missing=_TWO,
    ),
    Metric(
        name="diversity_score[ast]",
        description="the same, programs compared by syntax tree with names normalised",
        compute=_trees,
        rate=True,
        missing=f"{_TWO}, and answers that are programs",
    ),
    Metric(
        name="noise_floor[diversity_score,exact]",
        description="diversity score of one member's same draw in other batches: numerics alone",
        compute=_noise,
        rate=True,
        missing="not measured: float32 on a CPU gives the same bytes in every batch",
    ),
    Metric(
        name="average_kl[i<j]",
        description="mean KL between members, nats a token, over i < j (the paper's; depends on their order)",
        compute=_pair("kl", average_kl),
        alias="average_kl",
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="average_kl[i!=j]",
        description="the same over i != j",
        compute=_pair("kl", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="jeffreys",
        description="KL in both directions added, mean over pairs, nats a token",
        compute=_pair("kl", jeffreys),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="js",
        description="Jensen-Shannon divergence, mean over pairs, nats a token",
        compute=_pair("js", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="js[all]",
        description="Jensen-Shannon divergence of all members together, at most log K",
        compute=_overall("js[all]"),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="tv",
        description="total variation, mean over pairs, 0 to 1",
        compute=_pair("tv", average_kl_symmetric),
        rate=True,
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="renyi[a=0.5]",
        description="Rényi divergence of order 0.5, mean over i != j",
        compute=_pair("renyi[a=0.5]", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="amari[a=0.5]",
        description="α-divergence at 0.5 (4 × squared Hellinger), mean over i != j",
        compute=_pair("amari[a=0.5]", average_kl_symmetric),
        missing=_ONE_MEMBER,
    ),
    Metric(
        name="kl_to_base",
        description="KL from a member to the model without its adapter, nats a token, mean over members",
        compute=_member("kl_to_base"),
        missing="no adapter: the members are the base; or no problem fits the context",
    ),
    Metric(
        name="entropy",
        description="entropy of the next token, nats, mean over members",
        compute=_member("entropy"),
        missing=_NO_CONTEXT,
    ),
    Metric(
        name="entropy[top=20]",
        description="entropy among the 20 likeliest tokens, nats",
        compute=_member("entropy[top=20]"),
        missing=_NO_CONTEXT,
    ),
    Metric(
        name="mass[top=20]",
        description="probability of the 20 likeliest tokens",
        compute=_member("mass[top=20]"),
        rate=True,
        missing=_NO_CONTEXT,
    ),
    Metric(
        name="length",
        description="characters of an answer that was graded",
        compute=lambda s: _share([len(t) for t in s.texts]),
    ),
    Metric(
        name="tokens",
        description="new tokens of an answer",
        compute=lambda s: _share(s.tokens),
        missing="samples from elsewhere",
    ),
    Metric(
        name="tokens[spent]",
        description="tokens drawn for an answer, those thrown away included",
        compute=lambda s: _share(s.spent),
        missing="samples from elsewhere",
    ),
)

_NO_PAIR = "one member: there is nothing to compare; or no problem is multiple choice"
_NO_OPTIONS = "no problem is multiple choice"
CHOICE_METRICS: tuple[Metric, ...] = (
    Metric(
        name="pass@1[mc]",
        description="pass@1 of the problems that have choices",
        compute=_where_choices(lambda s: _share(s.passed)),
        rate=True,
        of_verdicts=True,
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="majority_vote[mc]",
        description="whether the most frequent choice is right, of the problems that have choices",
        compute=_where_choices(_right_by_vote),
        rate=True,
        of_verdicts=True,
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="any_of_n[mc]",
        description="any_of_n of the problems that have choices: the same as those of any_of_n[chance]",
        compute=_where_choices(lambda s: any_of_n(s.passed)),
        rate=True,
        of_verdicts=True,
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="diversity_score[mc]",
        description="diversity score of what is written after the choice, texts compared after stripping",
        compute=_where_choices(lambda s: diversity_score(s.texts, failed=s.failed)),
        rate=True,
        missing=f"{_TWO}, and choices",
    ),
    *(
        metric
        for what, over in (("choices", "over the choices"), ("first", "of the first token after the context"))
        for metric in (
            Metric(
                name=f"kl[{what},i<j]",
                description=f"mean KL between members {over}, nats, over i < j (depends on their order)",
                compute=_apart(f"kl[{what}]", average_kl),
                alias=f"kl[{what}]",
                missing=_NO_PAIR,
            ),
            Metric(
                name=f"kl[{what},i!=j]",
                description="the same over i != j",
                compute=_apart(f"kl[{what}]", average_kl_symmetric),
                missing=_NO_PAIR,
            ),
            Metric(
                name=f"js[{what}]",
                description=f"Jensen-Shannon divergence between members {over}, mean over pairs, nats",
                compute=_apart(f"js[{what}]", average_kl_symmetric),
                missing=_NO_PAIR,
            ),
        )
    ),
    Metric(
        name="entropy[choices]",
        description="entropy over the choices, nats, mean over members",
        compute=_each("entropy[choices]"),
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="entropy[first]",
        description="entropy of the first token after the context, nats, mean over members",
        compute=_each("entropy[first]"),
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="agreement[choices]",
        description="share of pairs of members that find the same choice most probable",
        compute=lambda s: agreement(_chosen(s)),
        rate=True,
        missing=_NO_PAIR,
    ),
    Metric(
        name="distinct[choices]",
        description="different choices that the members find most probable",
        compute=lambda s: float(len(set(_chosen(s)))) if s.preferences else None,
        missing=_NO_OPTIONS,
    ),
)
"""Metrics of multiple choice, which a run has where one of its problems is multiple choice."""


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

READ_TWICE = "kl[noise]"  # in `Divergence.overall`
NOISE_METRICS: tuple[Metric, ...] = (
    Metric(
        name="noise_floor[average_kl]",
        description="KL between one member and itself in another batch, nats a token, on one problem of 32: numerics alone",
        compute=_overall(READ_TWICE),
        missing="no problem was read twice",
    ),
)
"""What numerics alone give in a divergence, which a run has where a member read one of its problems twice."""

DIVERGENCES = frozenset(
    {
        *("average_kl[i<j]", "average_kl[i!=j]", "jeffreys", "js", "js[all]", "tv", "renyi[a=0.5]", "amari[a=0.5]"),
        *("kl_to_base", "entropy", "entropy[top=20]", "mass[top=20]", "noise_floor[average_kl]"),
    }
)
"""Metrics that come from distributions of tokens, which some engines do not give."""

_SIZE = "not a size that the design of the draws can give"
QD = "qd_score[ast]"
AT_SIZES: tuple[texts.TextMetric, ...] = (
    *texts.TEXT_METRICS,
    texts.TextMetric(
        name=QD,
        description="QD-score: best share of probes answered rightly in each syntax tree, summed, / n",
        rate=True,
        missing="the answers are no programs",
    ),
)
"""Metrics that depend on n: tables show them at equal n only."""

OPEN_AT_SIZES: tuple[texts.TextMetric, ...] = (
    texts.TextMetric(
        name="distinct_k[class]",
        description="NoveltyBench's distinct_k: classes of equivalent answers, as the task compares them",
        rate=False,
        missing=_SIZE,
        counts_samples=True,
    ),
    texts.TextMetric(
        name="utility_k[class]",
        description="NoveltyBench's utility_k, 0 to 10: judged quality of each answer of a new class, discounted by patience",
        rate=False,
        missing=NO_QUALITY,
    ),
)
"""The same, of those that depend on n."""
