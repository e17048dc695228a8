"""The metrics of a run: readable tables from name to what it computes for one problem.

A metric is one line: a name with its parameters, a description, a function of `Samples`. Metrics of texts that depend on
n are in `texts`; they are computed at several sizes, so that runs with other n can be compared at equal n.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spa_bench.metrics import texts
from spa_bench.metrics.choices import agreement, best
from spa_bench.metrics.divergence import average_kl, average_kl_symmetric, jeffreys
from spa_bench.metrics.diversity import diversity_score, program_key
from spa_bench.metrics.frontier import qd_score
from spa_bench.metrics.intervals import estimate
from spa_bench.metrics.pass_at_k import pass_at_k, pass_at_k_members
from spa_bench.metrics.quality import any_of_n, any_of_n_chance, majority_vote, member_pass_rates
from spa_bench.metrics.rarefaction import has_size, subsets
from spa_bench.types import Behaviour, Choices, Divergence, Estimate

Value = float | None
KS = (*range(2, 11), 16, 20, 25, 32, 50, 64, 100)  # of pass@k
_DIGITS = 10  # significant digits that are kept: the last digits of a float depend on the CPU


@dataclass(frozen=True, kw_only=True)
class Samples:
    """All n samples of one problem, in the order (member, draw)."""

    problem: str
    texts: Sequence[str]  # what was graded, stripped
    programs: Sequence[str] | None  # whole programs; None where the answers are not programs
    passed: Sequence[bool]
    failed: Sequence[bool]  # no answer
    members: int  # K; n = r K
    k: int  # the k of pass@K
    tokens: Sequence[int] = ()
    spent: Sequence[int] = ()  # tokens drawn, those thrown away included
    divergence: Divergence | None = None
    behaviours: Sequence[Behaviour] | None = None
    noise: Sequence[str] | None = None  # the first member's first draw, repeated in other batches
    choices: int | None = None  # of a multiple-choice problem
    embeddings: NDArray[np.floating] | None = None  # (n, d)
    passed_base: Sequence[bool] | None = None  # on the base tests, where the problem has more tests after them
    right: int = 1  # of the choices of a multiple-choice problem, how many are right
    preferences: Choices | None = None  # of a multiple-choice problem: what the members think of its options


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric computed problem by problem."""

    name: str
    description: str
    compute: Callable[[Samples], Value]
    rate: bool = False  # a share between 0 and 1, which gets Wilson's interval at the ends
    alias: str = ""  # a short name, which is always there too
    missing: str = ""  # why `compute` may give None
    bounds: tuple[float, float] | None = None  # limits of values that are not a rate: intervals are cut there


def _pass_at(samples: Samples, k: int) -> Value:
    counts = np.asarray(samples.passed, int).reshape(samples.members, -1)
    if k > (samples.members if samples.members > 1 else counts.shape[1]):
        return None
    if samples.members == 1:
        return float(pass_at_k(counts.sum(1), counts.shape[1], k)[0])
    return float(pass_at_k_members(counts.sum(1)[None], counts.shape[1], k)[0])


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
    return lambda s: mean(np.array(s.preferences.matrices[kind])) if s.preferences else None


def _each(kind: str) -> Callable[[Samples], Value]:
    """The mean over members of one of their numbers on a multiple-choice problem."""
    return lambda s: float(np.mean(s.preferences.members[kind])) if s.preferences else None


def _chosen(s: Samples) -> list[int]:
    """What each member finds most probable of the choices; empty where there are none."""
    return best(np.array(s.preferences.logprobs)[:, : s.choices]) if s.preferences else []


def _where_choices(compute: Callable[[Samples], Value]) -> Callable[[Samples], Value]:
    """`compute` for the problems that have choices; None for the others."""
    return lambda s: compute(s) if s.choices else None


def _right_by_vote(s: Samples) -> Value:
    return majority_vote(_digests(s), s.passed) if any(_digests(s)) else None


def _trees(s: Samples) -> Value:
    return None if s.programs is None else diversity_score([program_key(p) for p in s.programs], failed=s.failed)


def _digests(s: Samples) -> list[str | None]:
    return [b.digest or None for b in s.behaviours or ()]


def _noise(s: Samples) -> Value:
    return None if s.noise is None else diversity_score(s.noise)


def _share(values: Sequence[int] | Sequence[bool]) -> Value:
    return float(np.mean(values)) if len(values) else None


_ONE_SUITE = "the task has one suite of tests"
_TWO = "needs at least two samples a problem"
_ONE_MEMBER = "one member: there is nothing to compare; or no problem fits the context"
_NO_CONTEXT = "not measured: samples from elsewhere, or no problem fits the context"
_NO_BEHAVIOUR = "no behaviour of programs is known here"
_NO_CHOICES = "the task has no choices to guess from"

