"""Fixtures of the grading tests: a grader in the strongest sandbox that works here, with one cache for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from spa_bench.errors import SandboxError
from spa_bench.grading import Grader, Outcome, Program
from spa_bench.sandbox import Limits, Sandbox, choose

LIMITS = Limits(memory_mb=512)


@pytest.fixture(scope="session")
def jail() -> Sandbox:
    """The strongest sandbox that works here."""
    try:
        return choose()
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def grader(jail: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Grader:
    """One worker, and a cache that all tests share."""
    return Grader(sandbox=jail, cache=tmp_path_factory.mktemp("grading"), workers=1, limits=LIMITS)


@pytest.fixture
def fresh(jail: Sandbox, tmp_path: Path) -> Grader:
    """One worker, and a cache of this test's own."""
    return Grader(sandbox=jail, cache=tmp_path / "graded", workers=1, limits=LIMITS)


@pytest.fixture(scope="session")
def outcomes() -> Callable[[Grader, Sequence[Program]], list[Outcome]]:
    """Outcomes in the order of the programs; each index comes once."""

    def run(grader: Grader, programs: Sequence[Program]) -> list[Outcome]:
        pairs = list(grader.run(programs))
        found = dict(pairs)
        assert len(pairs) == len(found) == len(programs)
        return [found[i] for i in range(len(programs))]

    return run


@pytest.fixture(scope="module")
def graded(request: pytest.FixtureRequest, grader: Grader) -> dict[str, Outcome]:
    """Outcomes of the module's PROGRAMS by name, graded in one batch."""
    programs: dict[str, Program] = request.module.PROGRAMS
    found = dict(replace(grader, workers=2).run(list(programs.values())))
    return {name: found[i] for i, name in enumerate(programs)}
