"""The result of a check, and how checks run other programs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spa_bench.errors import SpaBenchError
from spa_bench.sandbox.base import last_line

SUDO = "" if os.geteuid() == 0 else "sudo "
PIP = f"{shlex.quote(sys.executable)} -m pip install"
_PATIENCE = 2.0  # seconds that a program may take
_INSTALLERS = ("apt-get install -y", "dnf install -y", "zypper install -y", "pacman -S --noconfirm", "apk add")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    status: Literal["ok", "missing", "not needed"]  # not needed: absent or off, and the main job runs without it
    found: str
    mend: str = ""  # the shell command that repairs it


class Unanswered(SpaBenchError):
    """A program that a check ran has failed or has not answered."""


def ask(*command: str) -> str:
    """The output of a program. Raises Unanswered, with the program's own error message where it has one."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unanswered(f"{name} does not answer within {_PATIENCE:g} s") from error
    except OSError as error:
        raise Unanswered(f"{name} does not start: {error.strerror}") from error
    if done.returncode:
        raise Unanswered(last_line(done.stderr) or f"{name} ends with status {done.returncode}")
    return done.stdout.decode(errors="replace").strip()


def install(package: str) -> str:
    """The command of this machine's package manager that installs `package`; apt-get's where no manager is known."""
    installer = next((words for words in _INSTALLERS if shutil.which(words.split()[0])), _INSTALLERS[0])
    return f"{SUDO}{installer} {package}"
