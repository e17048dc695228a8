"""Landlock, seccomp and resource limits: for Linux machines without bubblewrap; no extra program is needed.

Programs run as the caller, without capabilities, and can read the interpreter and its libraries, write nowhere, make no
process, open no socket, signal and trace nobody. bwrap covers more: here the names and sizes of all files can be looked up
(not their content), process numbers and the host's name are the real ones, programs have no folder to write to, and a hole in
the list of system calls in inside/guard.py is a hole in the user's account.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from spa_bench.errors import SandboxError
from spa_bench.sandbox.base import (
    ENVIRONMENT,
    INSIDE,
    Limits,
    Settings,
    interpreter_paths,
    last_line,
    package_paths,
    zygote_command,
)

_READABLE = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


class LandlockSandbox:
    """Programs without rights. Raises SandboxError where the kernel has no Landlock or no seccomp filters."""

    name = "landlock"
    cgroup = True

    def __init__(self) -> None:
        try:
            done = subprocess.run(
                self.command(Limits(), ()), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env=ENVIRONMENT
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"landlock does not work here ({error})") from error
        if done.returncode or not done.stdout.startswith(b"H"):
            raise SandboxError(f"landlock does not work here ({last_line(done.stderr) or f'status {done.returncode}'})")

    def command(self, limits: Limits, packages: Sequence[str] = ("numpy",), scratch: str = "") -> list[str]:
        """As Sandbox.command says."""
        paths = tuple(str(path) for path in package_paths(packages))
        readable = (*_READABLE, *_DEVICES, *interpreter_paths(), *map(os.path.realpath, _READABLE), str(INSIDE), *paths)
        settings = Settings(
            limits=limits, scratch="", packages=paths, drop_capabilities=True, landlock=tuple(dict.fromkeys(readable))
        )
        return zygote_command(settings, folder=str(INSIDE.parent))
