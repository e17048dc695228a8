"""One hostile program."""

from __future__ import annotations

from dataclasses import dataclass

ADDS_ONE = "def f(x):\n    return x + 1\n"
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(3) == 4\n"
_IMPORTS = "import asyncio, ctypes, fcntl, io, os, pathlib, shutil, socket, subprocess, sys, threading, time\n"


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A program for the problem `f(x) = x + 1`. It succeeds where it passes; with `then`, where that program does not.

    VICTIM in its source stands for a folder of the host, which holds `file` (SECRET content) and `folder/inner`.
    """

    goal: str  # the attacks with the same goal are one row of a table
    name: str
    source: str
    check: str = ""  # tests that are code; without them, its tests are data
    then: str = ""  # the program that the same worker grades next
    seconds: float = 0.2  # of CPU time
    only: str = ""  # the sandbox in which it makes sense; in all without it
    harmful: bool = False  # whether it would harm the machine where nothing stops it


def attempt(statement: str, imports: str = _IMPORTS) -> str:
    """A program that passes where the statement works."""
    return f"{imports}def f(x):\n    {statement}\n    return x + 1\n"