METRICS: tuple[Metric, ...] = (
    Metric(name="pass@1", description="share of right answers (accuracy)", compute=lambda s: _share(s.passed), rate=True),
    Metric(
        name="pass@K",
        description="chance that one of k answers is right (unbiased; by members when K > 1)",
        compute=lambda s: _pass_at(s, s.k),
        rate=True,
        missing="fewer answers than k",
    ),
    *(
        Metric(
            name=f"pass@{k}",
            description=f"the same for k = {k}",
            compute=functools.partial(_pass_at, k=k),
            rate=True,
            missing=f"fewer than {k} answers a problem, or members when K > 1",
        )
        for k in KS
    ),
    Metric(
        name="pass@1[base]",
        description="pass@1 if the base tests alone counted, from the same verdicts",
        compute=_on_base(lambda s: _share(s.passed)),
        rate=True,
        missing=_ONE_SUITE,
    ),
    Metric(
        name="pass@K[base]",
        description="pass@K on the base tests",
        compute=_on_base(lambda s: _pass_at(s, s.k)),
        rate=True,
        missing=f"{_ONE_SUITE}, or fewer answers than k",
    ),
    *(
        Metric(
            name=f"pass@{k}[base]",
            description=f"pass@{k} on the base tests",
            compute=_on_base(functools.partial(_pass_at, k=k)),
            rate=True,
            missing=f"{_ONE_SUITE}, or fewer than {k} answers a problem, or members when K > 1",
        )
        for k in KS
    ),
    Metric(
        name="any_of_n", description="whether any of the n answers is right", compute=lambda s: any_of_n(s.passed), rate=True
    ),
    Metric(
        name="any_of_n[chance]",
        description="what guessing gets in any-of-n",
        compute=lambda s: any_of_n_chance(len(s.texts), s.choices, s.right),
        rate=True,
        missing=_NO_CHOICES,
    ),
    Metric(
        name="majority_vote[behaviour]",
        description="whether the most frequent behaviour is right, ties at random",
        compute=_right_by_vote,
        rate=True,
        missing=_NO_BEHAVIOUR,
    ),
    Metric(
        name="majority_vote[exact]",
        description="the same for the most frequent text, texts compared after stripping",
        compute=lambda s: majority_vote([None if f else t for t, f in zip(s.texts, s.failed, strict=True)], s.passed),
        rate=True,
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
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="majority_vote[mc]",
        description="whether the most frequent choice is right, of the problems that have choices",
        compute=_where_choices(_right_by_vote),
        rate=True,
        missing=_NO_OPTIONS,
    ),
    Metric(
        name="any_of_n[mc]",
        description="any_of_n of the problems that have choices: the same as those of any_of_n[chance]",
        compute=_where_choices(lambda s: any_of_n(s.passed)),
        rate=True,
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

_READ_TWICE = "kl[noise]"
NOISE_METRICS: tuple[Metric, ...] = (
    Metric(
        name="noise_floor[average_kl]",
        description="KL between one member and itself in another batch, nats a token, on one problem of 32: numerics alone",
        compute=_overall(_READ_TWICE),
        missing="no problem was read twice",
    ),
)
"""What numerics alone give in a divergence, which a run has where a member read one of its problems twice."""

_OF_MEMBER = "pass@1[member="
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

_OF_TEXTS = {m.name for m in AT_SIZES if not m.name.startswith(("effective_", "distinct_correct", "qd_"))} | {
    m.name for m in METRICS if m.name.startswith(("diversity_score[", "length"))
}
"""Metrics of the answers' texts, which have no value where no sample of the whole run has an answer."""

ALIASES = {"effective_diversity": "effective_diversity[ast,correct]", "vendi": "vendi[ngram,q=1]"} | {
    m.alias: m.name for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS) if m.alias
}
RATES = {m.name for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS) if m.rate} | {m.name for m in AT_SIZES if m.rate}
_MISSING = {m.name: m.missing for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS)} | {m.name: m.missing for m in AT_SIZES}
_AT_SIZES = {m.name: m for m in AT_SIZES}
_OURS = {m.name for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS)} | {m.name for m in AT_SIZES}


def sizes_up_to(least: int) -> list[int]:
    """The sizes at which metrics that depend on n are computed: powers of two, and `least`, the fewest samples of a problem."""
    return sorted({2**i for i in range(1, least.bit_length()) if 2**i < least} | {least})


@dataclass(frozen=True)
class MetricValues:
    """Values of all metrics, problem by problem in one order."""

    values: dict[str, list[Value]]  # at all samples; metrics that depend on n at `size`
    at: dict[int, dict[str, list[Value]]]  # smaller sizes -> metrics that depend on n
    size: int  # the fewest samples of a problem


