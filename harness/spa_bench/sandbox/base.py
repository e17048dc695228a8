"""What every sandbox offers: a command that starts the process in which programs run (see inside/zygote.py)."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from spa_bench.errors import SandboxError

INSIDE = Path(__file__).parent / "inside"
# The whole environment of the zygote. Fixed hashing makes the order of sets, and therefore verdicts, repeatable. Threads of
# BLAS would use up the address space, and they do not survive a fork.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
# Makes FOLDER/inside importable under its full name without the rest of the package, which is hidden inside.
BOOT = (
    "import sys, types\n"
    "for name in ('spa_bench', 'spa_bench.sandbox'):\n"
    "    sys.modules[name] = types.ModuleType(name)\n"
    "    sys.modules[name].__path__ = [sys.argv[1]]\n"
    "from spa_bench.sandbox.inside.zygote import main\n"
    "main(*sys.argv[1:3])\n"
)


@dataclass(frozen=True)
class Limits:
    """The resources that one program may use, whatever its tests."""

    memory_mb: int = 1024  # address space
    file_mb: int = 8  # the largest file, and all files together
    threads: int = 128  # at one time; a program may start no process


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a zygote; see inside/zygote.py."""

    limits: Limits
    scratch: str  # folder that programs may write to, emptied after each program; "" for none
    packages: tuple[str, ...]  # paths of packages that programs may import, and of what those need
    alone: bool = False  # whether all other processes that the zygote sees are its own children
    seccomp: bool = True
    site: bool = False  # whether packages of the interpreter's own site-packages can be imported
    drop_capabilities: bool = False
    die_with_parent: bool = True
    landlock: tuple[str, ...] | None = None  # paths that can be read; None: no Landlock


class Sandbox(Protocol):
    """A place to run untrusted programs."""

    name: str
    cgroup: bool  # whether to put the process into a cgroup of its own, where one can be made

    def command(self, limits: Limits, packages: Sequence[str] = ("numpy",), scratch: str = "") -> list[str]:
        """The command that starts a zygote. Its channels are stdin and stdout; on stderr it says why it gives up.

        `packages` are names of distributions that programs may import beside the standard library. `scratch` is a folder of
        the caller for sandboxes that have none of their own. Raises SandboxError where a package is not installed.
        """
        ...


def zygote_command(settings: Settings, *, folder: str, python: str | None = None) -> list[str]:
    """The command that starts a zygote whose code is in `folder`/inside, in the interpreter under this environment."""
    python = python or os.path.realpath(sys.executable)
    return [python, "-sPSBc", BOOT, folder, json.dumps(asdict(settings))]


def package_paths(packages: Sequence[str]) -> list[Path]:
    """Files and folders that `import` needs for these distributions and for those of their requirements that are installed.

    Raises SandboxError for one of `packages` that is not installed.
    """
    return list(_package_paths(tuple(packages)))


@lru_cache(maxsize=32)  # reads the list of files of each package
def _package_paths(packages: tuple[str, ...]) -> list[Path]:
    places: set[Path] = set()
    pending, seen = list(packages), set[str]()
    while pending:
        package = pending.pop()
        seen.add(package)
        try:
            installed = importlib.metadata.distribution(package)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            if package in packages:
                raise SandboxError(
                    f"package {package!r}, which programs may import, is not installed here; "
                    f"pip install it, or take it out of task.packages"
                ) from None
            continue  # a requirement that applies only to other machines
        needed = [need for need in installed.requires or [] if "extra ==" not in need]
        pending += {re.split(r"[^\w.-]", need)[0] for need in needed} - seen
        tops = {file.parts[0] for file in installed.files or []}
        paths = {Path(str(installed.locate_file(top))).resolve() for top in tops if top not in ("..", "__pycache__")}
        places |= {path for path in paths if path.suffix not in (".dist-info", ".pth") and path.exists()}
    return sorted(places)


def interpreter_paths() -> list[str]:
    """Folders outside /usr that the interpreter under this environment needs."""
    prefixes = {sys.base_prefix, os.path.realpath(sys.base_prefix)}
    return sorted(p for p in prefixes if not Path(p).is_relative_to("/usr"))


def site_folders() -> list[str]:
    """Folders of installed packages under the interpreter's own prefix and Debian's: hidden from programs."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [f"{sys.base_prefix}/lib/{version}/site-packages", f"/usr/local/lib/{version}/dist-packages"]
    places += ["/usr/lib/python3/dist-packages", f"/usr/local/lib/{version}/site-packages"]
    return sorted({p for p in places if os.path.isdir(p)})


def last_line(errors: bytes) -> str:
    """The last line that a process wrote to standard error, which says why it gave up."""
    return (errors.decode(errors="replace").strip().splitlines() or [""])[-1]
