"""bubblewrap: new namespaces of every kind, in which a program can read only the interpreter and write only to /tmp."""

from __future__ import annotations

import itertools
import os
import shutil
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
    site_folders,
    zygote_command,
)

_INNER = "/spa-bench"  # where the zygote's code and the packages are mounted
_DEVICES = ("full", "null", "random", "urandom", "zero")
# bwrap's own read-only mounts are `nodev`, which forbids to open devices; but bwrap keeps the flags of what it mounts
_READ_ONLY = 'while [ "$1" != -- ]; do MOUNT --bind "$1" "$1" && MOUNT -o remount,bind,ro "$1" || exit 70; shift; done; '
_READ_ONLY += 'shift; exec "$@"'


class Bwrap:
    """The sandbox that `choose` prefers. Raises SandboxError where bwrap is missing or does not work."""

    name = "bwrap"
    cgroup = True

    def __init__(self) -> None:
        path = shutil.which("bwrap")
        if path is None:
            raise SandboxError("bwrap is not installed")
        # without further user namespaces a program cannot become root in one, where it could reach more of the kernel;
        # bwrap before 0.8 lacks the option and some containers forbid it (there seccomp stops such a program too)
        for before, extra in itertools.product(_before(), (["--disable-userns"], [])):
            self._bwrap = [*before, path, *extra]
            error = self._try()
            if not error:
                return
        raise SandboxError(f"bwrap is installed but does not work here ({error})")

    def command(self, limits: Limits, packages: Sequence[str] = ("numpy",), scratch: str = "") -> list[str]:
        """As Sandbox.command says."""
        # as pid 1 the zygote cannot be killed from inside, and can kill every process that is left there
        isolation = "--unshare-all --unshare-user --die-with-parent --new-session --as-pid-1 --cap-drop ALL --clearenv"
        identity = "--uid 65534 --gid 65534 --hostname sandbox"
        environment = [word for pair in ENVIRONMENT.items() for word in ("--setenv", *pair)]
        system = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        for path in ("/bin", "/lib", "/lib32", "/lib64", "/sbin"):
            system += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind-try", path, path]
        # no /proc: a program can read nothing about any process, not even its own memory map
        system += ["--tmpfs", "/dev", "--size", str(limits.file_mb << 20), "--tmpfs", "/tmp"]
        for name in _DEVICES:
            system += ["--dev-bind-try", f"/dev/{name}", f"/dev/{name}"]
        scratch = "/tmp"
        for path in interpreter_paths():  # outer folders first
            system += ["--ro-bind", path, path]
        for path in site_folders():
            system += ["--tmpfs", path, "--remount-ro", path]
        system += ["--ro-bind", str(INSIDE), f"{_INNER}/inside"]
        places = package_paths(packages)
        for place in places:
            system += ["--ro-bind", str(place), f"{_INNER}/packages/{place.name}"]
        if any(path.startswith("/tmp/") for path in interpreter_paths()):
            # folders above a mount cannot be removed after a program, so programs get another folder
            scratch = f"{_INNER}/scratch"
            system += ["--remount-ro", "/tmp", "--size", str(limits.file_mb << 20), "--tmpfs", scratch]
        # semaphores of the C library are files there: they count as the program's own, and are removed with them
        system += ["--symlink", scratch, "/dev/shm"]
        # outside, user 65534 is still the caller; where that is root, the kernel would let it write to many of the mounts
        read_only = f"--remount-ro /dev --remount-ro / --chdir {scratch}"
        options = [*isolation.split(), *identity.split(), *environment, *system, *read_only.split()]
        settings = Settings(
            limits=limits, scratch=scratch, packages=tuple(f"{_INNER}/packages/{p.name}" for p in places), alone=True
        )
        return [*self._bwrap, *options, *zygote_command(settings, folder=_INNER)]

    def _try(self) -> str:
        """The reason why a zygote without work does not start, or ""."""
        try:
            done = subprocess.run(self.command(Limits(), ()), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode == 0 and done.stdout.startswith(b"H"):
            return ""
        return last_line(done.stderr) or f"exit status {done.returncode}"


def _before() -> list[list[str]]:
    """The possible beginnings of the command, the best first: for root, who owns the device nodes, one makes them read-only."""
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    if os.geteuid() != 0 or not unshare or not mount:
        return [[]]
    devices = [path for name in _DEVICES if os.path.exists(path := f"/dev/{name}")]
    script = _READ_ONLY.replace("MOUNT", mount)
    return [[unshare, "--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh", *devices, "--"], []]
