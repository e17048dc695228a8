"""Grades many programs at once: each core has a worker process (worker.py) with a sandbox of its own."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spa_bench.errors import DataError, UsageError
from spa_bench.grading import pieces, probes, references
from spa_bench.grading.base import Behaved, Calls, Check, Grading, Outcome, Program
from spa_bench.grading.sessions import Sessions
from spa_bench.grading.suites import SuiteFiles, count_frames, key
from spa_bench.sandbox.base import Limits, Sandbox
from spa_bench.types import CallSuite, Verdict

_EVALPLUS_FRAMES = 29 - 8  # Python frames below a call in evalplus' workers, less those in ours: depth that programs lack there
_LOAD_SECONDS = 10.0  # CPU time of what a program does before the first call of a suite
Progress = Callable[[int, int], None]  # called with (done, total)
Outcomes = Iterator[tuple[int, Outcome]]  # index into the programs, and how that one ended


@dataclass(frozen=True, kw_only=True)
class Grader:
    """Runs programs in a sandbox and judges them."""

    sandbox: Sandbox
    cache: Path  # where suites are kept, with what references return
    grading: Grading = Grading.DEFAULT
    workers: int = 2
    limits: Limits = field(default_factory=Limits)
    packages: tuple[str, ...] = ("numpy",)  # distributions that programs may import
    progress: Progress = lambda done, total: None  # of the references, which run first
    tell: Callable[[str], None] = lambda line: None  # is told which references do not pass their own tests
    _times: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _keys: dict[tuple[str, ...], str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _sessions: Sessions = field(default_factory=Sessions, init=False, repr=False, compare=False)

    @contextlib.contextmanager
    def kept(self) -> Iterator[Grader]:
        """This grader; inside the block its workers wait for the next programs, where they end with each call elsewhere."""
        with self._sessions.kept():
            yield self

    def run(self, programs: Sequence[Program]) -> Outcomes:
        """Outcomes in the order in which programs end, every index exactly once. An outcome depends on its program alone.

        The references of suites that are new on this machine run first. While the caller does not ask for the next outcome,
        only the programs already handed out run; closing the iterator ends them. Raises SandboxError when a sandbox does not
        start, DataError when a reference does not run.
        """
        self._check_workers()
        if doubts := self.doubts(programs):
            self.tell(references.said(doubts, len({program.problem for program in programs})))
        jobs = [self._job(program) for program in programs]
        again: list[int] = []
        for index, answer in self._in_pieces(jobs):
            if answer is None or "broken" in answer:
                again.append(index)
            else:
                yield index, _outcome(answer)
        self.prepare([programs[index] for index in again])
        for place, answer in self._execute([jobs[index] for index in again]):
            if "broken" in answer:
                raise DataError(
                    f"the suite {answer['broken']} in {self._folder} cannot be read, a second time: remove the folder"
                )
            yield again[place], _outcome(answer)

    def _in_pieces(self, jobs: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """The answers to jobs, None where one must run again in one piece. Jobs that would be the last by far are split."""
        expected = [self._expected_seconds(job) for job in jobs]
        share = max(pieces.LEAST_SECONDS, sum(expected) / self.workers)
        work: list[tuple[float, int, int, dict[str, Any]]] = []  # (seconds, job, piece, what to do)
        wholes: dict[int, pieces.Whole] = {}
        for index, (job, seconds) in enumerate(zip(jobs, expected, strict=True)):
            parts = [job]
            if self._is_split(job, seconds, share):
                times = [SuiteFiles(self._folder, place["key"]).read_times() for place in job["suites"]]
                parts = pieces.split(job, times, min(self.workers, math.ceil(seconds / share)))
                wholes[index] = pieces.Whole(len(parts))
            work += [(seconds / len(parts), index, place, part) for place, part in enumerate(parts)]
        # the longest first, so that no worker waits long for another one at the end
        work.sort(key=lambda entry: -entry[0])
        for at, answer in self._execute([entry[-1] for entry in work]):
            _, index, place, _ = work[at]
            if "broken" in answer:
                SuiteFiles(self._folder, answer["broken"]).remove()
            if index not in wholes:
                yield index, answer
            else:
                for whole in wholes[index].add(place, answer):
                    yield index, whole

    def _is_split(self, job: dict[str, Any], seconds: float, share: float) -> bool:
        """Whether a job takes longer than a worker's share of everything, and pieces of it give the verdict of the whole."""
        right = self.grading is Grading.DEFAULT and self.workers > 1 and seconds > share
        return right and pieces.keeps_nothing(job["source"])

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        """What each program does on the probes of its problem (probes.py), in the order of ending, every index exactly once.

        A behaviour depends on its program alone; equal programs run once. The probes of problems that are new on this machine
        are found first. A program whose problem has no probes does not run. Raises SandboxError when a sandbox does not start.
        """
        self._check_workers()
        keys = [self._probes_key(program) for program in programs]
        counts = self._find_probes(dict(zip(keys, programs, strict=True)))
        same: dict[str, list[int]] = {}
        for index, (name, program) in enumerate(zip(keys, programs, strict=True)):
            if not counts[name]:
                yield index, Behaved()
                continue
            job = {"do": "behave", "key": name, "source": program.source, "seconds": program.seconds}
            job |= self._probe_settings(program, program.source)
            same.setdefault(json.dumps(job), []).append(index)
        # programs of one problem follow each other, because a sandbox keeps the probes of a few problems only
        jobs = sorted((json.loads(job) for job in same), key=lambda job: str(job["key"]))
        for place, answer in self._execute(jobs):
            for index in same[json.dumps(jobs[place])]:
                yield index, Behaved(**answer)

    def _probes_key(self, program: Program) -> str:
        tests, suite = program.tests, ""
        if isinstance(tests, Calls) and tests.suites:
            suite = self._key(tests.suites[0], tests.reference, program.entry_point)
        return probes.probes_key(tests, program.entry_point, suite)

    def _probe_settings(self, program: Program, source: str) -> dict[str, Any]:
        tests = program.tests
        text = source + (tests.reference if isinstance(tests, Calls) else tests.source)
        shared = {**self._settings(text), "cache": str(self._probes_folder), "entry_point": program.entry_point}
        return {**shared, **probes.settings(tests)}

    def _find_probes(self, wanted: dict[str, Program]) -> dict[str, int]:
        """The number of probes of each problem, by key. Probes that are not in the cache are found."""
        counts = {name: probes.known(self._probes_folder, name) for name in wanted}
        missing = [name for name in wanted if not counts[name]]
        jobs = []
        for name in missing:
            program = wanted[name]
            if isinstance(program.tests, Calls):
                with _cache_errors(self._probes_folder):
                    probes.write_inputs(self._probes_folder, name, program.tests)
            job = {"do": "probes", "key": name, "seconds": program.seconds, **probes.measuring(program.tests)}
            jobs.append({**job, **self._probe_settings(program, job["source"])})
        for done, (index, answer) in enumerate(self._execute(jobs), 1):
            self.progress(done, len(jobs))
            counts[missing[index]] = answer["probes"]
        return counts

    def _check_workers(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers={self.workers}; at least 1 is needed")

    def prepare(self, programs: Sequence[Program]) -> None:
        """Complete all suites in the cache. Raises DataError for a reference solution that does not run in the sandbox."""
        wanted: dict[str, tuple[Program, CallSuite, str]] = {}
        for program in programs:
            if isinstance(program.tests, Calls):
                reference = program.tests.reference
                for suite in program.tests.suites:
                    wanted.setdefault(self._key(suite, reference, program.entry_point), (program, suite, reference))
        missing = {name: parts for name, parts in wanted.items() if not self._is_complete(name)}
        jobs = []
        for name, (program, suite, reference) in missing.items():
            with _cache_errors(self._folder):
                SuiteFiles(self._folder, name).write_inputs(suite)
            shared = {"key": name, "oracle": suite.oracle, "entry_point": program.entry_point}
            jobs.append({"do": "reference", "source": reference, **shared, **self._settings(reference)})
        named = [program.problem for program, *_ in missing.values()]
        for done, (index, answer) in enumerate(self._execute(jobs), 1):
            self.progress(done, len(jobs))
            if answer.get("failed") or answer.get("verdict"):
                why = answer.get("failed") or answer["message"]
                raise DataError(f"the reference solution of {named[index]} does not run in the sandbox: {why}")

    def doubts(self, programs: Sequence[Program]) -> dict[str, str]:
        """The problems whose reference does not pass its own tests, with the reason, in the order of `programs`.

        References that nobody ran yet on this machine run. Raises as `run`.
        """
        self.prepare(programs)
        first: dict[str, Program] = {}
        for program in programs:
            first.setdefault(program.problem, program)
        place = (self.sandbox.name, asdict(self.limits), self.packages)
        paths = {
            problem: references.path_of(self.cache / "references", program, place)
            for problem, program in first.items()
            if references.has_reference(program)
        }
        found = {problem: references.known(path) for problem, path in paths.items()}
        missing = [problem for problem, doubt in found.items() if doubt is None]
        jobs = [self._job(replace(first[name], source=_helpers(first[name]))) for name in missing]
        with _cache_errors(self.cache):
            for index, answer in self._execute(jobs):
                found[missing[index]] = references.keep(paths[missing[index]], _outcome(answer))
        for problem, program in first.items():
            if isinstance(program.tests, Calls):
                keys = [self._key(suite, program.tests.reference, program.entry_point) for suite in program.tests.suites]
                found[problem] = next(filter(None, (SuiteFiles(self._folder, name).doubt() for name in keys)), "")
        return {problem: doubt for problem in first if (doubt := found.get(problem))}

    def _is_complete(self, name: str) -> bool:
        files = SuiteFiles(self._folder, name)
        if not files.complete():
            return False
        if files.count(count_frames) is None:
            files.remove()
            return False
        return True

    def _key(self, suite: CallSuite, reference: str, entry_point: str) -> str:
        known = (suite.name, suite.identity, reference, entry_point)
        if not suite.identity:
            return key(suite, reference, entry_point)
        if known not in self._keys:
            self._keys[known] = key(suite, reference, entry_point)
        return self._keys[known]

    @property
    def _folder(self) -> Path:
        return self.cache / "suites"

    @property
    def _probes_folder(self) -> Path:
        return self.cache / "probes"

    def _settings(self, text: str) -> dict[str, Any]:
        fixed = {"load_seconds": _LOAD_SECONDS, "memory_mb": self.limits.memory_mb, "grading": str(self.grading)}
        fixed["recursion"] = 1000 - (_EVALPLUS_FRAMES if self.grading is Grading.EVALPLUS else 0)
        return {"cache": str(self._folder), "numpy": "numpy" in text, **fixed}

    def _job(self, program: Program) -> dict[str, Any]:
        tests = program.tests
        job = {"source": program.source, "entry_point": program.entry_point, "seconds": program.seconds}
        if isinstance(tests, Calls):
            places = [
                {"name": s.name, "key": self._key(s, tests.reference, program.entry_point), "oracle": s.oracle, "atol": s.atol}
                for s in tests.suites
            ]
            return {**job, "do": "calls", "suites": places, **self._settings(program.source + tests.reference)}
        code = {"tests": tests.source, "helpers": tests.helpers, "one_process": tests.one_process}
        return {**job, "do": "check", **code, **self._settings(program.source + tests.source)}

    def _expected_seconds(self, job: dict[str, Any]) -> float:
        """The seconds that a right program takes; 0 where they are unknown."""
        return sum(self._seconds(place["key"]) for place in job.get("suites", ()))

    def _seconds(self, name: str) -> float:
        if name not in self._times:
            self._times[name] = sum(SuiteFiles(self._folder, name).read_times())
        return self._times[name]

    def _execute(self, jobs: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from self._sessions.answers(jobs, self.workers, self.sandbox.name, self._config)

    def _config(self, scratch: str) -> str:
        return json.dumps(
            {
                "command": self.sandbox.command(self.limits, self.packages, scratch),
                "cgroup": self.sandbox.cgroup,
                "inherit_environment": self.sandbox.name == "docker",
                "limits": asdict(self.limits),
                "grading": str(self.grading),
                "scratch": scratch,
            }
        )


def _helpers(program: Program) -> str:
    return program.tests.helpers if isinstance(program.tests, Check) else ""


@contextlib.contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    """Raise UsageError where the block cannot write the cache."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write the cache {folder}: {error.strerror}; set SPA_BENCH_CACHE to a folder of yours"
        ) from error


def _outcome(answer: dict[str, Any]) -> Outcome:
    return Outcome(**{**answer, "verdict": Verdict(answer["verdict"])})
