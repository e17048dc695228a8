"""The user's home folder, and what takes its place where there is none."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from spa_bench.errors import UsageError

_INSTEAD = "set HOME or SPA_BENCH_CACHE to a folder of your own"


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~NAME replaced by home folders. Raises UsageError where that user has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: there is no home folder of that user; write the path without ~") from error


def home() -> Path:
    """The user's home; the private folder where there is none: no HOME, and a user whom the system does not know."""
    try:
        return Path.home()
    except RuntimeError:
        return private_folder()


def private_folder_name() -> str:
    """The name of private_folder(), which says whose it is."""
    return f"spa-bench-{os.getuid()}"


def private_folder() -> Path:
    """A folder of this user alone among the temporary files, the same for all processes.

    Raises UsageError where it cannot be made, or is open to others: what a cache holds is trusted.
    """
    try:
        folder = Path(tempfile.gettempdir()) / private_folder_name()
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UsageError(f"no home folder can be written, nor one for temporary files ({error}); {_INSTEAD}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(f"no home folder can be written, and {folder} is open to others; remove it, or {_INSTEAD}")
    return folder


def can_write(folder: Path) -> bool:
    """Whether this user may write into the folder, or make it where it is not there."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
