"""Code benchmarks in HumanEval's shape: continue a function; tests are code (check(candidate)) or data (suites of calls)."""

from __future__ import annotations

import hashlib
import json
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from spa_bench.cards.guard import as_problems, checked_problems, guarded
from spa_bench.cards.kinds import Kind
from spa_bench.cards.registry import is_ours, kind_of
from spa_bench.cards.task import TaskCard
from spa_bench.errors import DataError, UsageError
from spa_bench.grading.base import Calls, Check, Program
from spa_bench.sandbox import Limits
from spa_bench.support.files import unpacked
from spa_bench.support.text import before_stop, shortened
from spa_bench.support.user_json import read_json
from spa_bench.tasks import sanitiser
from spa_bench.tasks.answer_text import before_fence
from spa_bench.tasks.base import Judge, TaskDefaults, TaskKind, has_text
from spa_bench.tasks.prompting import prompts_of, stops_of
from spa_bench.types import Behaviour, Choices, Completion, Grade, Problem, Prompt, Record, Verdict

Sanitise = Callable[[str, str, str, Sequence[str]], tuple[str, bool]]
"""(prompt that the answer continues, or ""; answer; entry point; stop strings) -> (text to grade, whether it is a whole
program)."""
_OF_INSTRUCT = {"instruction", "response", "stop_instruct"}


@dataclass(frozen=True, kw_only=True)
class SanitiserKind(Kind[Callable[[], Sanitise]]):
    """A kind of sanitiser. `build` makes one; raises DataError when what it needs is not installed."""

    table = "sanitiser"


@dataclass(frozen=True, kw_only=True)
class ProblemsKind(Kind[Callable[[TaskCard], tuple[list[Problem], str]]]):
    """A kind of problems. `build` gives those of a card, and where they were found."""

    table = "problems"


def as_cut() -> Sanitise:
    """The sanitiser that gives what is before the first stop string and before a closing fence."""
    return lambda prompt, answer, entry_point, stops: (before_fence(before_stop(answer, stops).rstrip()), not prompt)


def as_program() -> Sanitise:
    """The default sanitiser; see spa_bench.tasks.sanitiser.program."""
    return sanitiser.program


