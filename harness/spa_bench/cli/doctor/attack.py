"""`spa-bench doctor --attack`: which hostile programs each sandbox of this machine holds.

What a sandbox stops depends on the kernel, its settings and the user's rights, so nothing but a try on the machine itself says
what holds there. Programs that would harm the machine where nothing stops them are left out; the project's tests run those too.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tabulate import tabulate

from spa_bench.errors import SandboxError
from spa_bench.grading import Calls, Check, Grader, Outcome, Program
from spa_bench.sandbox import SANDBOXES, Limits, Sandbox, choose
from spa_bench.sandbox.attacks import ADDS_ONE, CHECK, Attack, all_attacks
from spa_bench.sandbox.attacks.victim import make_victim, untouched
from spa_bench.sandbox.none import NoSandbox
from spa_bench.support.console import Reporter, error_line
from spa_bench.types import CallSuite, Verdict

Key = TypeVar("Key", bound=Hashable)
LIMITS = Limits(memory_mb=512)
WORKERS = 4  # more than cores: some attacks sleep, and time is counted in CPU seconds
_RIGHT = (  # a sandbox that runs nothing would hold every attack
    Attack(goal="run a right program", name="tests that are data", source=ADDS_ONE, seconds=1),
    Attack(goal="run a right program", name="tests that are code", source=ADDS_ONE, check=CHECK, seconds=1),
)
_PLACES = ("/", "/usr", "/dev", "/dev/shm", "/etc", "/var/tmp", "/tmp")  # where attacks try to leave a file


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an attack ended in a sandbox."""

    sandbox: str
    goal: str
    name: str
    held: bool  # whether it did not succeed
    found: str  # the verdict of its program and why, or what it changed


def attack(*, as_json: bool) -> int:
    """Run the attacks in every sandbox that works here; 1 where one succeeded or a sandbox runs no right program.

    Raises SandboxError where no sandbox works.
    """
    sandboxes, attempts, reporter = _working(), list[Attempt](), Reporter()
    if not sandboxes:
        raise SandboxError("no sandbox works here, so there is nothing to attack; `spa-bench doctor` says what each lacks")
    known = all_attacks()
    chosen = [*_RIGHT, *(a for a in known if not a.harmful)]
    with tempfile.TemporaryDirectory(prefix="spa-bench-attack-") as folder:
        for sandbox in sandboxes:
            mine = [a for a in chosen if a.only in ("", sandbox.name)]
            with reporter.stage(f"attacks in {sandbox.name}") as report:
                attempts += attempts_in(sandbox, mine, Path(folder) / sandbox.name, report)
    if as_json:
        print(json.dumps([vars(attempt) for attempt in attempts], indent=1))
    else:
        print(table(attempts))
        harmful = sum(a.harmful for a in known)
        print(f"left out: {harmful} attacks that would harm this machine where nothing stops them")
    broken = [attempt for attempt in attempts if not attempt.held]
    if broken:
        error_line(f"{len(broken)} of {len(attempts)} attacks succeeded: do not grade programs that you do not trust there")
    return 1 if broken else 0


def attempts_in(sandbox: Sandbox, attacks: Sequence[Attack], folder: Path, report: Callable[[int, int], None]) -> list[Attempt]:
    """How each attack ended. `folder` is made; it holds what they reach for."""
    victims = {i: make_victim(folder / "victims" / str(i)) for i, one in enumerate(attacks) if "VICTIM" in one.source}
    names = {i: str(victim) for i, victim in victims.items()}
    first = {(i, ""): program_of(one, one.source.replace("VICTIM", names.get(i, ""))) for i, one in enumerate(attacks)}
    alone = {key: program for key, program in first.items() if not attacks[key[0]].then}
    chained = dict[tuple[int, str], Program]()
    for key in first.keys() - alone.keys():
        chained |= {key: first[key], (key[0], "then"): program_of(attacks[key[0]], attacks[key[0]].then)}
    before, total = _left_behind(), len(alone) + len(chained)
    found = graded(_grader(sandbox, folder, WORKERS), alone, lambda done: report(done, total))
    found |= graded(_grader(sandbox, folder, 1), chained, lambda done: report(len(alone) + done, total))
    attempts = [_attempt(sandbox, one, found[i, "then" if one.then else ""], victims.get(i)) for i, one in enumerate(attacks)]
    left = sorted(_left_behind() - before)
    return [
        *attempts,
        Attempt(sandbox=sandbox.name, goal="leave files", name="ATTACK", held=not left, found=", ".join(left) or "nothing"),
    ]


