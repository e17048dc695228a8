"""The metrics that the gate judges and the largest drop allowed for each: one table, and how `--tolerance` changes it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsFloat

from spa_bench.compare.leaderboard.schema import KEPT, KEPT_OF_CHOICES, KEPT_OF_OPEN
from spa_bench.errors import UsageError
from spa_bench.metrics.suite import ALIASES, is_rate
from spa_bench.support.text import did_you_mean


@dataclass(frozen=True)
class Tolerance:
    """The largest drop of a metric that is allowed."""

    amount: float
    relative: bool = False  # whether `amount` is a share of the baseline's value rather than a difference

    def of(self, baseline: float) -> float:
        """The drop, in units of the metric."""
        return self.amount * abs(baseline) if self.relative else self.amount

    def __str__(self) -> str:
        return f"{100 * self.amount:g} %" if self.relative else f"{self.amount:g}"


@dataclass(frozen=True)
class Rule:
    """How a metric is judged."""

    tolerance: Tolerance | None  # None: a drop may be good or bad, so it is reported and never red
    why: str  # the meaning of a drop, or why none is judged


RULES: Mapping[str, Rule] = {
    "pass@1": Rule(Tolerance(0.02), "fewer right answers"),
    "pass@K": Rule(Tolerance(0.02), "fewer problems with a right answer among K"),
    "diversity_score[exact]": Rule(Tolerance(0.02), "more answers that are the same text"),
    "diversity_score[ast]": Rule(Tolerance(0.02), "more answers that are the same program"),
    "effective_diversity[ast,correct]": Rule(Tolerance(0.02), "fewer different programs among the right answers"),
    "effective_diversity[behaviour,ran]": Rule(None, "right answers behave alike: it falls where quality rises"),
    "vendi[ngram,q=1]": Rule(Tolerance(0.05, relative=True), "fewer different texts"),
    "average_kl[i<j]": Rule(Tolerance(0.2, relative=True), "members that are closer to each other"),
    # tasks with multiple choice
    "pass@1[mc]": Rule(None, "part of pass@1, which is judged"),
    "majority_vote[mc]": Rule(Tolerance(0.02), "what most answers choose is right less often"),
    "any_of_n[mc]": Rule(None, "answers that differ raise it by guessing alone"),
    "any_of_n[chance]": Rule(None, "what guessing gets"),
    "diversity_score[mc]": Rule(None, "part of the diversity score, which is judged"),
    "agreement[choices]": Rule(None, "it falls with diversity and with ignorance"),
    "kl[choices,i!=j]": Rule(None, "beside average_kl, which is judged"),
    "kl[first,i!=j]": Rule(None, "beside average_kl, which is judged"),
    "entropy[choices]": Rule(None, "it rises with ignorance"),
    # tasks without a right answer
    "distinct_k[class]": Rule(Tolerance(0.05, relative=True), "more answers of one class"),
    "utility_k[class]": Rule(Tolerance(0.05, relative=True), "worse answers, or more of one class"),
    "quality[judged]": Rule(Tolerance(0.05, relative=True), "answers that are judged to be worse"),
}
"""Metric -> rule, for all metrics that a result keeps problem by problem. More is better for each that has a tolerance."""
assert tuple(RULES) == KEPT + KEPT_OF_CHOICES + KEPT_OF_OPEN
JUDGED = tuple(name for name, rule in RULES.items() if rule.tolerance is not None)
FEWEST_SEEDS = 5  # of a baseline: fewer do not show how far one training seed lies from the next
ALPHA = 0.05
LEAST_ALPHA = 0.001  # a smaller alpha would need more resamples than are worth their time


def full_name(metric: str, known: Collection[str] = RULES) -> str:
    """The whole name of `metric`, which may be a short name. Raises UsageError for an unknown metric."""
    name = ALIASES.get(metric, metric)
    if name not in known:
        near = [*known, *(short for short, whole in ALIASES.items() if whole in known)]
        raise UsageError(f"unknown metric {metric!r} of the gate{did_you_mean(metric, near)}")
    return name


def tolerances_of(given: Sequence[str]) -> dict[str, Tolerance]:
    """Metric -> tolerance: the table's, changed by `given`, each `0.02`, `5%`, or `pass@1=0.03,vendi=5%`.

    A number without a metric applies to all metrics: as a difference to those between 0 and 1, and as the same share of the
    baseline's value to the others, which have no scale of their own. It comes before the tolerances of single metrics. Raises
    UsageError for anything else, and for a tolerance of more than the whole.
    """
    tolerances = {name: rule.tolerance for name, rule in RULES.items() if rule.tolerance is not None}
    named = ""
    for word in (word for text in given for word in words_of(text)):
        metric, equals, amount = word.rpartition("=")
        tolerance = _tolerance(amount, word)
        if not equals:
            if named:
                raise UsageError(
                    f"--tolerance {word!r} is for all metrics and comes after {named!r}; give it first (decimals: 0.02)"
                )
            tolerances = {
                name: Tolerance(tolerance.amount, relative=tolerance.relative or not is_rate(name)) for name in tolerances
            }
            _check_reach(word, tolerances)
            continue
        name, named = full_name(metric.strip()), word
        if name not in tolerances:
            raise UsageError(f"--tolerance {word}: {name} is only reported ({RULES[name].why})")
        tolerances[name] = tolerance
        _check_reach(word, {name: tolerance})
    return tolerances


def _check_reach(word: str, tolerances: Mapping[str, Tolerance]) -> None:
    """Raise UsageError for a tolerance of more than the whole metric, which is a slip: 5 for 5 %, or a comma for a point."""
    for name, tolerance in tolerances.items():
        if tolerance.amount > 1 and (tolerance.relative or is_rate(name)):
            raise UsageError(
                f"--tolerance {word!r} is more than the whole of {name}; 0.02 is a difference, 2% a share of the baseline"
            )


def words_of(text: str) -> list[str]:
    """The words between the commas of `text`; commas in brackets belong to a metric's name."""
    return [word.strip() for word in re.split(r",(?![^\[]*\])", text)]


def as_words(given: float | str | Mapping[str, float | str] | None) -> list[str]:
    """A tolerance given in Python, in the words of the command line."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [f"{name}={amount}" for name, amount in given.items()]
    return [str(given)]


def _tolerance(text: str, word: str) -> Tolerance:
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        amount = float(number) / (100 if percent else 1)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise UsageError(f"--tolerance {word!r}: a drop is a number such as 0.02, or a share of the baseline such as 5%")
    return Tolerance(amount, percent)


def chosen(metrics: Sequence[str] | None) -> list[str]:
    """The metrics to compare, in the table's order: all, or those named. Raises UsageError for an unknown one."""
    if metrics is None:
        return list(RULES)
    wanted = {full_name(name) for name in metrics}
    if not any(name in JUDGED for name in wanted):
        raise UsageError(f"--metrics {','.join(metrics)} leaves nothing to judge; name one of {', '.join(JUDGED)}")
    return [name for name in RULES if name in wanted]


def check_alpha(alpha: object) -> None:
    """Raise UsageError unless `alpha` can be the chance of a false alarm."""
    if not isinstance(alpha, SupportsFloat):
        raise UsageError(f"--alpha is {alpha!r}; it must be a number, such as 0.05")
    if not LEAST_ALPHA <= float(alpha) < 0.5:
        raise UsageError(
            f"--alpha is {alpha}; the chance of a false alarm is at least {LEAST_ALPHA} and below 0.5, such as 0.05"
        )