class CodeTask(TaskDefaults):
    """See spa_bench.tasks.base.Task. `found` names the source of the problems. Prompts of "auto" are to be continued."""

    runs_code = True

    def __init__(self, card: TaskCard, problems: Sequence[Problem], found: str):
        if card.prompt == "auto":  # before a model is known; see runs.job.with_prompts
            card = replace(card, prompt="completion")
        self.name, self.version, self.found = card.name, card.version, found
        self.limits, self.packages = Limits(memory_mb=card.memory_mb), card.packages
        self.file = str(Path(card.file).resolve()) if card.file else ""
        self.problems = as_problems(problems, f"task {card.name!r}")
        self._card = card
        self._instruct = card.prompt == "instruct"
        self._stop = stops_of(card)
        self._by_id = {p.id: p for p in self.problems}

    def describe(self) -> dict[str, object]:
        """The card, and the hash over ids, prompts and tests; the place of the data is not part of it."""
        digest = hashlib.blake2b(digest_size=16)
        for p in self.problems:
            suites = [[s.name, s.oracle, s.atol, s.identity] for s in p.suites]
            tests = [p.tests] if not suites else [p.reference, suites]
            digest.update(json.dumps([p.id, p.prompt, *tests, p.entry_point]).encode())
        silent = {"file", "description", "options", "sha256", "shuffle", "stratify", *(() if self._instruct else _OF_INSTRUCT)}
        card = {k: v for k, v in asdict(self._card).items() if k not in silent}
        return {**card, "problems_hash": digest.hexdigest(), "problems_n": len(self.problems)}

    def prompts(self, limit: int | None) -> list[Prompt]:
        """Prompts of the first `limit` problems. Raises DataError when the sanitiser of the answers is not installed."""
        _ = self._sanitise  # a missing package is reported before anything is drawn
        return prompts_of(self._card, self.problems[:limit], self.question, program=True)

    @cached_property
    def _sanitise(self) -> Sanitise:
        return kind_of(SanitiserKind, "sanitiser", self._card.sanitiser).build()

    def question(self, problem: Problem) -> str:
        """The prompt that a model continues, which also stands before the answer in the program."""
        return problem.prompt.strip() + "\n" if self._card.strip_prompt else problem.prompt

    def record(self, completion: Completion) -> Record:
        """The completion as the card's sanitiser makes it, which cuts it at stop strings unless it is a whole program.

        Trailing white space is dropped. An answer to messages is a whole program.
        """
        return self._recorded(completion, self._sanitise)

    def _recorded(self, completion: Completion, sanitise: Sanitise) -> Record:
        graded, whole = completion.text.rstrip(), completion.whole or self._instruct
        if graded and not completion.failure:
            problem = self._by_id[completion.key.problem]
            stops = () if completion.whole else self._stop
            graded, whole = sanitise("" if whole else self.question(problem), graded, problem.entry_point, stops)
        return Record.of(completion, graded, whole=whole)

    def cut(self, text: str) -> str:
        """`text` before its first stop string, without trailing white space."""
        return before_stop(text, self._stop).rstrip()

    def program(self, record: Record) -> str:
        """The program without its tests."""
        return record.graded if record.whole else self.question(self._by_id[record.problem]) + record.graded

    def score(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices] = ()) -> Iterator[Grade]:
        """Verdicts; equal programs of a problem run once. An answer without text is refused, not run."""
        for record in records:
            if not has_text(record):
                yield Grade(**record.key._asdict(), verdict=Verdict.REFUSED, message=record.failure or "the answer is empty")
        same = self._same_programs(records)
        jobs = list(same)
        for index, found in judge.run([self._tested(problem, source) for problem, source in jobs]):
            for record in same[jobs[index]]:
                yield Grade(
                    **record.key._asdict(),
                    verdict=found.verdict,
                    message=found.message,
                    call=found.call,
                    suite=found.suite,
                    mark=found.mark,
                )

    def behave(self, records: Sequence[Record], judge: Judge, choices: Sequence[Choices] = ()) -> Iterator[Behaviour]:
        """What each record's program does on the probes of its problem; equal programs of a problem run once.

        Where an answer has no text or the problem has no probes, nothing runs and the digest is empty.
        """
        for record in records:
            if not has_text(record):
                yield Behaviour(**record.key._asdict(), digest="", ran=False, right=0, probes=0)
        same = self._same_programs(records)
        jobs = list(same)
        for index, did in judge.behaviours([self._tested(problem, source) for problem, source in jobs]):
            for record in same[jobs[index]]:
                yield Behaviour(**record.key._asdict(), digest=did.digest, ran=did.ran, right=did.right, probes=did.probes)

    def _same_programs(self, records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
        """Records by (problem, program), without those that have no text."""
        same: dict[tuple[str, str], list[Record]] = {}
        for record in filter(has_text, records):
            same.setdefault((record.problem, self.program(record)), []).append(record)
        return same

    def _tested(self, problem_id: str, source: str) -> Program:
        """The program with its tests."""
        problem = self._by_id[problem_id]
        reference = problem.prompt + problem.reference
        tests = Calls(problem.suites, reference) if problem.suites else Check(problem.tests, reference, self._card.one_process)
        name = unicodedata.normalize("NFKC", problem.entry_point)  # as Python reads names
        return Program(source=source, entry_point=name, tests=tests, problem=problem.id, seconds=self._card.seconds)


def build(card: TaskCard) -> CodeTask:
    """The task of `card`, with its problems loaded. Raises UsageError for code of the user's that does not give problems."""
    source = kind_of(ProblemsKind, "problems", card.problems).build
    if is_ours("problems", card.problems):
        return CodeTask(card, *source(card))
    where = f"problems {card.problems!r}"
    with guarded(where):
        made: object = source(card)
    if not isinstance(made, tuple) or len(made) != 2:
        raise UsageError(f"{where} gave {made!r}; it must give a pair: the problems, and where they were found")
    problems, found = made
    return CodeTask(card, checked_problems(problems, where), str(found))


KIND = TaskKind(build=build)


def problems_from_file(card: TaskCard) -> tuple[list[Problem], str]:
    """(problems of a HumanEval-shaped .jsonl or .jsonl.gz, their source)."""
    return read_problems(Path(card.file), card), card.file


def read_rows(path: Path, card: TaskCard | None = None) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(`FILE, line N`, row, text of the line) of each object in a .jsonl or .jsonl.gz.

    Raises DataError naming the line, or both hashes when the decompressed content is not what `card` pins.
    """
    if path == Path():
        raise DataError('the card names no file of problems; it needs file = "problems.jsonl"')
    try:
        raw = unpacked(path)
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"cannot read the problems in {path}: {error}") from error
    if card is not None:
        _check_hash(raw, path, card)
    seen = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        row = read_json(line, place)
        if not isinstance(row, dict):
            raise DataError(f"{place} is {shortened(line.strip(), 40)}; each line is one problem, an object such as {{...}}")
        _check_texts(place, row, ("task_id",))
        if row["task_id"] in seen:
            raise DataError(f"{place} repeats the task id {row['task_id']!r}")
        seen.add(row["task_id"])
        yield place, row, line
    if not seen:
        raise DataError(f"{path} holds no problems")


def _check_texts(place: str, row: Mapping[str, object], keys: Sequence[str]) -> None:
    """Raises DataError for the first of `keys` that the row lacks, or whose value is no text."""
    for key in keys:
        if row.get(key) is None:
            raise DataError(f"{place} lacks the text {key!r}")
        if not isinstance(row[key], str):
            raise DataError(f"{place} has {key!r} = {shortened(repr(row[key]), 60)}; it must be a text")


def _check_hash(raw: bytes, path: Path, card: TaskCard) -> None:
    pinned = (card.sha256,) if isinstance(card.sha256, str) else card.sha256
    found = hashlib.sha256(raw).hexdigest()
    if "" in pinned or found in pinned:
        return
    rows = sum(bool(line.strip()) for line in raw.split(b"\n"))
    raise DataError(
        f"{path} is not the data that task {card.name} {card.version} pins: it has {rows} problems and sha256 {found}, not "
        f"{' or '.join(pinned)}; find that version, or say which one this is: --set task.sha256={found} "
        f'--set task.version=NAME (--set task.sha256="" takes any)'
    )


def read_problems(path: Path, card: TaskCard | None = None) -> list[Problem]:
    """Rows of task_id, prompt, entry_point, test and, if known, canonical_solution. Raises DataError as read_rows."""
    problems = []
    for place, row, _ in read_rows(path, card):
        _check_texts(place, row, ("prompt", "entry_point", "test"))
        reference, tags = row.get("canonical_solution") or "", row.get("tags") or []
        if not isinstance(reference, str):
            raise DataError(f"{place}: 'canonical_solution' is no text")
        if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
            raise DataError(f"{place}: 'tags' is no list of texts")
        problems.append(
            Problem(
                id=row["task_id"],
                prompt=row["prompt"],
                reference=reference,
                tests=row["test"],
                entry_point=row["entry_point"],
                tags=tuple(tags),
            )
        )
    return problems
