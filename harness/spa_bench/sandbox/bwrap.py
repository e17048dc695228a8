"""bubblewrap: new namespaces of every kind, in which only the interpreter can be read and only /tmp written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from spa_bench.errors import SandboxError
from spa_bench.sandbox.base import (
    DEFAULT_LIMITS,
    ENVIRONMENT,
    RUNNER,
    Limits,
    Outcomes,
    Program,
    execute,
    last_line,
    runner_command,
)


class Bwrap:
    """The sandbox that `choose` prefers. Raises SandboxError where bwrap is missing or does not work."""

    name = "bwrap"

    def __init__(self) -> None:
        path = shutil.which("bwrap")
        if path is None:
            raise SandboxError("bwrap is not installed")
        # without further user namespaces a program cannot become root in one, where more of the kernel is open to it;
        # bwrap before 0.8 does not know the option and some containers do not allow it
        for extra in (["--disable-userns"], []):
            self._bwrap = [path, *extra]
            error = self._try()
            if not error:
                return
        raise SandboxError(f"bwrap is installed but does not work here ({error})")

    def run(self, programs: Sequence[Program], *, limits: Limits = DEFAULT_LIMITS, workers: int = 2) -> Outcomes:
        """As Sandbox.run says."""
        return execute(lambda: self._command(limits), programs, limits=limits, workers=workers)

    def _try(self) -> str:
        """Start a runner that has nothing to do: why that fails, or ""."""
        command = self._command(DEFAULT_LIMITS)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env=ENVIRONMENT)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if done.returncode == 0 else last_line(done.stderr) or f"exit status {done.returncode}"

    def _command(self, limits: Limits) -> list[str]:
        # as pid 1 the runner cannot be killed from inside, and can kill everything else that is left there
        isolation = "--unshare-all --unshare-user --die-with-parent --new-session --as-pid-1 --cap-drop ALL"
        identity = "--uid 65534 --gid 65534 --hostname sandbox"
        system = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        for path in ("/bin", "/lib", "/lib32", "/lib64", "/sbin"):
            system += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind-try", path, path]
        system += ["--proc", "/proc", "--dev", "/dev", "--size", str(limits.file_mb << 20), "--tmpfs", "/tmp"]
        prefixes = {sys.prefix, sys.base_prefix}
        for path in sorted(prefixes | {os.path.realpath(prefix) for prefix in prefixes}):  # outer folders first
            system += [] if Path(path).is_relative_to("/usr") else ["--ro-bind", path, path]
        system += ["--ro-bind", str(RUNNER), "/runner.py"]
        # user 65534 is still the caller outside; for root the kernel would let it write to /proc/sys
        read_only = "--remount-ro /proc --remount-ro /dev --remount-ro / --chdir /tmp"
        options = [*isolation.split(), *identity.split(), *system, *read_only.split()]
        return [*self._bwrap, *options, *runner_command("/runner.py", limits, "/tmp")]
