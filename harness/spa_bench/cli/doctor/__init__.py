"""The checks of `spa-bench doctor`: what this machine has, and the command that installs what it lacks.

All checks run at once and share one deadline. A check that fails or does not answer gives a row like any other. The checks
do not import torch, download nothing and start no container.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated

from tabulate import tabulate

from spa_bench.cli.doctor import data, machine, sandboxes
from spa_bench.cli.doctor.finding import Finding
from spa_bench.cli.options import WHAT, Json, option
from spa_bench.sandbox import SANDBOXES
from spa_bench.support.console import error_line

__all__ = ["CHECKS", "DEADLINE", "Finding", "examine", "obstacle", "table"]

DEADLINE = 4.0  # seconds for all checks together
# in the order of the rows; the row of a check that fails has the name of the check
CHECKS: Mapping[str, Callable[[], Iterable[Finding]]] = {
    "python": machine.python,
    "packages": machine.packages,
    "bwrap": sandboxes.bwrap,
    "docker": sandboxes.docker,
    "landlock": sandboxes.landlock,
    "seccomp": sandboxes.seccomp,
    "user namespaces": sandboxes.user_namespaces,
    "cgroup": sandboxes.control_group,
    "cuda": machine.cuda,
    "cpu": machine.cpu,
    "embedded model": data.embedded_model,
    "data": data.benchmarks,
    "hub": data.hub,
    "caches": data.caches,
}
_ESSENTIAL = ("python", "package", "sandbox")  # the main job cannot run without the rows whose names begin like this
_LAYERS = {*SANDBOXES, "seccomp", "user namespaces"}


def examine() -> list[Finding]:
    """Rows of all checks, in a fixed order, within DEADLINE seconds."""
    results: dict[str, list[Finding]] = {}
    threads = [threading.Thread(target=_run, args=(name, results), daemon=True) for name in CHECKS]
    until = time.monotonic() + DEADLINE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"no answer within {DEADLINE:g} s"
    return _with_choice([row for name in CHECKS for row in results.get(name) or [Finding(name, "missing", late)]])


def obstacle(rows: Iterable[Finding]) -> str:
    """Why the main job cannot run on this machine; "" where it can."""
    reasons = [f"{r.check}: {r.found}" for r in rows if r.status == "missing" and r.check.startswith(_ESSENTIAL)]
    return f"the main job cannot run here: {'; '.join(reasons)}" if reasons else ""


def table(rows: Iterable[Finding]) -> str:
    """The rows as a table, followed by the commands, each at the end of its own line so that it can be copied."""
    rows = list(rows)
    text = tabulate([[r.check, r.status, r.found] for r in rows], ["check", "status", "found"], disable_numparse=True)
    mends = [[r.check, r.status, r.mend] for r in rows if r.mend]
    return text + (f"\n\n{tabulate(mends, ['to mend', 'status', 'command'], disable_numparse=True)}" if mends else "")


def _run(name: str, results: dict[str, list[Finding]]) -> None:
    try:
        results[name] = list(CHECKS[name]())
    except Exception as error:  # on a broken machine anything may fail, and the other rows are still useful
        results[name] = [Finding(name, "missing", f"cannot be checked ({type(error).__name__}: {error})")]


def _with_choice(rows: list[Finding]) -> list[Finding]:
    """The rows, with one for the default of `sandbox.choose` before its layers; missing layers then become not needed."""
    status = {row.check: row.status for row in rows}
    works = next((name for name in SANDBOXES if status.get(name) == "ok"), None)
    if works is None:
        mend = next((row.mend for row in rows if row.check in SANDBOXES and row.mend), "")
        choice = Finding("sandbox", "missing", "none works here, so no answer can be graded", mend)
    else:
        choice = Finding("sandbox", "ok", f"{works} (the strongest that works here)")
        rows = [replace(r, status="not needed") if r.check in _LAYERS and r.status == "missing" else r for r in rows]
    place = next((i for i, row in enumerate(rows) if row.check in _LAYERS), len(rows))
    return [*rows[:place], choice, *rows[place:]]


def doctor(
    *,
    attack: Annotated[bool, option("run hostile programs in each sandbox here and say which it holds; a minute", WHAT)] = False,
    as_json: Json = False,
) -> int:
    """What this machine has, and the command for what it lacks.

    The exit code is 1 where the main job cannot run; with --attack, where an attack succeeded.
    """
    if attack:
        from spa_bench.cli.doctor.attack import attack as run_attacks

        return run_attacks(as_json=as_json)
    rows = examine()
    print(json.dumps([vars(row) for row in rows], indent=1) if as_json else table(rows))
    if reason := obstacle(rows):
        error_line(reason)
    return 1 if reason else 0
