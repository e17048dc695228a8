"""The task protocol: what a benchmark asks and how it judges answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from spa_bench.grading.base import Behaved, Outcome, Program
from spa_bench.sandbox import Limits
from spa_bench.types import Asked as Asked
from spa_bench.types import Behaviour, Choices, Completion, Grade, Problem, Prompt, Record


class Judge(Protocol):
    """What judges programs: spa_bench.grading.Grader, or a double in tests."""

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        """An outcome for each index, in any order."""
        ...

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        """What each program does on the probes of its problem, for each index, in any order."""
        ...


class Task(Protocol):
    """A benchmark. `version` names data and harness; `found` says where the data came from.

    A task may have `check_model(model, limit)`, called before `asked` and `prompts`, and before anything is trained: it raises
    UsageError for a model that it cannot ask the first `limit` problems. It may have `see_choices(rows)`, called with those of
    choices.jsonl before `score` and `behave`, where its verdicts need them.
    """

    name: str
    version: str
    found: str
    limits: Limits  # of one program
    packages: tuple[str, ...]  # distributions that programs may import
    runs_code: bool  # False: answers are no programs. No sandbox is needed, `score` and `behave` never touch the judge

    @property
    def problems(self) -> Sequence[Problem]:
        """All problems, in order."""
        ...

    def describe(self) -> dict[str, object]:
        """For the spec: card, version and the hash of the problems."""
        ...

    def prompts(self, limit: int | None) -> list[Prompt]:
        """What a model is asked, for the first `limit` problems."""
        ...

    def asked(self, limit: int | None) -> list[Asked]:
        """Those of the first `limit` problems that are multiple choice, in order; a task may mix both kinds."""
        ...

    def record(self, completion: Completion) -> Record:
        """The completion with the text that is graded."""
        ...

    def program(self, record: Record) -> str:
        """The whole text that is executed or compared for `record`."""
        ...

    def score(self, records: Sequence[Record], judge: Judge) -> Iterator[Grade]:
        """A grade for each record, in any order."""
        ...

    def behave(self, records: Sequence[Record], judge: Judge) -> Iterator[Behaviour]:
        """A behaviour for each record, in any order. What is not known has an empty digest."""
        ...

    def own_scores(self, records: Sequence[Record], choices: Sequence[Choices], n: int, members: int) -> dict[str, Any] | None:
        """What the library behind the task says of each member, by its own scoring; None where there is none. JSON.

        {"harness": "lm-eval 0.4.13", "members": [{NAME (task or group): {METRIC (e.g. "acc,none"): value, ...}}, ...]}
        """
        ...
