"""The task protocol: a benchmark's prompts, and how it judges answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from spa_bench.cards.registry import kind_of
from spa_bench.cards.task import TaskCard, TaskCardKind
from spa_bench.grading.base import Behaved, Outcome, Program
from spa_bench.sandbox import Limits
from spa_bench.types import Asked as Asked
from spa_bench.types import Behaviour, Choices, Completion, Grade, Problem, Prompt, Record


class Judge(Protocol):
    """A judge of programs: spa_bench.grading.Grader, or a double in tests."""

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        """An outcome for each index, in any order."""
        ...

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        """What each program does on the probes of its problem, for each index, in any order."""
        ...


class Named(Protocol):
    """The part of a model that every task may use; see spa_bench.models.base.Model."""

    name: str


@dataclass(frozen=True)
class Asking:
    """The input for one model: the prompts of all problems, and the options of the multiple-choice problems."""

    prompts: tuple[Prompt, ...]  # in the order of the problems
    asked: tuple[Asked, ...] = ()  # in the same order; a task may mix both kinds


@dataclass(frozen=True)
class Options:
    """The options of a multiple-choice problem as a reader sees them: the same for every model."""

    problem_id: str
    texts: tuple[str, ...]
    choices: int  # number of first options that can be chosen; later ones are only scored


class Task(Protocol):
    """A benchmark. `version` names data and harness; `found` names the source of the data; `problems` are all, in order.

    TaskDefaults has the members that most tasks share. No method changes the task.
    """

    name: str
    version: str
    found: str
    limits: Limits  # resources of one program
    packages: tuple[str, ...]  # distributions that programs may import
    runs_code: bool  # False: answers are not programs, no sandbox is needed, and `score` and `behave` never use the judge

    if TYPE_CHECKING:

        @property
        def problems(self) -> Sequence[Problem]: ...  # noqa: D102
    else:
        problems: Sequence[Problem]  # so that a subclass may have it as an attribute or as a property

    def describe(self) -> dict[str, object]:
        """The task's part of a spec: card, version and the hash of the problems."""
        ...

    def asked_by(self, model: Named, limit: int | None) -> Asking:
        """The input for `model` from the first `limit` problems.

        Raises UsageError where the problems do not suit the model, and ModelError where the model lacks something they need.
        """
        ...

    def options(self, limit: int | None) -> Sequence[Options]:
        """The options of the multiple-choice problems among the first `limit`, in order, the same for every model."""
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
        """A behaviour for each record, in any order. An unknown behaviour has an empty digest."""
        ...

    def own_scores(
        self, records: Sequence[Record], choices: Sequence[Choices], n: int, members: int
    ) -> Mapping[str, object] | None:
        """The scores of each member by the library behind the task, as JSON; None where there is no such library.

        {"harness": "lm-eval 0.4.13", "members": [{NAME (task or group): {METRIC (e.g. "acc,none"): value, ...}}, ...]}
        """
        ...


@runtime_checkable
class TextsTask(Task, Protocol):
    """A task whose answers are texts alone, so that those of others can be scored: `spa-bench score`."""

    file: str  # path of its problems; "": they are in no file

    def question(self, problem: Problem) -> str:
        """The text that a whole answer from elsewhere may begin with."""
        ...

    def cut(self, text: str) -> str:
        """`text` before its first stop string, without trailing white space."""
        ...


@runtime_checkable
class PartAsked(Protocol):
    """A Task that may refuse problems of its own for a model, and so has to know which ones are asked."""

    def asked_of(self, model: Named, problems: Container[str]) -> Asking:
        """`asked_by` for the problems of these names, in the order of the task. Raises as that."""
        ...


def has_text(record: Record) -> bool:
    """Whether there is a text to grade."""
    return not record.failure and bool(record.graded.strip())


class TaskDefaults(ABC):
    """Defaults of a Task: every model gets the same prompts, no problem is multiple choice, and no library has scores."""

    @abstractmethod
    def prompts(self, limit: int | None) -> Sequence[Prompt]:
        """The prompts of the first `limit` problems for every model."""

    def asked(self, limit: int | None) -> Sequence[Asked]:
        """The multiple-choice problems among the first `limit`, in order; here none."""
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
        """None, because no library has scores of its own for this task."""
        return None


@dataclass(frozen=True, kw_only=True)
class TaskKind(TaskCardKind[Callable[[TaskCard], Task]]):
    """A kind of task. `build` makes one of its card, with its problems loaded."""

    table = "task"


def task_kind(name: str) -> TaskKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(TaskKind, "task", name)
