"""A lock on a folder: one process holds it at a time. The kernel frees the lock when its owner ends, in whatever way.

Some cluster file systems cannot lock. There a file with host, process id and start time takes the place of the lock; it is
stale when that process has ended. From another host this cannot be checked, so the message says which file to remove.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Literal

from spa_bench.errors import StoreError
from spa_bench.support.files import sweep
from spa_bench.support.interrupt import pause_point

_REMOVAL_SECONDS = 60.0  # a remover takes a moment: one that is not done by then has ended within it
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def hold(folder: Path, *, wait: Callable[[str], None] | None = None, instead: str = "use another --out") -> Iterator[None]:
    """Hold `folder` for this process.

    When another process holds it: raises StoreError that names that process; with `wait`, calls `wait` once with its name
    and waits, until the user asks to stop. `instead` is what the user can do with another folder, in the words of the command.
    """
    path, told = folder / ".lock", False
    while True:
        try:
            stream = path.open("ab+", buffering=0)  # closing a buffered one would write a second time
        except OSError as error:
            raise StoreError(f"cannot write to {folder}: {error.strerror}; {instead}") from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = _described(_owner(path))
                if wait is None:
                    raise StoreError(f"{owner} works on {folder}; wait for it or {instead}") from error
                if not told:
                    wait(owner)
                    told = True
                pause_point()
                time.sleep(0.2)
                continue
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise StoreError(f"cannot lock {folder}: {error.strerror}") from error
                with _by_file(folder, instead):
                    sweep(folder)
                    yield
                return
            _sign(stream, path)
            sweep(folder)
            try:
                yield
            finally:  # closing the file is not enough where another thread has just forked a process, which has it open too
                fcntl.flock(stream, fcntl.LOCK_UN)
            return


@contextmanager
def _by_file(folder: Path, instead: str) -> Iterator[None]:
    path = folder / ".lock-owner"
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            break
        except FileExistsError:
            owner = _owner(path)
            if not _is_gone(owner):
                raise StoreError(
                    f"{_described(owner)} works on {folder}; wait for it, or remove {path} if it is not there any more"
                ) from None
            _clear(path)
    else:
        raise StoreError(f"another process has just taken {folder}; wait for it or {instead}")
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            _sign(stream, path)
        yield
    finally:
        path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove the file of a process that has ended, one remover at a time: another one may have put its own in the place."""
    turn = path.with_name(f"{path.name}-removal")
    try:
        os.close(os.open(turn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            if abs(time.time() - turn.stat().st_mtime) > _REMOVAL_SECONDS:  # a clock may have been set back meanwhile
                turn.unlink()
        raise StoreError(f"another process removes {path} just now; run the same command again") from None
    try:
        if _is_gone(_owner(path)):
            path.unlink()
    finally:
        turn.unlink()


def _me() -> dict[str, object]:
    return {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid())}


def _sign(stream: FileIO, path: Path) -> None:
    """Write this process as the owner. Raises StoreError where the file cannot be written, such as on a full disk."""
    try:
        stream.truncate(0)
        stream.write(json.dumps(_me()).encode() + b"\n")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; make room and run the same command again") from error


def _owner(path: Path) -> dict[str, object]:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _described(owner: dict[str, object]) -> str:
    return f"process {owner['pid']} on {owner['host']}" if {"pid", "host"} <= owner.keys() else "another process"


def _is_gone(owner: dict[str, object]) -> bool:
    pid = owner.get("pid")
    return owner.get("host") == platform.node() and isinstance(pid, int) and _started(pid) != owner.get("started")


def _started(pid: int) -> str:
    """The start time of a process in clock ticks; it differs for a later process with the same id. "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def state(folder: Path) -> Literal["held", "free", "elsewhere"]:
    """Whether a process holds `folder`. The lock is not touched: taking it could hinder a process that begins.

    `elsewhere`: a process of another host was the last to take the lock, and this host cannot check whether it still runs.
    """
    by_file = _owner(folder / ".lock-owner")
    owner = by_file or _owner(folder / ".lock")
    if not owner:
        return "free"
    if owner.get("host") != platform.node():
        return "elsewhere"
    if _is_gone(owner):
        return "free"
    return "held" if by_file or _has_open(owner["pid"], folder / ".lock") else "free"


def host(folder: Path) -> str:
    """The machine whose process was the last to take the lock on `folder`; "" where none has taken it."""
    return str((_owner(folder / ".lock-owner") or _owner(folder / ".lock")).get("host", ""))


def _has_open(pid: object, path: Path) -> bool:
    """Whether that process has the file open, as it does while it holds the lock; True where this cannot be read."""
    wanted = str(path.resolve())
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the process has closed the file meanwhile
                if os.readlink(link) == wanted:
                    return True
    except FileNotFoundError:
        return False  # the process has ended meanwhile
    except OSError:
        return True
    return False
