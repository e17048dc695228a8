"""The task protocol: what a benchmark asks and how it judges answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from spa_bench.cards.registry import kind_of
from spa_bench.cards.task import TaskCard, TaskCardKind
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


class Named(Protocol):
    """A model, as far as every task knows it: see spa_bench.models.base.Model."""

    name: str


@dataclass(frozen=True)
class Asking:
    """What one model is asked: the prompts of the problems, and those of the problems that are multiple choice."""

    prompts: tuple[Prompt, ...]  # in the order of the problems
    asked: tuple[Asked, ...] = ()  # likewise; a task may mix both kinds


@dataclass(frozen=True)
class Options:
    """The options of a multiple-choice problem as a reader sees them: the same for every model."""

    problem_id: str
    texts: tuple[str, ...]
    choices: int  # the first so many can be chosen; later ones are only scored


class Task(Protocol):
    """A benchmark. `version` names data and harness; `found` says where the data came from.

    TaskDefaults has what most tasks say of how a model is asked. No method changes the task.
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

    def asked_by(self, model: Named, limit: int | None) -> Asking:
        """What `model` is asked of the first `limit` problems.

        Raises UsageError for a model that cannot be asked them, and ModelError for one that lacks what asking needs.
        """
        ...

    def options(self, limit: int | None) -> Sequence[Options]:
        """Those of the first `limit` problems that are multiple choice, in order, whichever model is asked."""
        ...

    def record(self, completion: Completion) -> Record:
        """The completion with the text that is graded."""
        ...

    def program(self, record: Record) -> str:
        """The whole text that is executed or compared for `record`."""
        ...

    def score(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Grade]:
        """A grade for each record, in any order. `choices` are the rows of choices.jsonl, for verdicts that need them."""
        ...

    def behave(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Behaviour]:
        """A behaviour for each record, in any order. What is not known has an empty digest."""
        ...

    def own_scores(
        self, records: Sequence[Record], choices: Sequence[Choices], n: int, members: int
    ) -> Mapping[str, object] | None:
        """What the library behind the task says of each member, by its own scoring; None where there is none. JSON.

        {"harness": "lm-eval 0.4.13", "members": [{NAME (task or group): {METRIC (e.g. "acc,none"): value, ...}}, ...]}
        """
        ...


@runtime_checkable
class TextsTask(Task, Protocol):
    """A task whose answers are texts alone, so that those of others can be scored: `spa-bench score`."""

    file: str  # where its problems lie; "": in no file

    def question(self, problem: Problem) -> str:
        """What a whole answer from elsewhere may begin with."""
        ...

    def cut(self, text: str) -> str:
        """`text` before its first stop string, without trailing white space."""
        ...


class TaskDefaults(ABC):
    """What a Task need not say itself: every model is asked the same, nothing is multiple choice, no library has scores."""

    @abstractmethod
    def prompts(self, limit: int | None) -> Sequence[Prompt]:
        """What every model is asked, for the first `limit` problems."""

    def asked(self, limit: int | None) -> Sequence[Asked]:
        """Those of the first `limit` problems that are multiple choice, in order; here none."""
        return []

    def asked_by(self, model: Named, limit: int | None) -> Asking:
        """See Task: `prompts` and `asked`, for any model."""
        return Asking(tuple(self.prompts(limit)), tuple(self.asked(limit)))

    def options(self, limit: int | None) -> Sequence[Options]:
        """See Task: those of `asked`."""
        return [Options(one.problem_id, tuple(text for _, text in one.options), one.choices) for one in self.asked(limit)]

    def own_scores(
        self, records: Sequence[Record], choices: Sequence[Choices], n: int, members: int
    ) -> Mapping[str, object] | None:
        """None: no library has scores of its own for this task."""
        return None


@dataclass(frozen=True, kw_only=True)
class TaskKind(TaskCardKind[Callable[[TaskCard], Task]]):
    """A kind of task. `build` makes one of its card, with its problems loaded."""

    table = "task"


def task_kind(name: str) -> TaskKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(TaskKind, "task", name)
