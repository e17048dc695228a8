"""A task whose problems come in a seeded order, so that the first L of them are a random subset.

A limit takes the first problems of a task. Files are often sorted by subject or by difficulty, so that their first problems
say little about the others. In the seeded order they are a simple random sample, and those of a smaller limit are among those
of a larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from spa_bench.support.seeds import derive_seed
from spa_bench.tasks.base import Asking, Judge, Named, Options, Task, TextsTask
from spa_bench.types import Behaviour, Choices, Completion, Grade, Problem, Record


def shuffled(task: Task, seed: int) -> Task:
    """`task` with its problems in the order of `seed`; one whose answers are texts alone stays one (TextsTask)."""
    return _ShuffledTexts(task, seed) if isinstance(task, TextsTask) else _Shuffled(task, seed)


class _Shuffled:
    """See spa_bench.tasks.base.Task."""

    def __init__(self, task: Task, seed: int):
        self._whole, self._seed = task, seed
        self.name, self.version, self.found = task.name, task.version, task.found
        self.limits, self.packages, self.runs_code = task.limits, task.packages, task.runs_code

    @cached_property
    def problems(self) -> Sequence[Problem]:
        """All problems, sorted by a hash of the seed and their own name: the order in their file has no effect."""
        return tuple(sorted(self._whole.problems, key=lambda p: (derive_seed(self._seed, "order", self.name, p.id), p.id)))

    def describe(self) -> dict[str, object]:
        """The task's own description, with the seed and a hash of the problems that depends on it."""
        whole = dict(self._whole.describe())
        digest = hashlib.blake2b(f"{whole['problems_hash']} in the order of seed {self._seed}".encode(), digest_size=16)
        return {**whole, "shuffle": self._seed, "problems_hash": digest.hexdigest()}

    def _places(self, limit: int | None) -> Mapping[str, int]:
        """The place of each of the first `limit` problems."""
        return {p.id: i for i, p in enumerate(self.problems[:limit])}

    def asked_by(self, model: Named, limit: int | None) -> Asking:
        """See Task.asked_by."""
        place, asking = self._places(limit), self._whole.asked_by(model, None)
        prompts = sorted((p for p in asking.prompts if p.problem_id in place), key=lambda p: place[p.problem_id])
        asked = sorted((a for a in asking.asked if a.problem_id in place), key=lambda a: place[a.problem_id])
        return Asking(tuple(prompts), tuple(asked))

    def options(self, limit: int | None) -> Sequence[Options]:
        """See Task.options."""
        place = self._places(limit)
        mine = (one for one in self._whole.options(None) if one.problem_id in place)
        return sorted(mine, key=lambda one: place[one.problem_id])

    def record(self, completion: Completion) -> Record:
        """See Task.record."""
        return self._whole.record(completion)

    def program(self, record: Record) -> str:
        """See Task.program."""
        return self._whole.program(record)

    def score(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Grade]:
        """See Task.score."""
        return self._whole.score(records, judge, choices)

    def behave(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices]) -> Iterator[Behaviour]:
        """See Task.behave."""
        return self._whole.behave(records, judge, choices)

    def own_scores(
        self, records: Sequence[Record], choices: Sequence[Choices], n: int, members: int
    ) -> Mapping[str, object] | None:
        """See Task.own_scores."""
        return self._whole.own_scores(records, choices, n, members)


class _ShuffledTexts(_Shuffled):
    """See spa_bench.tasks.base.TextsTask."""

    def __init__(self, task: TextsTask, seed: int):
        super().__init__(task, seed)
        self._texts, self.file = task, task.file

    def question(self, problem: Problem) -> str:
        """See TextsTask.question."""
        return self._texts.question(problem)

    def cut(self, text: str) -> str:
        """See TextsTask.cut."""
        return self._texts.cut(text)
