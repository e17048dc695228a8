"""Docker: a container without network, writable files or capabilities; under gVisor's runtime where it is configured.

`SPA_BENCH_DOCKER_IMAGE` names the image (default `python:3.X-slim` of this interpreter's version), in which the packages that
programs import must be installed. The image is not pulled: where it is missing, the error says how to get it. Within the
container the same limits and filters of system calls hold as in the other sandboxes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from spa_bench.errors import SandboxError
from spa_bench.sandbox.base import ENVIRONMENT, INSIDE, Limits, Settings, last_line, zygote_command

_INNER = "/spa-bench"
_GVISOR = "runsc"


class Docker:
    """Containers of one image. Raises SandboxError where no engine answers or the image is missing."""

    name = "docker"
    cgroup = False  # the engine makes one

    def __init__(self) -> None:
        path = shutil.which("docker")
        if path is None:
            raise SandboxError("docker is not installed")
        self._docker = path
        self.image = os.environ.get("SPA_BENCH_DOCKER_IMAGE") or f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
        self.runtime = _GVISOR if _GVISOR in self._ask("info", "--format", "{{json .Runtimes}}") else ""
        if not self._ask("image", "ls", "--quiet", self.image).strip():
            raise SandboxError(f"docker has no image {self.image}; docker pull {self.image}, or set SPA_BENCH_DOCKER_IMAGE")

    def command(self, limits: Limits, packages: Sequence[str] = ("numpy",), scratch: str = "") -> list[str]:
        """As Sandbox.command says; `packages` are those of the image."""
        isolation = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        isolation += ["--user", "65534:65534", "--ipc", "none", "--hostname", "sandbox", "--pids-limit", "128"]
        # the zygote, the suites it holds, and a child
        memory = limits.memory_mb + limits.file_mb + 512
        isolation += ["--memory", f"{memory}m", "--memory-swap", f"{memory}m", "--ulimit", "core=0"]
        isolation += ["--tmpfs", f"/tmp:rw,nosuid,nodev,noexec,size={limits.file_mb}m"]
        mounts = ["--mount", f"type=bind,source={INSIDE},target={_INNER}/inside,readonly", "--workdir", "/tmp"]
        environment = [word for name, value in ENVIRONMENT.items() for word in ("--env", f"{name}={value}")]
        runtime = ["--runtime", self.runtime] if self.runtime else []
        settings = Settings(limits=limits, scratch="/tmp", packages=(), alone=True, site=True, die_with_parent=False)
        inner = zygote_command(settings, folder=_INNER, python="python3")
        options = [*runtime, *isolation, *mounts, *environment, "--entrypoint", inner[0]]
        return [self._docker, "run", "--rm", "--interactive", "--pull", "never", *options, self.image, *inner[1:]]

    def _ask(self, *arguments: str) -> str:
        try:
            done = subprocess.run([self._docker, *arguments], capture_output=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"docker does not answer ({error})") from error
        if done.returncode:
            raise SandboxError(f"docker does not work here ({last_line(done.stderr) or f'status {done.returncode}'})")
        return done.stdout.decode(errors="replace")
