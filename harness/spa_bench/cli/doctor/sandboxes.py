"""Checks of the sandboxes and of their layers; each sandbox is tested as `sandbox.choose` tests it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spa_bench.cli.doctor.finding import SUDO, Finding, Unanswered, ask, install
from spa_bench.errors import SandboxError
from spa_bench.sandbox import SANDBOXES, Limits, cgroup
from spa_bench.sandbox.base import ENVIRONMENT, INSIDE, Settings, last_line, zygote_command
from spa_bench.sandbox.docker import Docker
from spa_bench.sandbox.inside import guard

PROC = Path("/proc")
# (setting, value that forbids user namespaces, value that allows them, whether it applies to root too)
_SWITCHES = (
    ("kernel.unprivileged_userns_clone", "0", "1", False),
    ("user.max_user_namespaces", "0", "15000", True),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0", False),
)
_CONTAINER = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined ..."


def bwrap() -> Iterator[Finding]:
    """bubblewrap: its version, whether it works, and whether it can forbid further user namespaces."""
    path = shutil.which("bwrap")
    if path is None:
        yield Finding("bwrap", "missing", "not installed", install("bubblewrap"))
        return
    try:
        version = ask(path, "--version").removeprefix("bubblewrap ")  # this also detects a bwrap that hangs
        command = SANDBOXES["bwrap"]().command(Limits())
    except (Unanswered, SandboxError) as error:
        forbidden = "namespace" in str(error) or "not permitted" in str(error)
        container = forbidden and any(Path(file).exists() for file in ("/.dockerenv", "/run/.containerenv"))
        yield Finding("bwrap", "missing", str(error), _allow() or (_CONTAINER if container else ""))
        return
    nested = "accepted" if "--disable-userns" in command else "refused"
    yield Finding("bwrap", "ok", f"{version}, works; --disable-userns is {nested}")


def docker() -> Iterator[Finding]:
    """docker: its engine, the image that programs would run in, and gVisor."""
    path = shutil.which("docker")
    if path is None:
        yield Finding("docker", "missing", "not installed", install("docker.io"))
        return
    try:
        version = ask(path, "info", "--format", "{{.ServerVersion}}")  # this also detects an engine that hangs
        sandbox = SANDBOXES["docker"]()
    except (Unanswered, SandboxError) as error:
        yield Finding("docker", "missing", str(error), _mend_docker(str(error)))
        return
    image, runtime = (sandbox.image, sandbox.runtime) if isinstance(sandbox, Docker) else ("", "")
    yield Finding("docker", "ok", f"engine {version}, image {image}")
    if runtime:
        yield Finding("gVisor", "ok", f"runtime {runtime}")
    elif shutil.which("runsc"):
        yield Finding(
            "gVisor", "not needed", "runsc is no runtime of docker", f"{SUDO}runsc install && {SUDO}systemctl restart docker"
        )
    else:
        yield Finding("gVisor", "not needed", "runsc is not installed (https://gvisor.dev/docs/user_guide/install)")


def _mend_docker(complaint: str) -> str:
    if "has no image" in complaint:
        return next((part.strip() for part in complaint.replace(";", ",").split(",") if "docker pull" in part), "")
    if "does not start" in complaint:
        return ""
    if "permission denied while trying to connect" in complaint.lower():
        return f'{SUDO}usermod -aG docker "$USER" && newgrp docker'
    hangs = "does not answer" in complaint
    return f"{SUDO}systemctl {'restart' if hangs else 'start'} docker"


def landlock() -> Iterator[Finding]:
    """Landlock: the kernel's ABI, and whether the sandbox that uses it works."""
    abi = guard.landlock_abi()
    if not abi:
        security = Path("/sys/kernel/security/lsm")
        modules = security.read_text(encoding="utf-8").strip() if security.is_file() else ""
        active = f"; active are {modules}" if modules else ""
        reason = f"this kernel has no Landlock or it is off (it takes Linux 5.13 booted with lsm=landlock,...){active}"
        yield Finding("landlock", "missing", reason)
        return
    try:
        SANDBOXES["landlock"]()
    except SandboxError as error:
        yield Finding("landlock", "missing", f"ABI {abi}; {error}")
    else:
        yield Finding("landlock", "ok", f"ABI {abi}, works")


def seccomp() -> Iterator[Finding]:
    """Whether the kernel accepts the filters of system calls: a zygote installs them and reports it."""
    command = zygote_command(Settings(limits=Limits(), scratch="", packages=()), folder=str(INSIDE.parent))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, env=ENVIRONMENT, check=False)
    if _hello(done.stdout).get("seccomp") is True:
        yield Finding("seccomp", "ok", "this kernel accepts the filters of system calls")
    else:
        reason = last_line(done.stderr) or f"the zygote ends with status {done.returncode}"
        yield Finding("seccomp", "missing", f"{reason} (it takes a kernel with CONFIG_SECCOMP_FILTER on x86-64 or arm64)")


def _hello(frame: bytes) -> dict[str, Any]:
    """The first message of a zygote (sandbox/inside/zygote.py); empty where there is none."""
    if len(frame) < 5 or frame[:1] != b"H":
        return {}
    message: dict[str, Any] = json.loads(frame[5 : 5 + struct.unpack_from("<I", frame, 1)[0]])
    return message


def user_namespaces() -> Iterator[Finding]:
    """The kernel's switches that decide whether bwrap can make namespaces."""
    switches = ", ".join(f"{name}={value}" for name, value in _switches().items()) or "no switches here"
    mend = _allow()
    yield Finding("user namespaces", "missing" if mend else "ok", switches, mend)


def _switches() -> dict[str, str]:
    """The switches that this kernel has, and their values."""
    files = {name: PROC / "sys" / name.replace(".", "/") for name, *_ in _SWITCHES}
    return {name: file.read_text(encoding="utf-8").strip() for name, file in files.items() if file.is_file()}


def _allow() -> str:
    """The command that allows user namespaces where a switch forbids them; "" where none does."""
    here, root = _switches(), os.geteuid() == 0
    wrong = [f"{name}={on}" for name, off, on, binds_root in _SWITCHES if here.get(name) == off and (binds_root or not root)]
    return f"{SUDO}sysctl -w {' '.join(wrong)}" if wrong else ""


def control_group() -> Iterator[Finding]:
    """Whether each sandbox gets a control group: a second limit on memory and processes."""
    version = cgroup.available()
    if version:
        yield Finding("cgroup", "ok", version)
    else:
        mend = "systemd-run --user --scope spa-bench run ..." if shutil.which("systemd-run") else ""
        yield Finding("cgroup", "not needed", "none can be made here; other limits hold for each program", mend)
