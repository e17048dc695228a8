"""What was appended to a log since the last look: cheap for a file that grows, and the writer notices nothing.

Nothing is locked, parsed or checked here: lines are counted. A torn last line counts when its end has come. `Log` in log.py
reads rows, and `spa-bench verify` says whether they are whole.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

# rows begin with their problem; inside JSON a quote has a backslash before it, so no text can look like a key
_PROBLEM = re.compile(rb'^\{"problem": "((?:[^"\\]|\\.)*)"', re.MULTILINE)
_TOKENS = re.compile(rb', "tokens": (\d+), "')
_BLOCK = 1 << 22  # bytes read at once: a log may be larger than what one wants in memory


class Tail:
    """Counts over the whole lines of the log at `path`, brought up to date by `look`."""

    def __init__(self, path: Path):
        self.path = path
        self._begin(0)

    def _begin(self, inode: int) -> None:
        self._at, self._inode = 0, inode
        self.tokens = 0
        self.odd = 0  # whole lines that do not begin like a row
        self.problems: Counter[bytes] = Counter()  # rows a problem

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.problems.total()

    def complete(self, rows: int) -> int:
        """How many problems have at least so many rows."""
        return sum(count >= rows for count in self.problems.values())

    def look(self) -> bool:
        """Count what has come since the last look, from the start where the file is another one now; whether any has."""
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
                        # a line longer than a block, or its beginning alone
                        block += stream.readline()
                        whole = len(block) if block.endswith(b"\n") else 0
                    if not whole:
                        break
                    self._count(block[:whole])
                    stream.seek(self._at)
                return self._at != before
        except OSError:  # not there yet, or just being replaced: the next look finds it
            return False

    def _count(self, lines: bytes) -> None:
        found = _PROBLEM.findall(lines)
        self.problems.update(found)
        self.odd += lines.count(b"\n") - len(found)
        self.tokens += sum(map(int, _TOKENS.findall(lines)))
        self._at += len(lines)
