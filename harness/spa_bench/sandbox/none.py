"""No sandbox: time, memory and file sizes are limited, and that is all. For code you would run yourself."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from spa_bench.sandbox.base import DEFAULT_LIMITS, RUNNER, Limits, Outcomes, Program, execute, runner_command


class NoSandbox:
    """Runs programs as the user, with the user's files and network."""

    name = "none-i-trust-this-code"

    def run(self, programs: Sequence[Program], *, limits: Limits = DEFAULT_LIMITS, workers: int = 2) -> Outcomes:
        """As Sandbox.run says."""
        with tempfile.TemporaryDirectory(prefix="spa-bench-", ignore_cleanup_errors=True) as scratch:

            def command() -> list[str]:
                # a folder for each runner, as each empties its own between programs
                return runner_command(str(RUNNER), limits, tempfile.mkdtemp(dir=scratch))

            yield from execute(command, programs, limits=limits, workers=workers)
