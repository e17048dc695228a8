"""A control group for each sandbox, version 1 or 2, where one can be made: a second limit on memory and processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "spa-bench-"
_TRIES = 200  # a hundredth of a second apart
_Limits = Callable[[int, int], dict[str, int]]  # (bytes, processes) -> file and content


@dataclass(frozen=True)
class Cgroup:
    """The folders of one group: one in version 2, one for each controller in version 1."""

    folders: tuple[Path, ...]

    def wrap(self, command: list[str]) -> list[str]:
        """The same command, which first moves itself into the group."""
        if not self.folders:
            return command
        script = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 70; shift; done; shift; exec "$@"'
        return ["/bin/sh", "-c", script, "sh", *map(str, self.folders), "--", *command]

    def out_of_memory(self) -> int:
        """The number of processes of the group that the kernel has killed for memory."""
        count = 0
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError, ValueError):
                    lines = (folder / name).read_text(encoding="utf-8").splitlines()
                    count += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return count

    def remove(self) -> None:
        """Remove the group. Its processes have been killed, but may take a moment to end."""
        for folder in self.folders:
            _remove(folder)


def make(name: str, *, memory_mb: int, processes: int) -> Cgroup:
    """A new group of this name with these limits; it has no folders where no group can be made."""
    places = _version_2() or _version_1()
    folders = []
    for parent, limits in places:
        folder = parent / f"{_PREFIX}{os.getpid()}-{name}"
        try:
            folder.mkdir()
            for file, value in limits(memory_mb << 20, processes).items():
                (folder / file).write_text(str(value), encoding="utf-8")
            (folder / "cgroup.procs").read_text(encoding="utf-8")
            folders.append(folder)
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return Cgroup(tuple(folders))


def remove_of(process: int) -> None:
    """Remove the groups of a grader that has ended, whose last program may take a moment more on a busy machine."""
    for parent, _ in _version_2() or _version_1():
        for folder in parent.glob(f"{_PREFIX}{process}-*"):
            _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(_TRIES):
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)


def remove_stale() -> None:
    """Remove groups of graders that were killed."""
    for parent, _ in _version_2() or _version_1():
        for folder in parent.glob(f"{_PREFIX}*-*"):
            process = folder.name.removeprefix(_PREFIX).split("-")[0]
            if process.isdigit() and not Path(f"/proc/{process}").exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()


def available() -> str:
    """ "version 2", "version 1 (memory, pids)" or why there is none, for `spa-bench doctor`."""
    group = make("doctor", memory_mb=64, processes=16)
    group.remove()
    if not group.folders:
        return ""
    names = [folder.relative_to(_ROOT).parts[0] for folder in group.folders]
    return "version 2" if _version_2() else f"version 1 ({', '.join(names)})"


def _own() -> dict[str, str]:
    """Path of this process' group by controller; "" is version 2."""
    with contextlib.suppress(OSError):
        rows = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
        return {controller: path for _, controllers, path in rows for controller in controllers.split(",")}
    return {}


def _version_2() -> list[tuple[Path, _Limits]]:
    if not (_ROOT / "cgroup.controllers").is_file():
        return []
    # only a group without processes can pass controllers to children, so the new group is a sibling, not a child
    own = _ROOT / _own().get("", "/").lstrip("/")
    for parent in (own, own.parent):
        with contextlib.suppress(OSError):
            if {"memory", "pids"} <= set((parent / "cgroup.subtree_control").read_text(encoding="utf-8").split()):
                return [(parent, lambda memory, n: {"memory.max": memory, "memory.swap.max": 0, "pids.max": n})]
    return []


def _version_1() -> list[tuple[Path, _Limits]]:
    limits: dict[str, _Limits] = {
        "memory": lambda memory, processes: {"memory.limit_in_bytes": memory},
        "pids": lambda memory, processes: {"pids.max": processes},
    }
    own = _own()
    return [(_ROOT / c / own[c].lstrip("/"), made) for c, made in limits.items() if c in own and (_ROOT / c).is_dir()]
