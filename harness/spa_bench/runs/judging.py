"""Programs judged in workers: each runs shards of programs in a sandbox on its own machine, and the driver alone writes.

Grading needs no model. Where workers hold one they grade too; `grade` and `score` have workers that hold nothing.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Protocol, TypeVar, cast

from spa_bench.errors import SandboxError
from spa_bench.executors.base import Workers
from spa_bench.executors.options import ExecutorOptions, begin
from spa_bench.executors.pool import Pool
from spa_bench.grading import Behaved, Calls, Grader, Grading, Outcome, Program
from spa_bench.grading.references import said
from spa_bench.models.base import Model
from spa_bench.models.spread import SpreadModel, own_name
from spa_bench.sandbox import Limits, choose
from spa_bench.support import provenance
from spa_bench.support.cache import own_cache
from spa_bench.tasks.base import Task
from spa_bench.types import CallSuite

Found = TypeVar("Found")
_PROGRAMS = (16, 512)  # of a shard, fewest and most: a shard is what a worker that dies loses, and each starts sandboxes again
_SHARDS = 4  # for each worker, where there are enough programs


class Keeps(Protocol):
    """The part of what a worker holds that grading needs; see spa_bench.models.spread.Station."""

    kept: dict[str, object]


@dataclass
class Bench:
    """What a worker holds that only grades."""

    kept: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Graders:
    """Workers that grade."""

    workers: Workers[Keeps]
    programs: int  # that each runs at once


StartGraders = Callable[[], Graders]


def graders_of(model: Model, programs: int | None) -> StartGraders | None:
    """The workers that hold `model`, each to run `programs` at once, or as many as it has cores; None for one process."""
    if not isinstance(model, SpreadModel):
        return None
    spread = model
    return lambda: Graders(spread.workers, programs or spread.cores)


@contextmanager
def own_graders(options: ExecutorOptions, programs: int | None, tell: Callable[[str], None]) -> Iterator[StartGraders | None]:
    """Workers that hold nothing, which start when they are asked for and end behind the block; None for one process.

    Raises UsageError, when they start, for what cannot be had.
    """
    if options.alone:
        yield None
        return
    with ExitStack() as stack:

        @cache
        def start() -> Graders:
            started = begin(options, "cpu", programs, gpus=tuple, tell=tell)
            pool = stack.enter_context(closing(Pool(started.transport, Bench, tell=tell)))
            return Graders(pool, started.threads)

        yield start


@contextmanager
def spread_judge(
    task: Task, sandbox: str, grading: str, graders: Graders, tell: Callable[[str], None] = lambda _: None
) -> Iterator[SpreadJudge]:
    """The judge of the programs of `task` in the workers, each in the sandbox of that name on its machine.

    `tell` is told, on one line, which references do not pass their own tests. Raises SandboxError, with the first programs,
    where a worker's machine has not got that sandbox, or other versions.
    """
    setting = _GradingSetting(
        sandbox=sandbox,
        grading=Grading(grading),
        limits=task.limits,
        packages=task.packages,
        programs=graders.programs,
        software=_software(task.packages),
    )
    name = own_name("grader")
    with graders.workers.lasting(partial(_begin, name=name, setting=setting), partial(_end, name=name)):
        yield SpreadJudge(graders.workers, name, tell)


class SpreadJudge:
    """See spa_bench.tasks.base.Judge. Outcomes and behaviours come a shard at a time, and are those of one process."""

    def __init__(self, workers: Workers[Keeps], name: str, tell: Callable[[str], None]):
        self._workers, self._name, self._tell = workers, name, tell

    def run(self, programs: Sequence[Program]) -> Iterator[tuple[int, Outcome]]:
        """See Grader.run. At Ctrl-C the shards in hand are finished."""
        problems = list(dict.fromkeys(program.problem for program in programs))
        one = {program.problem: program for program in programs}
        asked = [one[problem] for problem in problems]
        found = dict(self._spread(lambda part: partial(_doubts, name=self._name, programs=part), asked))
        if found:
            self._tell(said({problems[place]: found[place] for place in sorted(found)}, len(problems)))
        yield from self._spread(lambda part: partial(_outcomes, name=self._name, programs=part), programs)

    def behaviours(self, programs: Sequence[Program]) -> Iterator[tuple[int, Behaved]]:
        """See Grader.behaviours. At Ctrl-C the shards in hand are finished."""
        return self._spread(lambda part: partial(_behaviours, name=self._name, programs=part), programs)

    def _spread(
        self, act_on: Callable[[Sequence[Program]], Callable[[Keeps], list[tuple[int, Found]]]], programs: Sequence[Program]
    ) -> Iterator[tuple[int, Found]]:
        shards = program_shards(programs, self._workers.count)
        acts = (act_on(_portable([programs[i] for i in shard])) for shard in shards)
        for number, found in self._workers.each(acts):
            for place, one in found:
                yield shards[number][place], one


def program_shards(programs: Sequence[Program], workers: int) -> list[list[int]]:
    """The places of `programs` in shards, those of a problem beside each other: a worker prepares each problem's tests once."""
    fewest, most = _PROGRAMS
    size = max(fewest, min(most, -(-len(programs) // (workers * _SHARDS))))
    problems: dict[str, list[int]] = {}
    for place, program in enumerate(programs):
        problems.setdefault(program.problem, []).append(place)
    places = [place for mine in problems.values() for place in mine]
    return [places[i : i + size] for i in range(0, len(places), size)]


def _portable(programs: Sequence[Program]) -> list[Program]:
    """`programs` with the inputs of their suites at hand, as a function that reads them cannot be sent."""
    known: dict[int, CallSuite] = {}
    made = []
    for program in programs:
        tests = program.tests
        if isinstance(tests, Calls):
            for suite in tests.suites:
                if id(suite) not in known:
                    known[id(suite)] = replace(suite, inputs=_Given(suite.inputs()))
            program = replace(program, tests=replace(tests, suites=tuple(known[id(suite)] for suite in tests.suites)))
        made.append(program)
    return made


@dataclass(frozen=True)
class _Given:
    """Inputs of a suite that were read already."""

    inputs: Sequence[Sequence[object]]

    def __call__(self) -> Sequence[Sequence[object]]:
        return self.inputs


# In the workers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _GradingSetting:
    """How a worker grades."""

    sandbox: str
    grading: Grading
    limits: Limits
    packages: tuple[str, ...]
    programs: int  # that run at once
    software: dict[str, str]  # of the driver


_Kept = tuple[Grader, ExitStack]  # a worker's grader, and what ends its processes


def _software(packages: Sequence[str]) -> dict[str, str]:
    """What decides a verdict beside program and tests: the versions of Python and of `packages` here, and our own code."""
    ours = {"python": platform.python_version(), "code": provenance.source_hash("grading", "sandbox")}
    return ours | provenance.installed(*packages)  # the sandbox says what is not installed


def _begin(at: Keeps, *, name: str, setting: _GradingSetting) -> None:
    """Make this worker's grader. Raises SandboxError that names the machine."""
    here = _software(setting.packages)
    for what, theirs in setting.software.items():
        if (mine := here.get(what, "missing")) != theirs:
            raise SandboxError(
                f"the worker on {platform.node()} has {what} {mine} and the driver {theirs}, so verdicts may differ: give "
                "both the same versions"
            )
    try:
        sandbox = choose(setting.sandbox, setting.packages)
    except SandboxError as error:
        raise SandboxError(f"on {platform.node()}, where a worker grades: {error}") from error
    grader = Grader(
        sandbox=sandbox,
        cache=own_cache(),
        grading=setting.grading,
        workers=setting.programs,
        limits=setting.limits,
        packages=setting.packages,
    )
    until_end = ExitStack()
    at.kept[name] = until_end.enter_context(grader.kept()), until_end


def _end(at: Keeps, *, name: str) -> None:
    if name in at.kept:
        _, until_end = cast(_Kept, at.kept.pop(name))
        until_end.close()


def _doubts(at: Keeps, *, name: str, programs: Sequence[Program]) -> list[tuple[int, str]]:
    found = cast(_Kept, at.kept[name])[0].doubts(programs)
    return [(place, found[program.problem]) for place, program in enumerate(programs) if program.problem in found]


def _outcomes(at: Keeps, *, name: str, programs: Sequence[Program]) -> list[tuple[int, Outcome]]:
    return list(cast(_Kept, at.kept[name])[0].run(programs))


def _behaviours(at: Keeps, *, name: str, programs: Sequence[Program]) -> list[tuple[int, Behaved]]:
    return list(cast(_Kept, at.kept[name])[0].behaviours(programs))
