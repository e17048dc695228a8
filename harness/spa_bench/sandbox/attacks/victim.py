"""A folder of the host that attacks reach for."""

from __future__ import annotations

import stat
from pathlib import Path


def make_victim(folder: Path) -> Path:
    """The folder, made if it is not there."""
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / "file").write_text("SECRET content", encoding="utf-8")
        (folder / "file").chmod(0o640)
        (folder / "folder").mkdir()
        (folder / "folder" / "inner").write_text("inner", encoding="utf-8")
    return folder


def untouched(victim: Path) -> bool:
    """Whether everything in the folder is as it was made, and nothing else is there."""
    file = victim / "file"
    names = sorted(str(path.relative_to(victim)) for path in victim.rglob("*"))
    if names != ["file", "folder", "folder/inner"] or file.read_text(encoding="utf-8") != "SECRET content":
        return False
    found = file.stat()
    return stat.S_IMODE(found.st_mode) == 0o640 and found.st_mtime > 1e9 and found.st_nlink == 1
