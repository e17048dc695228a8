"""Prompts without a right answer: answers are neither right nor wrong, but fall into classes and may have a quality."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.cards.task import TaskCard
from spa_bench.errors import DataError, UsageError
from spa_bench.sandbox import Limits
from spa_bench.support.provenance import hash_file
from spa_bench.support.text import before_stop
from spa_bench.tasks.base import Judge, TaskDefaults, has_text
from spa_bench.tasks.judgement import Judgement
from spa_bench.tasks.open_ended.asking import (
    QUALITY,
    SAME,
    Appraiser,
    JudgeModel,
    Question,
    fill,
    rating,
    read_template,
    yes_or_no,
)
from spa_bench.tasks.open_ended.options import OpenOptions
from spa_bench.tasks.open_ended.partition import Pair, in_rounds, name_of
from spa_bench.tasks.open_ended.prompts import read_prompts
from spa_bench.tasks.open_ended.tables import read_classes, read_scores, values_for
from spa_bench.tasks.prompting import prompts_of, stops_of
from spa_bench.types import Behaviour, Choices, Completion, Grade, Key, Problem, Prompt, Record, Verdict

NO_TEXT, UNREAD = "no text", "no verdict"  # marks of grades
_NOT_COMPARING = {"prompts", "continued", "classes_hash", "scores_hash", "judge_settings"}  # options that compare no answers
_MANY = 20  # replies of a judge, after which it is hopeless if none holds a verdict


@dataclass(frozen=True, kw_only=True)
class Appraised:
    """What is known of one answer beside the others to its problem."""

    place: int  # the number of its class, from 0 by first appearance
    classes: int  # of the problem
    digest: str  # 16 hex digits that name its class
    quality: float | None  # 1 to 10; None: not judged, or the judge's reply holds none
    unread: bool = False  # whether a reply about it holds no verdict


class OpenTask(TaskDefaults):
    """See spa_bench.tasks.base.TextsTask. Prompts of "auto" are to be continued until a model is known."""

    runs_code = False
    packages: tuple[str, ...] = ()
    file = ""  # the prompts' place is among the options

    def __init__(self, card: TaskCard, problems: Sequence[Problem], found: str):
        if card.prompt == "auto":  # see runs.job.with_prompts
            card = replace(card, prompt="completion")
        self.name, self.version, self.found = card.name, card.version, found
        self.problems = tuple(problems)
        self.limits = Limits(memory_mb=card.memory_mb)
        self._card, self._options = card, card.options_as(OpenOptions)
        self._instruct = card.prompt == "instruct"
        self._stop = stops_of(card)
        self._by_id = {p.id: p for p in self.problems}
        self._templates = {
            asks: read_template(name, asks)
            for asks, name, used in (
                (SAME, self._options.same_template, self._options.equivalence == "judge"),
                (QUALITY, self._options.quality_template, self._options.quality == "judge"),
            )
            if used
        }

    @cached_property
    def _hashes(self) -> dict[str, Any]:
        """The hashes of the files about answers. Raises DataError where the card pins another one."""
        found: dict[str, Any] = {}
        for what in ("classes", "scores"):
            if not (path := getattr(self._options, what)):
                continue
            try:
                found[f"{what}_hash"] = here = hash_file(Path(path))
            except OSError as error:
                raise DataError(f"cannot read the {what} in {path}: {error.strerror}") from error
            pinned = getattr(self._options, f"{what}_hash")
            if pinned and pinned != here:
                raise DataError(f"{path} holds other {what} (hash {here}) than those of the card or the run ({pinned})")
        return found

    def describe(self) -> dict[str, object]:
        """The card without places, the hashes of files about answers, and a hash of prompts and of how answers are compared.

        Runs whose answers are compared in another way are of other problems: their classes are not comparable.
        """
        options = asdict(replace(self._options.bare(), **self._hashes))
        silent = {"file", "description", "shuffle", "stratify"}
        card = {k: v for k, v in asdict(self._card).items() if k not in silent}
        comparing = {k: v for k, v in options.items() if k not in _NOT_COMPARING}
        digest = hashlib.blake2b(digest_size=16)
        for problem in self.problems:
            digest.update(json.dumps([problem.id, problem.prompt, problem.tags]).encode())
        digest.update(json.dumps([comparing, self._templates], sort_keys=True).encode())
        return {**card, "options": options, "problems_hash": digest.hexdigest(), "problems_n": len(self.problems)}

    # prompts

    def prompts(self, limit: int | None) -> list[Prompt]:
        """Prompts of the first `limit` problems."""
        return prompts_of(self._card, self.problems[:limit], self.question)

    def question(self, problem: Problem) -> str:
        """The text that a model continues."""
        return fill(self._options.continued, {"prompt": problem.prompt})

    # answers

    def record(self, completion: Completion) -> Record:
        """The completion, cut at the card's stop strings and without white space around it."""
        text = completion.text if completion.whole else before_stop(completion.text, self._stop)
        return Record.of(completion, text.strip(), whole=completion.whole or self._instruct)

    def cut(self, text: str) -> str:
        """`text` before its first stop string, without trailing white space."""
        return before_stop(text, self._stop).rstrip()

    def program(self, record: Record) -> str:
        """The text that is compared."""
        return record.graded

    def score(self, records: Sequence[Record], judge: Judge | None, choices: Sequence[Choices] = ()) -> Iterator[Grade]:
        """A grade for each record, in order: never right or wrong, with the quality where it is judged.

        Raises DataError as `appraise`.
        """
        known = self._appraise(records, judge)
        for record in records:
            key, one = record.key._asdict(), known.get(record.key)
            if one is None:
                said = record.failure or "the answer is empty"
                yield Grade(**key, verdict=Verdict.UNJUDGED, message=said, mark="" if record.failure else NO_TEXT)
                continue
            place = f"class {one.place + 1} of {one.classes}" + (f", quality {one.quality:g}" if one.quality else "")
            yield Grade(**key, verdict=Verdict.UNJUDGED, message=place, mark=UNREAD if one.unread else "", quality=one.quality)

    def behave(self, records: Sequence[Record], judge: Judge | None, choices: Sequence[Choices] = ()) -> Iterator[Behaviour]:
        """The class of each record as a digest, in order; none where there is no text. Raises DataError as `appraise`."""
        known = self._appraise(records, judge)
        for record in records:
            one = known.get(record.key)
            digest = one.digest if one else ""
            yield Behaviour(**record.key._asdict(), digest=digest, ran=one is not None, right=0, probes=0)

    def _appraise(self, records: Sequence[Record], judge: object) -> dict[Key, Appraised]:
        """`appraise` of the problems of `records`, with all answers to them that the run has."""
        appraiser = judge if isinstance(judge, Appraiser) else None
        wanted = {r.problem for r in records}
        everyone = [r for r in (appraiser.records if appraiser else records) if r.problem in wanted]
        return self.appraise(everyone, appraiser)

    def appraise(self, records: Sequence[Record], appraiser: Appraiser | None) -> dict[Key, Appraised]:
        """Class and quality of each of `records` that has a text; these must be all answers to their problems.

        Raises DataError for a file that has no value for an answer, and where too many replies of the judge hold no verdict.
        """
        answered = sorted((r for r in records if has_text(r)), key=lambda r: (r.member, r.draw))
        mine: dict[str, list[Record]] = {}
        for record in answered:
            mine.setdefault(record.problem, []).append(record)
        labels, doubtful = self._labels(mine, appraiser)
        qualities, without = self._qualities(mine, appraiser)
        found: dict[Key, Appraised] = {}
        for problem, some in mine.items():
            numbers: dict[str, int] = {}
            for label in labels[problem]:
                numbers.setdefault(label, len(numbers))
            for record, label, quality in zip(some, labels[problem], qualities[problem], strict=True):
                named = (problem, name_of(record.graded))
                found[record.key] = Appraised(
                    place=numbers[label],
                    classes=len(numbers),
                    digest=label,
                    quality=quality,
                    unread=named in doubtful or named in without,
                )
        return found

    def _labels(
        self, mine: Mapping[str, Sequence[Record]], appraiser: Appraiser | None
    ) -> tuple[dict[str, list[str]], set[tuple[str, str]]]:
        """(problem -> the digest of each answer's class, the answers about which a reply held no verdict)."""
        texts = {problem: [r.graded for r in some] for problem, some in mine.items()}
        names = {problem: [name_of(text) for text in some] for problem, some in texts.items()}
        how = self._options.equivalence
        if how == "exact":
            return names, set()
        if how == "file":
            path = Path(self._options.classes)
            table = read_classes(path, list(self._by_id))
            given = iter(values_for([r for some in mine.values() for r in some], table, path, "class"))
            return {problem: [_digest(next(given)) for _ in some] for problem, some in mine.items()}, set()
        doubtful: set[tuple[str, str]] = set()
        replies: list[Judgement] = []
        if how == "embedding":
            vectors = self._vectors(texts, appraiser)

            def same(pairs: Sequence[Pair]) -> list[bool]:
                return [
                    float(vectors[p.problem][p.first] @ vectors[p.problem][p.other]) >= self._options.threshold for p in pairs
                ]
        else:

            def same(pairs: Sequence[Pair]) -> list[bool]:
                said = self._ask([self._same(pair, texts[pair.problem]) for pair in pairs], appraiser)
                replies.extend(said)
                self._check_hopeless(replies)
                doubtful.update((one.problem, one.second) for one in said if not one.said)
                return [one.said == "yes" for one in said]

        classes = in_rounds(texts, same)
        self._check_read(replies)
        firsts = {problem: _firsts(classes[problem], names[problem]) for problem in texts}
        return {problem: [firsts[problem][c] for c in each] for problem, each in classes.items()}, doubtful

    def _vectors(self, texts: Mapping[str, Sequence[str]], appraiser: Appraiser | None) -> dict[str, list[np.ndarray]]:
        """Problem -> the embedding of each answer, of length 1, float64."""
        flat = [text for some in texts.values() for text in some]
        rows = [np.asarray(v, np.float64) for v in _needed(appraiser).vectors(flat, self._options.embedder)]
        unit = iter([row / np.linalg.norm(row) for row in rows])
        return {problem: [next(unit) for _ in some] for problem, some in texts.items()}

    def _same(self, pair: Pair, texts: Sequence[str]) -> Question:
        first, second = texts[pair.first], texts[pair.other]
        values = {"prompt": self._by_id[pair.problem].prompt, "first": first, "second": second}
        return Question(
            problem=pair.problem,
            asks=SAME,
            first=name_of(first),
            second=name_of(second),
            draw=pair.other,
            text=fill(self._templates[SAME], values),
            read=yes_or_no,
        )

    def _qualities(
        self, mine: Mapping[str, Sequence[Record]], appraiser: Appraiser | None
    ) -> tuple[dict[str, list[float | None]], set[tuple[str, str]]]:
        """(problem -> the quality of each answer, the answers whose quality was judged in vain)."""
        how = self._options.quality
        if how == "none":
            return {problem: [None] * len(some) for problem, some in mine.items()}, set()
        if how == "file":
            path = Path(self._options.scores)
            table = read_scores(path, list(self._by_id))
            given = iter(values_for([r for some in mine.values() for r in some], table, path, "score"))
            return {problem: [next(given) for _ in some] for problem, some in mine.items()}, set()
        questions: dict[tuple[str, str], Question] = {}
        for problem, some in mine.items():
            for draw, record in enumerate(some):
                name = name_of(record.graded)
                values = {"prompt": self._by_id[problem].prompt, "answer": record.graded}
                text = fill(self._templates[QUALITY], values)
                one = Question(problem=problem, asks=QUALITY, first=name, second="", draw=draw, text=text, read=rating)
                questions.setdefault((problem, name), one)
        replies = self._ask(list(questions.values()), appraiser)
        self._check_read(replies)
        said = {(one.problem, one.first): float(one.said) if one.said else None for one in replies}
        found = {problem: [said[problem, name_of(r.graded)] for r in some] for problem, some in mine.items()}
        return found, {name for name, number in said.items() if number is None}

    def _ask(self, questions: Sequence[Question], appraiser: Appraiser | None) -> list[Judgement]:
        """The judge's reply to each question, in order."""
        if not questions:
            return []
        options = self._options
        by = JudgeModel(
            name=options.judge, engine=options.judge_engine, settings=options.judge_settings, tokens=options.judge_tokens
        )
        return _needed(appraiser).judgements(questions, by)

    def _check_hopeless(self, replies: Sequence[Judgement]) -> None:
        """`_check_read` in the middle of the work, where no reply of many holds a verdict."""
        if len(replies) >= _MANY and not any(one.said for one in replies):
            self._check_read(replies)

    def _check_read(self, replies: Sequence[Judgement]) -> None:
        """Raises DataError where too many of `replies` hold no verdict."""
        unread, most = [one for one in replies if not one.said], self._options.most_unread
        if len(unread) > most * len(replies):
            raise DataError(
                f"{len(unread)} of {len(replies)} replies of the judge hold no verdict ({unread[0].asks}), more than the "
                f"share of {most:g} that options.most_unread allows; the first is {unread[0].reply[:60]!r} "
                f"(judgements.jsonl has them all): take another judge or template"
            )


def _needed(appraiser: Appraiser | None) -> Appraiser:
    """`appraiser`. Raises UsageError where there is none: the task was called without a run."""
    if appraiser is None:
        raise UsageError("answers are compared by a model, which only grading a run can ask: use `spa-bench grade` or `score`")
    return appraiser


def _firsts(classes: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    """Class -> the name of its first answer."""
    firsts: dict[int, str] = {}
    for number, name in zip(classes, names, strict=True):
        firsts.setdefault(number, name)
    return firsts


def _digest(label: str) -> str:
    return hashlib.blake2b(f"class\0{label}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def build(card: TaskCard) -> OpenTask:
    """The task of `card`, with its prompts loaded. Raises DataError or CardError."""
    problems, found = read_prompts(card.options_as(OpenOptions).prompts)
    return OpenTask(card, problems, found)
