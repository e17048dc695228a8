"""The samples of a run in the order of their export, and notes about missing samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spa_bench.errors import StoreError, UsageError
from spa_bench.runs.folder import RunFolder, problem_count
from spa_bench.runs.partial import is_partial
from spa_bench.tasks.base import Task
from spa_bench.types import Grade, Key, Problem, Record, Verdict


@dataclass(frozen=True)
class Content:
    """Runs in the files of one format."""

    files: Mapping[str, bytes]  # path inside the folder -> the file's content
    notes: tuple[str, ...] = ()  # notes for the user, one line each
    left_out: tuple[str, ...] = ()  # what the format has no place for; the README says it too


@dataclass(frozen=True)
class Samples:
    """A run's samples by problem, both in the task's order; within a problem by member, then draw."""

    run: RunFolder
    task: Task
    problems: tuple[tuple[Problem, tuple[Record, ...]], ...]  # the problems with a sample
    grades: Mapping[Key, Grade]

    @property
    def card(self) -> Mapping[str, Any]:
        """The task card in the run's spec."""
        card: Mapping[str, Any] = self.run.spec["task"]
        return card

    @property
    def count(self) -> int:
        """The number of samples of all problems together."""
        return sum(len(records) for _, records in self.problems)

    @property
    def wanted(self) -> int:
        """The number of samples that the run has once it is finished."""
        n = self.run.spec["n"]
        return n * problem_count(self.run.spec) if n else self.count

    @property
    def graded(self) -> bool:
        """Whether each sample has a verdict."""
        return all(r.key in self.grades for _, records in self.problems for r in records)

    @property
    def missing_problems(self) -> int:
        """The number of the task's problems that have no sample here."""
        return len(self.task.problems) - len(self.problems)

    def notes(self) -> tuple[str, ...]:
        """The notes for every format: an unfinished run, failed answers."""
        lines, spec, wanted = [], self.run.spec, self.wanted
        if is_partial(spec):
            lines.append(f"the samples are of {problem_count(spec)} of {len(self.task.problems)} problems")
        if self.count < wanted:
            lines.append(f"the run is not finished: {self.count} of {wanted} samples are there, and no others are exported")
        failed = sum(bool(r.failure) for _, records in self.problems for r in records)
        if failed:
            lines.append(
                f"{failed} of {self.count} samples have no answer; they are exported as empty ones, so that counts stay right"
            )
        return tuple(lines)


def collect(run: RunFolder, task: Task) -> Samples:
    """The samples of `run`. Raises StoreError when it has none."""
    by_problem: dict[str, list[Record]] = {}
    for record in run.records().values():
        by_problem.setdefault(record.problem, []).append(record)
    if not by_problem:
        raise StoreError(f"{run.path} has no samples to export; the run's own command draws them")
    problems = tuple(
        (p, tuple(sorted(by_problem[p.id], key=lambda r: (r.member, r.draw)))) for p in task.problems if p.id in by_problem
    )
    return Samples(run, task, problems, run.grades())


def check_judged(samples: Samples, to: str) -> None:
    """Raises UsageError where answers are neither right nor wrong, and the format `to` is of verdicts."""
    if any(grade.verdict == Verdict.UNJUDGED for grade in samples.grades.values()):
        raise UsageError(
            f"{samples.run.path}: the answers to {samples.task.name} are neither right nor wrong, and --to {to} is of verdicts;"
            " use --to parquet, hub, inspect or noveltybench"
        )


def check_programs(samples: Samples, to: str) -> None:
    """Raises UsageError where the answers are not programs with tests, which the format `to` needs."""
    untested = [p.id for p in samples.task.problems if not p.tests and not p.suites]
    if untested:
        raise UsageError(
            f"{samples.task.name} has no tests of programs for {untested[0]}; --to {to} takes runs of code tasks alone, "
            "--to lm-eval-results and every-eval-ever any whose answers are right or wrong, and --to parquet, hub, inspect and "
            "noveltybench any"
        )