def graded(
    grader: Grader, programs: Mapping[Key, Program], report: Callable[[int], None] = lambda done: None
) -> dict[Key, Outcome | SandboxError]:
    """Outcomes by key; a program that brings its worker down costs only its own outcome."""
    left, found = dict(programs), dict[Key, Outcome | SandboxError]()
    while left:
        keys = list(left)
        try:
            for index, outcome in grader.run(list(left.values())):
                found[keys[index]] = outcome
                del left[keys[index]]
                report(len(found))
        except SandboxError:
            for key in [key for key in keys if key in left][: grader.workers]:  # one of these it was
                try:
                    [(_, found[key])] = grader.run([left.pop(key)])
                except SandboxError as error:
                    found[key] = error
    return found


def table(attempts: Sequence[Attempt]) -> str:
    """What was held, by what the attacks want and by sandbox, and each attack that succeeded on a line of its own."""
    names = list(dict.fromkeys(attempt.sandbox for attempt in attempts))
    goals = list(dict.fromkeys(attempt.goal for attempt in attempts))
    rows = [[goal, *(_held([a for a in attempts if (a.goal, a.sandbox) == (goal, name)]) for name in names)] for goal in goals]
    text = tabulate(rows, ["attacks that want to", *names], disable_numparse=True)
    broken = [[a.sandbox, a.goal, a.name, a.found] for a in attempts if not a.held]
    return text + (
        f"\n\n{tabulate(broken, ['sandbox', 'goal', 'succeeded', 'found'], disable_numparse=True)}" if broken else ""
    )


def _held(attempts: Sequence[Attempt]) -> str:
    held = sum(attempt.held for attempt in attempts)
    if not attempts:
        return "not tried"
    return f"{held} held" if held == len(attempts) else f"{len(attempts) - held} of {len(attempts)} SUCCEEDED"


def _working() -> list[Sandbox]:
    found = []
    for name in SANDBOXES:
        if name != NoSandbox.name:
            try:
                found.append(choose(name))
            except SandboxError:
                continue
    return found


def _grader(sandbox: Sandbox, folder: Path, workers: int) -> Grader:
    return Grader(sandbox=sandbox, cache=folder / "suites", workers=workers, limits=LIMITS)


def program_of(one: Attack, source: str) -> Program:
    """`source`, a program of the attack, with the tests and the time of it."""
    suite = CallSuite(name="base", inputs=lambda: [[1], [3]])
    tests = Check(one.check, helpers=ADDS_ONE) if one.check else Calls((suite,), ADDS_ONE)
    return Program(source=source, entry_point="f", tests=tests, problem="attack", seconds=one.seconds)


def _attempt(sandbox: Sandbox, one: Attack, outcome: Outcome | SandboxError, victim: Path | None) -> Attempt:
    if isinstance(outcome, SandboxError):
        held, found = False, f"the sandbox broke: {outcome}"
    else:
        right = one in _RIGHT or bool(one.then)
        held = (outcome.verdict == Verdict.PASSED) is right
        found = ": ".join(filter(None, [outcome.verdict, outcome.message]))
    if victim is not None and not untouched(victim):
        held, found = False, "it changed files of this machine"
    return Attempt(sandbox=sandbox.name, goal=one.goal, name=one.name, held=held, found=found)


def _left_behind() -> set[str]:
    places = (*_PLACES, os.path.expanduser("~"), os.getcwd())
    return {path for path in (os.path.join(place, "ATTACK") for place in places) if os.path.lexists(path)}
