"""Counts of the lines that were appended to a log since the last look: cheap, and without an effect on the writer.

Lines are counted; nothing is locked, parsed or checked. A torn last line counts as soon as its end is written. `Log` in
log.py reads rows, and `spa-bench verify` says whether they are whole.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

# a row begins with its problem; inside JSON a quote has a backslash before it, so no text can look like a key
_PROBLEM = re.compile(rb'^\{"problem": "((?:[^"\\]|\\.)*)"', re.MULTILINE)
_TOKENS = re.compile(rb', "tokens": (\d+), "')
_BLOCK = 1 << 22  # bytes read at once: a log may be larger than memory allows


class Tail:
    """Counts over the whole lines of the log at `path`; `look` updates them."""

    def __init__(self, path: Path):
        self.path = path
        self._begin(0)

    def _begin(self, inode: int) -> None:
        self._at, self._inode = 0, inode
        self.tokens = 0
        self.odd = 0  # whole lines that do not begin like a row
        self.problems: Counter[bytes] = Counter()  # problem -> its rows

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.problems.total()

    def complete(self, rows: int) -> int:
        """How many problems have at least `rows` rows."""
        return sum(count >= rows for count in self.problems.values())

    def look(self) -> bool:
        """Count the lines since the last look, from the start where the file was replaced; whether there were any."""
        try:
            with self.path.open("rb") as stream:
                now = os.fstat(stream.fileno())
                if now.st_ino != self._inode or now.st_size < self._at:
                    self._begin(now.st_ino)
                before = self._at
                stream.seek(self._at)
                while block := stream.read(_BLOCK):
                    whole = block.rfind(b"\n") + 1
                    if not whole:
                        # a line that is longer than a block, or only the beginning of one
                        block += stream.readline()
                        whole = len(block) if block.endswith(b"\n") else 0
                    if not whole:
                        break
                    self._count(block[:whole])
                    stream.seek(self._at)
                return self._at != before
        except OSError:  # the file does not exist yet, or is being replaced: the next look reads it
            return False

    def _count(self, lines: bytes) -> None:
        problems = _PROBLEM.findall(lines)
        self.problems.update(problems)
        self.odd += lines.count(b"\n") - len(problems)
        self.tokens += sum(map(int, _TOKENS.findall(lines)))
        self._at += len(lines)