def measure_samples(samples: Sequence[Samples], *, workers: int = 1) -> MetricValues:
    """All metrics of all problems; the same numbers for any number of `workers`."""
    least = min(len(s.texts) for s in samples)
    sizes = sizes_up_to(least)
    tables = texts.text_values_of([_as_texts(s) for s in samples], sizes, workers=workers)
    for row, one in zip(tables, samples, strict=True):
        row[QD] = {size: _qd(one, size) for size in sizes}
    at = {size: {m.name: [_rounded(row[m.name][size]) for row in tables] for m in AT_SIZES} for size in sizes}
    values = {m.name: [_rounded(m.compute(s)) for s in samples] for m in METRICS}
    if any(s.preferences for s in samples):
        values |= {m.name: [_rounded(m.compute(s)) for s in samples] for m in CHOICE_METRICS}
    if any(s.divergence and _READ_TWICE in s.divergence.overall for s in samples):
        values |= {m.name: [_rounded(m.compute(s)) for s in samples] for m in NOISE_METRICS}
    values |= _by_member(samples)
    values |= at.pop(least)
    if all(all(s.failed) for s in samples):  # where the run has an answer, a problem without any counts as without diversity
        for table in (values, *at.values()):
            table |= {name: [None] * len(samples) for name in table if name in _OF_TEXTS}
    return MetricValues(values, at, least)


def is_rate(name: str) -> bool:
    """Whether every value of the metric lies between 0 and 1."""
    return name in RATES or name.startswith(_OF_MEMBER)


def names() -> set[str]:
    """The names of all built-in metrics, short names included; those of single members are in no list."""
    return _OURS | set(ALIASES)


def known(name: str) -> bool:
    """Whether `name` is a built-in metric, or the short name of one."""
    return name in names() or (name.startswith(_OF_MEMBER) and name[len(_OF_MEMBER) : -1].isdecimal())


def value_bounds(name: str, size: float = math.inf) -> tuple[float, float] | None:
    """(least, most) of the values that a built-in metric can have at `size` samples; None for another metric.

    The least Vendi score is 1 with answers and 0 without any; the result has 1.
    """
    name = ALIASES.get(name, name)
    if is_rate(name):
        return 0.0, 1.0
    if name in _AT_SIZES:
        metric = _AT_SIZES[name]
        return metric.least, size if metric.counts_samples else math.inf
    return (0.0, math.inf) if name in _OURS else None  # divergences, entropies and lengths are never below 0


def estimates(
    values: Mapping[str, Sequence[Sequence[Value]]], own: Sequence[Metric] = (), *, size: float = math.inf
) -> dict[str, Estimate]:
    """Estimates from metric name -> S seeds × P problems, the short aliases included; `own` are the user's metrics.

    Intervals are cut at the limits of the values. `size` is the number of samples behind each value, which a Vendi score does
    not exceed.
    """
    rates, absent = RATES | {m.name for m in own if m.rate}, _MISSING | {m.name: m.missing for m in own}
    limits = {m.name: m.bounds for m in own}
    by_name: dict[str, Estimate] = {}
    for name, table in values.items():
        scores = np.array([[np.nan if v is None else v for v in row] for row in table], float)
        if np.isnan(scores).all():
            by_name[name] = Estimate.missing(absent.get(name) or "no value")
            if name in _OF_TEXTS:
                by_name[name] = replace(by_name[name], reason=f"{by_name[name].reason}; or no sample has an answer")
        else:
            bounds = limits.get(name) or value_bounds(name, size)
            if bounds is not None and (scores < bounds[0]).any():
                bounds = (min(0.0, bounds[0]), bounds[1])  # a Vendi score where nothing was answered
            by_name[name] = estimate(scores, rate=name in rates or is_rate(name), bounds=bounds)
    return by_name | {alias: by_name[name] for alias, name in ALIASES.items() if name in by_name}


def _by_member(samples: Sequence[Samples]) -> dict[str, list[Value]]:
    """pass@1 of each member, where there are several."""
    members = samples[0].members
    if members == 1:
        return {}
    rates = [member_pass_rates(s.passed, members) for s in samples]
    return {f"{_OF_MEMBER}{m}]": [_rounded(float(rate[m])) for rate in rates] for m in range(members)}


def _as_texts(s: Samples) -> texts.TextSamples:
    digests = None if s.behaviours is None or not any(_digests(s)) else [b.digest for b in s.behaviours]
    ran = None if digests is None or s.behaviours is None else [b.ran for b in s.behaviours]
    return texts.TextSamples(
        problem=s.problem,
        texts=s.texts,
        programs=s.programs,
        passed=s.passed,
        failed=s.failed,
        members=s.members,
        behaviours=digests,
        ran=ran,
        embeddings=s.embeddings,
    )


def _qd(s: Samples, size: int) -> Value:
    """QD-score at `size`: the niche is the syntax tree; the fitness is 1 for a right answer, else its share of right probes."""
    if s.programs is None or not has_size(len(s.texts), s.members, size):
        return None
    shares = [b.right / b.probes if b.probes else 0.0 for b in s.behaviours] if s.behaviours else [0.0] * len(s.texts)
    # a wrong answer scores below a right one even when the few probes do not show what is wrong
    fitness = [1.0 if good else min(share, 0.99) for good, share in zip(s.passed, shares, strict=True)]
    niches = [None if f else program_key(p) for p, f in zip(s.programs, s.failed, strict=True)]
    chosen = subsets(len(s.texts), s.members, size, problem=s.problem)
    assert chosen is not None
    return float(np.mean([qd_score([niches[i] for i in c], [fitness[i] for i in c]) for c in chosen]))


def _rounded(value: Value) -> Value:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
