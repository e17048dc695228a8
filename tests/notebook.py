"""A notebook without a kernel: cells in one namespace, with sources that can be read, and no file."""

from __future__ import annotations

import contextlib
import io
import linecache
import sys
from types import ModuleType
from typing import Any


class Notebook:
    """Runs cells one after the other. `name` is that of the module in which their classes are; two may have the same."""

    def __init__(self, name: str = "notebook_of_a_test"):
        self.module = ModuleType(name)
        sys.modules[name] = self.module
        self._cells = 0

    def run(self, source: str) -> str:
        """What the cell prints."""
        self._cells += 1
        file = f"<cell {self._cells} of notebook {id(self.module)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, file, "exec"), vars(self.module))
        return printed.getvalue()

    def get(self, name: str) -> Any:
        """The value of a name in the notebook."""
        return vars(self.module)[name]
