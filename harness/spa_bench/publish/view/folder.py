"""A folder of runs: a list of its runs, each with an id that can stand in an address."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.publish.view.one import Glance, OneRun
from spa_bench.support.text import visible

_DEEP = 3  # how many levels of folders are searched: a study has its runs in runs/study-NAME


@dataclass(frozen=True)
class Listed:
    """A run with its name."""

    id: str  # 12 hex digits: a hash of its place in the folder
    name: str  # its place in the folder, with all characters visible
    path: Path
    glance: Glance


class Runs:
    """The runs in `root`, or `root` itself where it is a run. Several threads may call it."""

    def __init__(self, root: Path):
        self.root = root.resolve()
        self._known: dict[str, OneRun] = {}
        self._one_at_a_time = threading.Lock()

    def look(self) -> list[Listed]:
        """All current runs, by name."""
        with self._one_at_a_time:
            there = dict(self._found())
            self._known = {place: self._known.get(place) or OneRun(path, self.root) for place, path in there.items()}
            listed = [Listed(_id(place), visible(place), run.path, run.look()) for place, run in self._known.items()]
        return sorted(listed, key=lambda one: one.name)

    def chosen(self, ids: Sequence[str]) -> list[Listed]:
        """The runs with these ids, in their order; an unknown id gives no run."""
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
    """The folders in `folder` except hidden ones and links: a link may lead out of the shown folder, or in circles."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except OSError:  # the folder was removed meanwhile, or may not be read
        return []


def _id(place: str) -> str:
    return hashlib.blake2b(os.fsencode(place), digest_size=6).hexdigest()
