"""What the gate says: a line a metric, a subject a sampler, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from spa_bench.gate.specs import Change
from spa_bench.store import SCHEMA_VERSION
from spa_bench.types import Estimate

Outcome = Literal["held", "drop", "lost", "differs", "same", "reported", "not compared"]
RED = frozenset({"drop", "lost", "differs"})


@dataclass(frozen=True)
class Line:
    """One metric of one sampler."""

    metric: str
    outcome: Outcome
    before: float | None = None  # mean over problems and seeds of the baseline, on the problems that both sides have
    now: float | None = None
    difference: Estimate | None = None  # now minus before, with the interval of the whole check
    tolerance: float | None = None  # the drop that is let pass, in units of the metric; None: not judged
    visible: float | None = None  # the smallest true drop that turns red with 80 % chance
    note: str = ""

    @property
    def red(self) -> bool:
        """Whether it fails the check."""
        return self.outcome in RED

    @property
    def said(self) -> str:
        """The outcome for a reader: capitals fail."""
        return self.outcome.upper() if self.red else self.outcome


@dataclass(frozen=True)
class Subject:
    """One sampler against its baseline."""

    label: str
    task: str
    model: str
    seeds: Sequence[int]  # of the candidate
    baseline_seeds: Sequence[int]
    problems: int  # that both sides have
    spec_hash: str  # of the candidate's first seed
    group_hash: str
    baseline_group: str
    n: int | None
    k: int
    lines: Sequence[Line]
    changes: Sequence[Change]  # baseline's spec to the candidate's
    notes: Sequence[str]

    @property
    def red(self) -> list[Line]:
        """What fails."""
        return [line for line in self.lines if line.red]


@dataclass(frozen=True)
class Verdict:
    """Whether the runs hold up against their baseline."""

    subjects: Sequence[Subject]
    against: str  # where the baseline is
    alpha: float  # the chance that the whole check is red when nothing changed but the seeds
    tests: int  # metrics of all samplers together that were judged by an interval
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Green."""
        return not any(subject.red for subject in self.subjects)

    @property
    def confidence(self) -> float:
        """Of every interval: two-sided, each end missed with chance alpha / tests."""
        return confidence_of(self.alpha, self.tests)

    @property
    def report(self) -> str:
        """For a terminal or an assertion: the verdict in the first line, then what it rests on."""
        from spa_bench.gate.report import plain

        return plain(self)

    @property
    def markdown(self) -> str:
        """For a pull request or $GITHUB_STEP_SUMMARY: the verdict in the first line."""
        from spa_bench.gate.report import markdown

        return markdown(self)

    def to_json(self) -> list[dict[str, Any]]:
        """A row a sampler, as every `--json` has them; missing is null."""
        return [self._row(subject) for subject in self.subjects]

    def _row(self, subject: Subject) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "task": subject.task, "sampler": subject.label, "model": subject.model, "n": subject.n, "k": subject.k,
            "seeds": list(subject.seeds), "spec_hash": subject.spec_hash, "group_hash": subject.group_hash,
            "ok": not subject.red, "check_ok": self.ok, "against": self.against, "baseline_group_hash": subject.baseline_group,
            "baseline_seeds": list(subject.baseline_seeds), "problems": subject.problems,
            "alpha": self.alpha, "tests": self.tests, "confidence": self.confidence,
            "metrics": [asdict(line) for line in subject.lines],
            "spec_changes": [asdict(change) for change in subject.changes],
            "notes": [*subject.notes, *self.notes],
        }  # fmt: skip


def confidence_of(alpha: float, tests: int) -> float:
    """Of the intervals of `tests` metrics of which, by chance, one excludes 0 from below at most `alpha` of the time.

    Bonferroni: 1 - 2 alpha / tests, two-sided, of which one end is what a drop has to pass.
    """
    return 1 - 2 * alpha / max(tests, 1)
