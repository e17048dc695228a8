"""`spa-bench compare A B` shows B minus A for each metric, paired by problem, and the differences of their specs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spa_bench.compare.gate import exact, rules
from spa_bench.compare.gate.sides import Shared, pick_two, shared, shared_means
from spa_bench.compare.gate.specs import Change, changes
from spa_bench.compare.gate.tables import (
    Format,
    SpecText,
    difference_text,
    escaped,
    folded_spec_table,
    joined,
    markdown_table,
    number_text,
    plain_table,
    problems_text,
    seeds_text,
    spec_table,
)
from spa_bench.compare.leaderboard.compare import RESAMPLES
from spa_bench.compare.leaderboard.rows import LeaderboardRow
from spa_bench.metrics.intervals import Seeds, nan_means, paired_test
from spa_bench.metrics.multiple import Decision, resolve
from spa_bench.metrics.suite import is_rate
from spa_bench.runs.folder import SCHEMA_VERSION
from spa_bench.types import Estimate


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of both sides."""

    metric: str
    a: float | None
    b: float | None
    decision: Decision  # B minus A, Holm over the metrics


@dataclass(frozen=True, kw_only=True)
class SamplerComparison:
    """Two samplers, or two versions of one, on the problems that both have."""

    a: LeaderboardRow
    b: LeaderboardRow
    problems: int
    metrics: Sequence[ComparedMetric]
    changes: Sequence[Change]  # A's spec to B's
    notes: Sequence[str]

    @property
    def report(self) -> str:
        """The comparison as text for a terminal."""

        return compared_plain(self)

    @property
    def markdown(self) -> str:
        """The comparison as Markdown."""

        return compared_markdown(self)

    def to_json(self) -> list[dict[str, Any]]:
        """The comparison as a list of one row, the form of every `--json`."""
        sides = {
            name: {
                "sampler": row.result["sampler"], "label": row.label, "model": row.result["model"], "n": row.result["n"],
                "k": row.result["k"], "seeds": row.seeds, "group_hash": row.result["group_hash"],
            }
            for name, row in (("a", self.a), ("b", self.b))
        }  # fmt: skip
        metrics = {
            m.metric: {
                "a": m.a, "b": m.b, **asdict(m.decision.difference), "p": m.decision.p, "adjusted_p": m.decision.adjusted,
                "resolved": m.decision.resolved,
            }
            for m in self.metrics
        }  # fmt: skip
        said = {"spec_changes": [asdict(change) for change in self.changes], "notes": list(self.notes)}
        return [
            {
                "schema_version": SCHEMA_VERSION,
                "task": self.a.task,
                "problems": self.problems,
                **sides,
                "metrics": metrics,
                **said,
            }
        ]


def compare(a: str | Path, b: str | Path) -> SamplerComparison:
    """B compared with A; each is a run folder, a result file, a folder of either, or one of these followed by `:SAMPLER`.

    Raises UsageError when a place holds several samplers and none is named, both sides are one sampler, or they are not on the
    same problems; StoreError for runs that are not graded or cannot be read.
    """
    return compare_rows(*pick_two(a, b))


def compare_rows(one: LeaderboardRow, other: LeaderboardRow) -> SamplerComparison:
    """`other` compared with `one`, of rows that have been read. Raises UsageError where they are not on the same problems."""
    both = shared(one, other)
    tests = {name: _test(both, name) for name in rules.RULES}
    decisions = resolve({name: test for name, test in tests.items() if test is not None})
    lines = [ComparedMetric(name, *_sides(both, name), decision) for name, decision in decisions.items()]
    return SamplerComparison(
        a=one,
        b=other,
        problems=len(both.problems),
        metrics=lines,
        changes=changes(one.result["spec"], other.result["spec"]),
        notes=_notes(both, lines),
    )


def _test(both: Shared, metric: str) -> tuple[Estimate, float | None] | None:
    """B minus A and its p; None where neither side has the metric."""
    a, b = both.scores(both.before, metric), both.scores(both.after, metric)
    if a is None and b is None:
        if both.lacks_n(metric):
            return Estimate.missing("no number of answers that both have"), None
        return None
    if a is None or b is None:
        return Estimate.missing(f"only {'B' if a is None else 'A'} has it"), None
    ks = [row.result["k"] for row in (both.before, both.after)]
    if metric == "pass@K" and ks[0] != ks[1]:
        return Estimate.missing(f"k is {ks[0]} and {ks[1]}"), None
    if both.at_other_n(metric):
        return Estimate.missing("it is of all answers to a problem, and n is {} and {}".format(*both.sizes)), None
    return paired_test(b, a, rate=is_rate(metric), seeds=_pairing(both), resamples=RESAMPLES)


