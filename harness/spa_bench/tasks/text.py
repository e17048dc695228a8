"""A base class for tasks whose answers are texts that are right or wrong by themselves; user-written tasks start here.

A subclass says which answers are right; `build(card)` in its module makes a task from the card and its problems. Nothing is
executed: texts are compared, two answers behave alike where `answer` is equal for them, and a majority votes on that.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from spa_bench.cards.guard import as_problems, guarded
from spa_bench.cards.task import TaskCard
from spa_bench.errors import UsageError
from spa_bench.sandbox import Limits
from spa_bench.support.text import before_stop
from spa_bench.tasks.base import Judge, TaskDefaults, has_text
from spa_bench.types import Behaviour, Choices, Completion, Grade, Problem, Prompt, Record, Verdict


class TextTask(TaskDefaults):
    """See spa_bench.tasks.base.Task. `found` names the source of the problems."""

    runs_code = False
    packages: tuple[str, ...] = ()

    def __init__(self, card: TaskCard, problems: Sequence[Problem], found: str = ""):
        self.card, self.problems = card, as_problems(problems, f"task {card.name!r}")
        self.name, self.version = card.name, card.version
        self.file = str(Path(card.file).resolve()) if card.file else ""
        self.found = found or self.file or f"kind {card.kind}"
        self.limits = Limits(memory_mb=card.memory_mb)
        self._by_id = {p.id: p for p in self.problems}

    @abstractmethod
    def is_right(self, problem: Problem, answer: str) -> bool:
        """Whether `answer`, a result of `self.answer`, is right."""

    def answer(self, problem: Problem, text: str) -> str:
        """The part of a text that counts as the answer, for verdict and vote; here the text without white space around it."""
        return text.strip()

    def describe(self) -> dict[str, object]:
        """The card, and the hash over everything in the problems; the place of the data is not part of it."""
        digest = hashlib.blake2b(digest_size=16)
        for p in self.problems:
            digest.update(json.dumps([p.id, p.prompt, p.reference, p.tests, p.tags, p.choices]).encode())
        card = {k: v for k, v in asdict(self.card).items() if k not in {"file", "description", "shuffle", "stratify"}}
        return {**card, "problems_hash": digest.hexdigest(), "problems_n": len(self.problems)}

    def prompts(self, limit: int | None) -> list[Prompt]:
        """Prompts of the first `limit` problems."""
        return [
            Prompt(problem_id=p.id, text=p.prompt, max_new_tokens=self.card.max_new_tokens, stop=self.card.stop)
            for p in self.problems[:limit]
        ]

    def question(self, problem: Problem) -> str:
        """The text that a whole answer from elsewhere may begin with: the prompt."""
        return problem.prompt

    def record(self, completion: Completion) -> Record:
        """The completion, cut at the card's stop strings and without trailing white space."""
        text = completion.text
        return Record.of(completion, text.rstrip() if completion.whole else self.cut(text), whole=completion.whole)

    def cut(self, text: str) -> str:
        """`text` before its first stop string, without trailing white space."""
        return before_stop(text, self.card.stop).rstrip()

    def program(self, record: Record) -> str:
        """The text that is compared."""
        return record.graded

    def score(self, records: Sequence[Record], judge: Judge | None, choices: Sequence[Choices] = ()) -> Iterator[Grade]:
        """Verdicts in the order of `records`. An answer without text is refused."""
        for record in records:
            if not has_text(record):
                yield Grade(**record.key._asdict(), verdict=Verdict.REFUSED, message=record.failure or "the answer is empty")
            elif self._right(record):
                yield Grade(**record.key._asdict(), verdict=Verdict.PASSED)
            else:
                yield Grade(**record.key._asdict(), verdict=Verdict.WRONG, message=self._said(record))

    def behave(self, records: Sequence[Record], judge: Judge | None, choices: Sequence[Choices] = ()) -> Iterator[Behaviour]:
        """What each record answers, as a digest: equal for equal answers. None where there is no text."""
        for record in records:
            if not has_text(record):
                yield Behaviour(**record.key._asdict(), digest="", ran=False, right=0, probes=0)
                continue
            digest = hashlib.blake2b(self._answer(record).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
            yield Behaviour(**record.key._asdict(), digest=digest, ran=True, right=int(self._right(record)), probes=1)

    def _answer(self, record: Record) -> str:
        where = f"task {self.name!r}: answer() of {record.problem}"
        with guarded(where):
            answer = self.answer(self._by_id[record.problem], record.graded)
        if not isinstance(answer, str):
            raise UsageError(f"{where} gave {answer!r}; it must be a text")
        return answer

    def _right(self, record: Record) -> bool:
        answer, where = self._answer(record), f"task {self.name!r}: is_right() of {record.problem}"
        with guarded(where):
            right = self.is_right(self._by_id[record.problem], answer)
        if not isinstance(right, bool | np.bool_):
            raise UsageError(f"{where} gave {right!r}; it must be True or False")
        return bool(right)

    def _said(self, record: Record) -> str:
        """The text that was compared, for a reader."""
        return f"the answer is {self._answer(record)!r}"[:300]
