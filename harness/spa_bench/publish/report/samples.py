"""The answers to every problem, run by run, packed for the page: equal texts of a problem are kept once.

A run can have hundreds of thousands of answers. So they are gathered run by run into plain tuples, and no run is kept.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from spa_bench.types import Choices, Grade, Key, Record, Verdict

NOT_GRADED: Final = "not graded"
Packed = tuple[int, int, int, int, int, int, int, int]
"""Of an answer: member, draw, place of its graded text, of its raw text (or -1: it is the graded one), of its verdict, of
what is said of it (or -1), tokens, and the option that was chosen (or -1)."""


def packed(text: str) -> str:
    """`text` compressed, in base64; the same text gives the same result."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode("ascii")


class Pool:
    """Different texts, each kept once, in the order of first use."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """The index of `text`, which is added where it is new."""
        return self._places.setdefault(text, len(self._places))

    @property
    def texts(self) -> list[str]:
        """All texts, in order."""
        return list(self._places)


@dataclass(kw_only=True)
class ProblemSamples:
    """The answers of all runs to one problem of one task."""

    task: str  # the key of the task's section
    id: str
    question: str | None = None  # the prompt; None where it is unavailable
    texts: Pool = field(default_factory=Pool)
    words: Pool = field(default_factory=Pool)  # verdicts, and remarks about answers
    answers: dict[int, list[Packed]] = field(default_factory=dict)  # number of the run -> answers by (member, draw)
    logprobs: dict[int, list[list[float]]] = field(default_factory=dict)  # number of the run -> (K, O), for multiple choice

    def chunk(self) -> str:
        """The whole problem as JSON, compressed, in base64, as a page holds it. The same content gives the same text."""
        content = {
            "question": self.question,
            "texts": self.texts.texts,
            "words": self.words.texts,
            "answers": {str(run): _columns(rows) for run, rows in sorted(self.answers.items())},
            "logprobs": {str(run): table for run, table in sorted(self.logprobs.items())},
        }
        return packed(json.dumps(content, separators=(",", ":")))

    def passed(self) -> tuple[int, int]:
        """(answers that passed, answers that are right or wrong) of all runs."""
        words = self.words.texts
        verdicts = [words[row[4]] for rows in self.answers.values() for row in rows]
        return verdicts.count("passed"), len(verdicts) - verdicts.count(NOT_GRADED) - verdicts.count(str(Verdict.UNJUDGED))


class SampleBook:
    """All problems, in the order of the runs."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str], ProblemSamples] = {}

    def add(
        self,
        run: int,
        task: str,
        records: Iterable[Record],
        *,
        grades: Mapping[Key, Grade],
        choices: Iterable[Choices] = (),
    ) -> None:
        """Add the answers of the run with the number `run`."""
        for record in sorted(records, key=lambda r: (r.member, r.draw)):
            problem = self._of(task, record.problem)
            problem.answers.setdefault(run, []).append(_packed(problem, record, grades.get(record.key)))
        for row in choices:
            self._of(task, row.problem).logprobs[run] = row.logprobs

    def ask(self, task: str, questions: Mapping[str, str]) -> None:
        """Put the prompts beside the answers, and sort the task's problems in the order of `questions`."""
        for name, question in questions.items():
            if (task, name) in self._problems:
                problem = self._problems.pop((task, name))
                problem.question = question
                self._problems[task, name] = problem

    def problems(self) -> tuple[ProblemSamples, ...]:
        """All problems, task by task."""
        order = list(dict.fromkeys(task for task, _ in self._problems))
        return tuple(sorted(self._problems.values(), key=lambda p: order.index(p.task)))

    def _of(self, task: str, name: str) -> ProblemSamples:
        return self._problems.setdefault((task, name), ProblemSamples(task=task, id=name))


def _packed(problem: ProblemSamples, record: Record, grade: Grade | None) -> Packed:
    graded = problem.texts.place(record.graded.rstrip())
    written = record.reply or record.raw
    raw = -1 if written.rstrip() == record.graded.rstrip() else problem.texts.place(written)
    said = "\n".join(_said(record, grade))
    return (
        record.member,
        record.draw,
        graded,
        raw,
        problem.words.place(NOT_GRADED if grade is None else str(grade.verdict)),
        problem.words.place(said) if said else -1,
        record.tokens,
        -1 if record.choice is None else record.choice,
    )


def _said(record: Record, grade: Grade | None) -> Iterator[str]:
    """Remarks about an answer: why it is missing or failed, the first call that failed, and what is unusual."""
    if record.failure:
        yield f"no answer: {record.failure}"
    if record.note:
        yield record.note
    if record.finish == "length":
        yield "cut by the length limit"
    if grade is None:
        return
    if grade.message and grade.message != record.failure:
        yield grade.message
    if grade.call:
        yield f"{grade.suite + ' tests, ' if grade.suite else ''}first failing call: ({grade.call})"
    if grade.mark:
        yield grade.mark


def _columns(rows: Sequence[Packed]) -> list[list[Any]]:
    """Rows turned into columns, which compress better."""
    return [list(column) for column in zip(*rows, strict=True)]
