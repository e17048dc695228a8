"""The gate's verdict: each metric is a `Line`, each sampler a `Subject`, and the verdict covers all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from spa_bench.compare.gate.specs import Change
from spa_bench.compare.gate.tables import (
    Format,
    SpecText,
    difference_text,
    escaped,
    folded_spec_table,
    joined,
    markdown_table,
    named_text,
    number_text,
    plain_table,
    problems_text,
    seeds_text,
    spec_table,
)
from spa_bench.runs.folder import SCHEMA_VERSION
from spa_bench.types import Estimate

Outcome = Literal["held", "drop", "lost", "differs", "same", "reported", "not compared"]
RED = frozenset({"drop", "lost", "differs"})


@dataclass(frozen=True, kw_only=True)
class Line:
    """The outcome for one metric of one sampler."""

    metric: str
    outcome: Outcome
    before: float | None = None  # mean over problems and seeds of the baseline, on the problems that both sides have
    now: float | None = None
    difference: Estimate | None = None  # now minus before, with the interval of the whole check
    tolerance: float | None = None  # the largest drop allowed, in units of the metric; None: not judged
    visible: float | None = None  # the smallest true drop that is red with 80 % chance
    note: str = ""

    @property
    def red(self) -> bool:
        """Whether the line fails the check."""
        return self.outcome in RED

    @property
    def said(self) -> str:
        """The outcome for a reader; an outcome in capitals fails the check."""
        return self.outcome.upper() if self.red else self.outcome


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One sampler compared with its baseline."""

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
        """The lines that fail the check."""
        return [line for line in self.lines if line.red]


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """Whether the runs pass against their baseline, and the lines behind it."""

    subjects: Sequence[Subject]
    against: str  # where the baseline is
    alpha: float  # the chance that the whole check is red when nothing changed but the seeds
    tests: int  # metrics of all samplers together that were judged by an interval
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether no line is red."""
        return not any(subject.red for subject in self.subjects)

    @property
    def confidence(self) -> float:
        """The level of every interval: it is two-sided, and each end misses with chance alpha / tests."""
        return confidence_of(self.alpha, self.tests)

    @property
    def report(self) -> str:
        """Text for a terminal or an assertion: the verdict in the first line, then its reasons."""

        return plain(self)

    @property
    def markdown(self) -> str:
        """Markdown for a pull request or $GITHUB_STEP_SUMMARY: the verdict in the first line, then its reasons."""

        return markdown(self)

    def to_json(self) -> list[dict[str, Any]]:
        """A row for each sampler, in the form of every `--json`; missing values are null."""
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
    """The level of each of `tests` intervals, so that without any true drop some lie below 0 with chance at most `alpha`.

    It is Bonferroni's 1 - 2 alpha / tests: an interval has two sides, and a drop has to pass only one of its ends.
    """
    return 1 - 2 * alpha / max(tests, 1)


_HEAD = ["metric", "baseline", "now", "difference", "tolerance", "would see", "verdict"]


def plain(verdict: GateVerdict) -> str:
    """A verdict as text for a terminal."""
    parts = [headline(verdict)]
    for subject in verdict.subjects:
        parts.append(f"{_title(subject)}\n\n{_body(subject, verdict, plain_table, spec_table)}")
    return "\n\n".join([*parts, *verdict.notes, _legend(verdict)])


def markdown(verdict: GateVerdict) -> str:
    """A verdict as Markdown, with its headline in the first line; all text that comes from runs is escaped."""
    colour, rest = headline(verdict).split(": ", 1)
    parts = [f"**{colour}**: {escaped(rest)}"]
    for subject in verdict.subjects:
        parts.append(f"### {escaped(_title(subject))}\n\n{_body(subject, verdict, markdown_table, folded_spec_table)}")
    return "\n\n".join([*parts, *map(escaped, verdict.notes), f"<sub>{escaped(_legend(verdict))}</sub>"]) + "\n"


def headline(verdict: GateVerdict) -> str:
    """The verdict in one line, with the lines that fail."""
    checked = ", ".join(f"{subject.label} on {subject.task}" for subject in verdict.subjects)
    if verdict.ok:
        return f"GREEN: {checked} against {verdict.against}: nothing is lost, and no drop passes its tolerance and its interval"
    wrong = [f"{subject.label}: {_wrong(subject)}" for subject in verdict.subjects if subject.red]
    return f"RED: against {verdict.against}: {'. '.join(wrong)}"


def _wrong(subject: Subject) -> str:
    said = [f"{line.metric} fell by {_fell(line)}" for line in subject.red if line.outcome == "drop"]
    for outcome, words in (("lost", "lost"), ("differs", "not what the same spec gave")):
        names = [line.metric for line in subject.red if line.outcome == outcome]
        said += [f"{words}: {named_text(names)}"] if names else []
    return "; ".join(said)


def _fell(line: Line) -> str:
    assert line.difference is not None
    assert line.difference.value is not None
    fell, allowed = number_text(-line.difference.value), number_text(line.tolerance)
    if fell == allowed and line.tolerance is not None:  # a little more than allowed
        fell, allowed = f"{-line.difference.value:.8g}", f"{line.tolerance:.8g}"
    return f"{fell} (more than {allowed})"


def _title(subject: Subject) -> str:
    seeds = f"{seeds_text(subject.seeds)} against {seeds_text(subject.baseline_seeds)} of the baseline"
    return f"{subject.label} on {subject.task}: {seeds}, {problems_text(subject.problems)}"


def _body(subject: Subject, verdict: GateVerdict, table: Format, spec: SpecText) -> str:
    judged = [line for line in subject.lines if line.difference is not None]
    others = [line for line in subject.lines if line.difference is None]
    parts = [table([_cells(line) for line in judged], _HEAD)] if judged else []
    if others:
        cells = joined((line.metric, (line.said, line.note)) for line in others)
        parts.append(table(cells, ["also", "verdict", "why"]))
    parts += [table([[note] for note in subject.notes], ["note"])] if subject.notes else []
    parts.append(spec(subject.changes, table, ("baseline", "now")))
    return "\n\n".join(parts)


def _cells(line: Line) -> list[str]:
    return [
        line.metric,
        *map(number_text, (line.before, line.now)),
        difference_text(line.difference),
        *map(number_text, (line.tolerance, line.visible)),
        f"{line.said}: {line.note}" if line.note else line.said,
    ]


def _legend(verdict: GateVerdict) -> str:
    if not verdict.tests:
        return "Runs of one spec, seed included, are compared exactly: there is no tolerance and no chance."
    level, alpha = f"{100 * verdict.confidence:.4g} %", f"{100 * verdict.alpha:g} %"
    judged = sum(line.outcome in {"held", "drop"} for subject in verdict.subjects for line in subject.lines)
    tests = f"{judged} metric{' was' if judged == 1 else 's were'}"
    return (
        f"A drop is red when it passes its tolerance and its interval excludes zero. {tests} judged: "
        f"intervals are at {level}, so that the whole check is red by chance at most {alpha} of the time when nothing changed "
        "but the seeds. Would see: the smallest true drop that is red with 80 % chance."
    )