def _pairing(both: Shared) -> Seeds:
    """How seeds belong together: runs of equal seeds are paired, because their draws are the same on both sides."""
    return "paired" if both.before.seeds == both.after.seeds else "apart"


def _sides(both: Shared, metric: str) -> tuple[float | None, float | None]:
    """The means of both sides; of a metric that both have on what is compared, so that they differ by B minus A.

    That is the problems where both have a value and, where seeds are paired, of a problem the seeds where both have one.
    """
    a, b = (both.scores(row, metric) for row in (both.before, both.after))
    if a is None or b is None:
        return _mean(a), _mean(b)
    if _pairing(both) == "paired":
        lacks = np.isnan(a) | np.isnan(b)
        a, b = (np.where(lacks, np.nan, side) for side in (a, b))
    return shared_means(a, b)


def _mean(scores: NDArray[np.float64] | None) -> float | None:
    return None if scores is None else float(np.nanmean(nan_means(scores, 0)))


def _notes(both: Shared, lines: Sequence[ComparedMetric]) -> list[str]:
    a, b = both.before, both.after
    notes = [partial] if (partial := both.partial("A has", "B")) else []
    if a.result["size"] != b.result["size"] and both.size:
        notes.append(f"metrics that depend on n are compared at n = {both.size}")
    if len(a.seeds) > 1 and len(b.seeds) > 1:
        how = (
            "the same seeds on both sides, paired"
            if _pairing(both) == "paired"
            else "other seeds on both sides, taken as independent"
        )
        notes.append(f"training seeds: {how}")
    elif any(line.decision.difference.value is not None for line in lines):
        notes.append("a side has one training seed: the intervals are over problems only, and say nothing of the next training")
    for before, after in exact.twins(a.result, b.result):
        differing = exact.differences(before, after, both.problems, ("in A", "in B"))
        said = "; ".join(f"{what}: {how}" for what, how in differing)
        notes.append(
            f"seed {after['seed']} has the same spec on both sides and " + (f"differs: {said}" if differing else "is the same")
        )
    return notes


def compared_plain(comparison: SamplerComparison) -> str:
    """A comparison as text for a terminal."""
    return "\n\n".join([_compared_title(comparison), *_compared(comparison, plain_table, spec_table)])


def compared_markdown(comparison: SamplerComparison) -> str:
    """A comparison as Markdown."""
    return (
        "\n\n".join([f"### {escaped(_compared_title(comparison))}", *_compared(comparison, markdown_table, folded_spec_table)])
        + "\n"
    )


def _compared_title(comparison: SamplerComparison) -> str:
    sides = [
        f"{name} = {row.label} ({seeds_text(row.seeds)}, n = {row.result['n']})"
        for name, row in (("A", comparison.a), ("B", comparison.b))
    ]
    return f"{comparison.a.version}: {sides[0]}, {sides[1]}; {problems_text(comparison.problems)}, paired"


def _compared(comparison: SamplerComparison, table: Format, spec: SpecText) -> list[str]:
    body, absent = [], list[tuple[str, tuple[str, ...]]]()
    for line in comparison.metrics:
        decision = line.decision
        if decision.difference.value is None:
            absent.append((line.metric, (decision.difference.reason,)))
            continue
        if decision.resolved:
            said = "resolved: B is " + ("higher" if decision.difference.value > 0 else "lower")
        else:
            said = "not resolved"
        p = "-" if decision.adjusted is None else f"{decision.adjusted:.3g}"
        body.append([line.metric, number_text(line.a), number_text(line.b), difference_text(decision.difference), p, said])
    parts = [table(body, ["metric", "A", "B", "B minus A, 95 %", "p (Holm)", "verdict"])] if body else []
    if absent:
        parts.append(table(joined(absent), ["not compared", "why"]))
    parts += [table([[note] for note in comparison.notes], ["note"])] if comparison.notes else []
    return [*parts, spec(comparison.changes, table, ("A", "B"))]
