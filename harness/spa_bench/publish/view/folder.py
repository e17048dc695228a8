"""A folder of runs: who is in it, each under a name that can stand in an address."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.publish.report.escape import visible
from spa_bench.publish.view.one import Glance, OneRun

_DEEP = 3  # folders below one another: a study has its runs in runs/study-NAME


@dataclass(frozen=True)
class Listed:
    """A run with its name."""

    id: str  # 12 hex digits, of its place in the folder
    name: str  # its place, fit to be shown
    path: Path
    glance: Glance


class Runs:
    """The runs in `root`, or `root` itself where that is one. Several threads may look."""

    def __init__(self, root: Path):
        self.root = root.resolve()
        self._known: dict[str, OneRun] = {}
        self._one_at_a_time = threading.Lock()

    def look(self) -> list[Listed]:
        """Every run there is now, by name."""
        with self._one_at_a_time:
            there = dict(self._found())
            self._known = {place: self._known.get(place) or OneRun(path, self.root) for place, path in there.items()}
            found = [Listed(_id(place), visible(place), run.path, run.look()) for place, run in self._known.items()]
        return sorted(found, key=lambda one: one.name)

    def chosen(self, ids: Sequence[str]) -> list[Listed]:
        """The runs of these ids, in their order; an id that is not there gives none."""
        there = {one.id: one for one in self.look()}
        return [there[wanted] for wanted in dict.fromkeys(ids) if wanted in there]

    def _found(self) -> Iterator[tuple[str, Path]]:
        """(place in the folder, path) of every run."""
        if (self.root / "spec.json").exists():
            yield self.root.name, self.root
            return
        pending = [(self.root, 1)]
        while pending:
            folder, depth = pending.pop()
            for entry in _entries(folder):
                path = Path(entry.path)
                if (path / "spec.json").exists():
                    yield str(path.relative_to(self.root)), path
                elif depth < _DEEP:
                    pending.append((path, depth + 1))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The folders in it, those apart that are hidden or are links: these may lead out of what is to be shown, or in circles."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except OSError:  # removed meanwhile, or not for us to read
        return []


def _id(place: str) -> str:
    return hashlib.blake2b(os.fsencode(place), digest_size=6).hexdigest()
