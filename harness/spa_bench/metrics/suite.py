"""The metrics of a run: every metric of `table` for every problem, then one estimate a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spa_bench.metrics import texts
from spa_bench.metrics.choice_table import CHOICE_METRICS
from spa_bench.metrics.distribution_table import NOISE_METRICS, READ_TWICE
from spa_bench.metrics.diversity import program_key
from spa_bench.metrics.frontier import qd_score
from spa_bench.metrics.intervals import estimate
from spa_bench.metrics.metric import Metric, Samples, Value, digests
from spa_bench.metrics.missing import with_nan
from spa_bench.metrics.open_ended import MOST_QUALITY, open_values
from spa_bench.metrics.quality import member_pass_rates
from spa_bench.metrics.rarefaction import has_size, subsets
from spa_bench.metrics.table import (
    AT_SIZES,
    METRICS,
    NO_RIGHT,
    OPEN_AT_SIZES,
    OPEN_METRICS,
    QD,
    UNEQUAL,
)
from spa_bench.types import Estimate

# metrics of a user's own are written with these
__all__ = [
    "ALIASES", "AT_SIZES", "CHOICE_METRICS", "METRICS", "NOISE_METRICS", "OPEN_AT_SIZES", "OPEN_METRICS", "QD", "RATES",
    "Metric", "MetricValues", "Samples", "Value",
    "estimates", "is_rate", "known", "measure_samples", "names", "sizes_up_to", "value_bounds",
]  # fmt: skip

_OF_SEVERAL = ("pass@", "diversity_score[")  # metrics that need several samples of a problem
_OF_ALL = ("any_of_n", "majority_vote[")  # metrics of all samples of a problem together
_DIGITS = 10  # significant digits that are kept: the last digits of a float depend on the CPU
_OF_MEMBER = "pass@1[member="
_OF_TEXTS = {m.name for m in AT_SIZES if not m.name.startswith(("effective_", "distinct_correct", "qd_"))} | {
    m.name for m in METRICS if m.name.startswith(("diversity_score[", "length"))
}
"""Metrics of the answers' texts, which have no value where no sample of the whole run has an answer."""

_OF_SAMPLES = (*METRICS, *CHOICE_METRICS, *NOISE_METRICS, *OPEN_METRICS)
_AT_SIZES = {m.name: m for m in (*AT_SIZES, *OPEN_AT_SIZES)}
ALIASES = {
    "effective_diversity": "effective_diversity[ast,correct]",
    "vendi": "vendi[ngram,q=1]",
    "distinct_k": "distinct_k[class]",
    "utility_k": "utility_k[class]",
} | {m.alias: m.name for m in _OF_SAMPLES if m.alias}
RATES = {m.name for m in _OF_SAMPLES if m.rate} | {m.name for m in _AT_SIZES.values() if m.rate}
_MISSING = {m.name: m.missing for m in _OF_SAMPLES} | {m.name: m.missing for m in _AT_SIZES.values()}
_OURS = {m.name for m in _OF_SAMPLES} | set(_AT_SIZES)
_OF_VERDICTS = {m.name for m in _OF_SAMPLES if m.of_verdicts}
_OF_VERDICTS |= {"utility_k[ast]", "effective_diversity[ast,correct]", "distinct_correct[ast]", QD}
"""Metrics that count right answers."""
_OF_CHOICES = {"majority_vote[mc]"}
_OF_BEHAVIOURS = {
    "majority_vote[behaviour]", "distinct_k[behaviour]", "effective_diversity[behaviour,ran]", *_OF_CHOICES
}  # fmt: skip
"""Metrics of what answers do, of which nothing is known for a problem without any answer."""


def depends_on_n(name: str) -> bool:
    """Whether a metric of ours depends on the number of a problem's samples, so that it is computed at smaller numbers too."""
    return name in _AT_SIZES


