"""No sandbox: only time, memory and file sizes are limited. It is for code that you would run yourself."""

from __future__ import annotations

import os
from collections.abc import Sequence

from spa_bench.sandbox.base import INSIDE, Limits, Settings, package_paths, zygote_command


class NoSandbox:
    """Runs programs as the user, with the user's files and network."""

    name = "none-i-trust-this-code"
    cgroup = False

    def command(self, limits: Limits, packages: Sequence[str] = ("numpy",), scratch: str = "") -> list[str]:
        """As Sandbox.command says."""
        paths = tuple(str(path) for path in package_paths(packages))
        return zygote_command(
            Settings(limits=limits, scratch=os.path.realpath(scratch), packages=paths, seccomp=False), folder=str(INSIDE.parent)
        )
