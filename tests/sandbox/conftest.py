"""Fixtures of the attack suite.

A test marked `attack(source, ...)` gets in `found` how that program ended. All of them that were collected are graded in
one batch a sandbox when the first is asked for, so that an attack costs milliseconds and is still a test of its own.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from processes import children, descendants
from spa_bench.cli.doctor.attack import LIMITS, WORKERS, graded, program_of
from spa_bench.errors import SandboxError
from spa_bench.grading import Calls, Grader, Outcome, Program
from spa_bench.sandbox import Sandbox, choose
from spa_bench.sandbox.attacks import ADDS_ONE, Attack
from spa_bench.sandbox.attacks.victim import make_victim
from spa_bench.types import CallSuite

SUITE = CallSuite(name="base", inputs=lambda: [[1], [3]])
BOTH = ("bwrap", "landlock")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "attack(source, check='', then='', seconds=0.2, only=''): the program whose outcome the fixture `found` is; "
        "`check`: tests that are code; `then`: a program that the same worker grades next (fixture `after`); "
        "`only`: the one sandbox in which the attack makes sense",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "jail" in metafunc.fixturenames:
        marks = list(metafunc.definition.iter_markers("attack"))
        for parametrize in metafunc.definition.iter_markers("parametrize"):
            marks += [mark for case in parametrize.args[1] for mark in getattr(case, "marks", ()) if mark.name == "attack"]
        only = {mark.kwargs.get("only", "") for mark in marks} - {""}
        metafunc.parametrize("jail", sorted(only) or BOTH, indirect=True, scope="session")


@pytest.fixture(scope="session")
def jail(request: pytest.FixtureRequest) -> Sandbox:
    """Each sandbox in turn; skips where it does not work."""
    try:
        return choose(request.param)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suites")


@pytest.fixture(scope="session")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds for each attack a folder of the host to reach for; its path replaces VICTIM in the attack's source."""
    return tmp_path_factory.mktemp("victims")


@pytest.fixture
def victim(request: pytest.FixtureRequest, jail: Sandbox, victims: Path) -> Path:
    """The folder that the attack of this test reaches for."""
    return victims / _digest(jail, request.node.get_closest_marker("attack"))


def _digest(sandbox: Sandbox, mark: pytest.Mark) -> str:
    return hashlib.sha256(f"{sandbox.name} {_key(mark)}".encode()).hexdigest()[:12]


@dataclass
class Batch:
    """Outcomes of the attacks in one sandbox, and what the machine looked like around them."""

    outcomes: dict[str, Outcome | SandboxError] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    behind: dict[str, Any] = field(default_factory=dict)


def _program(mark: pytest.Mark, victim: Path, source: str) -> Program:
    attack = Attack(goal="", name="", source=mark.args[0], **mark.kwargs)
    return program_of(attack, source.replace("VICTIM", str(victim)))


def _key(mark: pytest.Mark, part: str = "") -> str:
    return repr((mark.args, sorted(mark.kwargs.items()), part))


@pytest.fixture(scope="session")
def batches(request: pytest.FixtureRequest, cache: Path, victims: Path) -> Callable[[Sandbox], Batch]:
    """Grades all collected attacks on a sandbox at the first call."""
    known: dict[str, Batch] = {}

    def batch(sandbox: Sandbox) -> Batch:
        if sandbox.name in known:
            return known[sandbox.name]
        single: dict[str, Program] = {}
        chained: dict[str, Program] = {}
        for item in request.session.items:
            mark = item.get_closest_marker("attack")
            spec = getattr(item, "callspec", None)
            if mark is None or spec is None or spec.params.get("jail") != sandbox.name:
                continue
            victim = make_victim(victims / _digest(sandbox, mark))
            if "then" in mark.kwargs:
                chained[_key(mark)] = _program(mark, victim, mark.args[0])
                chained[_key(mark, "then")] = _program(mark, victim, mark.kwargs["then"])
            else:
                single[_key(mark)] = _program(mark, victim, mark.args[0])
        found = known[sandbox.name] = Batch()
        found.before = snapshot()
        for workers, programs in ((WORKERS, single), (1, chained)):
            found.outcomes |= graded(Grader(sandbox=sandbox, cache=cache, workers=workers, limits=LIMITS), programs)
        found.behind = snapshot()
        return found

    return batch


@pytest.fixture(autouse=True)
def _no_process_of_others() -> None:
    """Python's own helper of spawned processes, which metrics computed earlier in this process leave, is no leftover."""
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def snapshot() -> dict[str, Any]:
    """What a run may not change of this process and the folders it works in."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "here": sorted(name for name in os.listdir() if name != ".hypothesis"),  # which other tests make
        "temporary": sorted(name for name in os.listdir(tempfile.gettempdir()) if "ATTACK" in name),
        "children": children(os.getpid()),
    }


@pytest.fixture
def found(request: pytest.FixtureRequest, jail: Sandbox, batches: Callable[[Sandbox], Batch]) -> Outcome:
    """How the program of this test's mark ended."""
    return _outcome(request, batches(jail), "")


@pytest.fixture
def after(request: pytest.FixtureRequest, jail: Sandbox, batches: Callable[[Sandbox], Batch]) -> Outcome:
    """How the program ended that the same worker graded next."""
    return _outcome(request, batches(jail), "then")


def _outcome(request: pytest.FixtureRequest, batch: Batch, part: str) -> Outcome:
    outcome = batch.outcomes[_key(request.node.get_closest_marker("attack"), part)]
    if isinstance(outcome, SandboxError):
        raise outcome
    assert len(outcome.message) <= 300
    assert outcome.message.isprintable()
    return outcome


Grades = Callable[..., list[Outcome]]


@pytest.fixture
def grades(cache: Path) -> Grades:
    """Outcomes of programs that one sandbox runs, in the order of the programs."""

    def run(sandbox: Sandbox, *sources: str | Program, workers: int = 1, seconds: float = 0.4) -> list[Outcome]:
        tests = Calls((SUITE,), ADDS_ONE)
        programs = [
            s if isinstance(s, Program) else Program(source=s, entry_point="f", tests=tests, problem="id", seconds=seconds)
            for s in sources
        ]
        found = dict(Grader(sandbox=sandbox, cache=cache, workers=workers, limits=LIMITS).run(programs))
        assert sorted(found) == list(range(len(programs)))
        return [found[index] for index in range(len(programs))]

    return run


@pytest.fixture
def comes_true() -> Callable[[Callable[[], bool]], bool]:
    """Whether a condition holds within some seconds."""

    def wait(condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + 8
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
        return condition()

    return wait


@pytest.fixture
def family() -> Callable[[int], list[int]]:
    """All descendants of a process."""
    return descendants


@pytest.fixture
def children_of() -> Callable[[int], Sequence[int]]:
    """The direct children of a process, zombies included."""
    return children


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this process, its own for this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