def is_of_all(name: str) -> bool:
    """Whether a metric is of all samples of a problem together, and is computed at their number alone."""
    return name.startswith(_OF_ALL)


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
    at: dict[int, dict[str, list[Value]]] = {size: {m.name: [] for m in AT_SIZES} for size in sizes}
    for one, row in zip(samples, texts.each_text_values([_as_texts(s) for s in samples], sizes, workers=workers), strict=True):
        row[QD] = {size: _qd(one, size) for size in sizes}
        for size, columns in at.items():
            for name, column in columns.items():
                column.append(_rounded(row[name][size]))
    _open(samples, at)
    metrics = [*METRICS]
    metrics += CHOICE_METRICS if any(s.preferences for s in samples) else ()
    metrics += NOISE_METRICS if any(s.divergence and READ_TWICE in s.divergence.overall for s in samples) else ()
    metrics += OPEN_METRICS if not all(s.judged for s in samples) else ()
    values = {m.name: [_rounded(m.compute(s)) for s in samples] for m in metrics}
    _only_of_all(values, [len(s.texts) for s in samples])
    values |= _by_member(samples)
    values |= at.pop(least)
    for table in (values, *at.values()):
        _only_judged(table, samples)
        _unanswered(table, samples)
    if all(all(s.failed) for s in samples):  # where the run has an answer, a problem without any counts as without diversity
        for table in (values, *at.values()):
            table |= {name: [None] * len(samples) for name in table if name in _OF_TEXTS}
    return MetricValues(values, at, least)


def _open(samples: Sequence[Samples], at: dict[int, dict[str, list[Value]]]) -> None:
    """Add the columns of metrics of problems without a right answer, where there is one."""
    if all(s.judged for s in samples):
        return
    rows = [open_values(s, list(at)) for s in samples]
    for size, columns in at.items():
        columns |= {m.name: [_rounded(row[m.name][size]) for row in rows] for m in OPEN_AT_SIZES}


def _only_judged(values: dict[str, list[Value]], samples: Sequence[Samples]) -> None:
    """Take away the values that count right answers, where a problem has no right answer."""
    for name in values.keys() & _OF_VERDICTS:
        values[name] = [value if s.judged else None for value, s in zip(values[name], samples, strict=True)]


def _unanswered(values: dict[str, list[Value]], samples: Sequence[Samples]) -> None:
    """Give 0 to problems without any answer where others have behaviours: nothing voted there, and nothing ran.

    Of a problem alone it is not known whether its behaviours are unknown or not there. Without a value it would be left out of
    the mean, which would be one over other problems than that of pass@1.
    """
    for name in values.keys() & _OF_BEHAVIOURS:
        if any(value is not None for value in values[name]):
            values[name] = [
                0.0 if value is None and s.judged and all(s.failed) and (s.choices or name not in _OF_CHOICES) else value
                for value, s in zip(values[name], samples, strict=True)
            ]


def _only_of_all(values: dict[str, list[Value]], counts: Sequence[int]) -> None:
    """Take away the values of metrics that, where problems have different numbers of samples, would be of some problems only.

    A mean over the problems that have two samples is of other problems than one over those that have one, so that pass@2 could
    lie below pass@1. What any or most of a problem's samples reach is not comparable at all between different numbers.
    """
    if len(set(counts)) < 2:
        return
    for name, of_problems in values.items():
        lacks = any(v is None and n < max(counts) for v, n in zip(of_problems, counts, strict=True))
        if name.startswith(_OF_ALL) or (lacks and name.startswith(_OF_SEVERAL)):
            values[name] = [None] * len(counts)


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
    if name == "quality[judged]":
        return 1.0, MOST_QUALITY
    if name == "utility_k[class]":
        return 0.0, MOST_QUALITY
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
    if "any_of_n" in values and all(v is None for row in values["any_of_n"] for v in row):  # it has no other reason
        absent |= {name: UNEQUAL for name in values if name.startswith(_OF_ALL)}
    if "pass@1" in values and all(v is None for row in values["pass@1"] for v in row):
        absent |= {name: NO_RIGHT for name in values if name in _OF_VERDICTS}
    by_name: dict[str, Estimate] = {}
    for name, table in values.items():
        scores = with_nan(table)
        if np.isnan(scores).all():
            by_name[name] = Estimate.missing(absent.get(name) or "no value")
            if name in _OF_TEXTS and by_name[name].reason != NO_RIGHT:
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
    if members == 1 or not all(s.judged for s in samples):
        return {}
    rates = [member_pass_rates(s.passed, members) for s in samples]
    return {f"{_OF_MEMBER}{m}]": [_rounded(float(rate[m])) for rate in rates] for m in range(members)}


def _as_texts(s: Samples) -> texts.TextSamples:
    known = any(digests(s)) or (not s.judged and all(s.failed))
    behaviours = s.behaviours if known else None
    return texts.TextSamples(
        problem=s.problem,
        texts=s.texts,
        programs=s.programs,
        passed=s.passed,
        failed=s.failed,
        members=s.members,
        behaviours=None if behaviours is None else [b.digest for b in behaviours],
        ran=None if behaviours is None else [b.ran for b in behaviours],
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
