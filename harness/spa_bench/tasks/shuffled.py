"""A task whose problems come in a seeded order, so that the first L of them are a random subset.

A limit takes the first problems of a task. Files are often sorted by subject or by difficulty, so that their first problems
say little about the others. In the seeded order they are a simple random sample, and those of a smaller limit are among those
of a larger one. In the stratified order every tag (a level, a subject) has its share of the first L, to within one problem
where tags do not overlap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from spa_bench.support.seeds import derive_seed
from spa_bench.tasks.base import Asking, Judge, Named, Options, PartAsked, Task, TextsTask
from spa_bench.types import Behaviour, Choices, Completion, Grade, Problem, Record


def shuffled(task: Task, seed: int, *, stratify: bool = False) -> Task:
    """`task` with its problems in the order of `seed`; one whose answers are texts alone stays one (TextsTask).

    `stratify`: the first L problems have every combination of tags in proportion.
    """
    return _ShuffledTexts(task, seed, stratify) if isinstance(task, TextsTask) else _Shuffled(task, seed, stratify)


def in_order(problems: Sequence[Problem], seed: int, name: str) -> list[Problem]:
    """The problems of task `name` in the order of `seed`, whatever their order was: each order is equally likely."""
    return sorted(problems, key=lambda p: (derive_seed(seed, "order", name, p.id), p.id))


def stratified(problems: Sequence[Problem], seed: int, name: str) -> list[Problem]:
    """The problems of task `name` in a random order of `seed` in which every prefix has each stratum in proportion.

    A stratum is a combination of tags. Its j-th problem of N has the place (j + u) / N, with one uniform u a stratum, so that
    every problem is equally likely to stand before any given place (systematic sampling, as in Cochran, Sampling Techniques).
    """
    strata: dict[tuple[str, ...], list[Problem]] = {}
    for problem in in_order(problems, seed, name):
        strata.setdefault(problem.tags, []).append(problem)
    places = {
        problem.id: (j + derive_seed(seed, "stratum", name, *tags) / 2**63) / len(each)
        for tags, each in strata.items()
        for j, problem in enumerate(each)
    }
    return sorted((p for each in strata.values() for p in each), key=lambda p: (places[p.id], p.id))


def how_drawn(task: Mapping[str, object]) -> str:
    """A clause behind "5 of 20 problems": how a limit drew them; `task` is what Task.describe gives."""
    seed = task.get("shuffle")
    return ", the first ones" if seed is None else f" at random{' by tags' if task.get('stratify') else ''} (shuffle {seed})"


def same_problems(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two descriptions (what Task.describe gives) are of the same problems, in the same order or one of them shuffled.

    The hash of an order does not tell that of the whole: two orders of the same problems count as different.
    """
    hashes = one["problems_hash"], other["problems_hash"]
    orders = _order_of(one), _order_of(other)
    return hashes[0] == hashes[1] or hashes in {
        (_order_hash(hashes[1], *orders[0]), hashes[1]),
        (hashes[0], _order_hash(hashes[0], *orders[1])),
    }


def _order_of(task: Mapping[str, object]) -> tuple[object, bool]:
    return task.get("shuffle"), bool(task.get("stratify"))


def _order_hash(whole: object, seed: object, stratify: bool) -> str:
    """The hash of the problems with the hash `whole` in the order of `seed`; `whole` where there is none."""
    if seed is None:
        return str(whole)
    by = " by tags" * stratify
    return hashlib.blake2b(f"{whole} in the order of seed {seed}{by}".encode(), digest_size=16).hexdigest()


class _Shuffled:
    """See spa_bench.tasks.base.Task."""

    def __init__(self, task: Task, seed: int, stratify: bool):
        self._whole, self._seed, self._stratify = task, seed, stratify
        self.name, self.version, self.found = task.name, task.version, task.found
        self.limits, self.packages, self.runs_code = task.limits, task.packages, task.runs_code

    @cached_property
    def problems(self) -> Sequence[Problem]:
        """All problems, sorted by hashes of the seed and their own name: the order in their file has no effect."""
        order = stratified if self._stratify else in_order
        return tuple(order(self._whole.problems, self._seed, self.name))

    def describe(self) -> dict[str, object]:
        """The task's own description, with the seed and a hash of the problems that depends on it."""
        whole = dict(self._whole.describe())
        order = {"shuffle": self._seed} | ({"stratify": True} if self._stratify else {})
        return {**whole, **order, "problems_hash": _order_hash(whole["problems_hash"], self._seed, self._stratify)}

    def _places(self, limit: int | None) -> Mapping[str, int]:
        """The place of each of the first `limit` problems."""
        return {p.id: i for i, p in enumerate(self.problems[:limit])}

    def asked_by(self, model: Named, limit: int | None) -> Asking:
        """See Task.asked_by."""
        place, whole = self._places(limit), self._whole
        asking = whole.asked_of(model, place) if isinstance(whole, PartAsked) else whole.asked_by(model, None)
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

    def __init__(self, task: TextsTask, seed: int, stratify: bool):
        super().__init__(task, seed, stratify)
        self._texts, self.file = task, task.file

    def question(self, problem: Problem) -> str:
        """See TextsTask.question."""
        return self._texts.question(problem)

    def cut(self, text: str) -> str:
        """See TextsTask.cut."""
        return self._texts.cut(text)
