"""A folder of runs: a list of its runs, each with an id that can stand in an address."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.publish.view.one import Glance, OneRun
from spa_bench.runs.find import run_paths
from spa_bench.support.text import visible


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
        for path in run_paths(self.root, links=False):  # a link may lead out of the shown folder
            yield self.root.name if path == self.root else str(path.relative_to(self.root)), path


def _id(place: str) -> str:
    return hashlib.blake2b(os.fsencode(place), digest_size=6).hexdigest()
