"""The nouns of grading: tests, programs to grade, and their outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spa_bench.types import CallSuite, Verdict

MESSAGE_CHARACTERS = 300


class Grading(StrEnum):
    """Whose rules decide."""

    DEFAULT = "default"  # evalplus' rules with its mistakes corrected; see compare.py
    EVALPLUS = "evalplus"  # the verdicts of evalplus 0.3.1, mistakes included


@dataclass(frozen=True)
class Check:
    """Tests that are code."""

    source: str  # defines check(candidate)
    helpers: str = ""  # a program whose names the tests may use, and the reference for time limits: the solution
    one_process: bool = False  # run tests and program together when something cannot cross between processes


@dataclass(frozen=True)
class Calls:
    """Tests that are data: suites that run one after the other, each in a fresh process, until one fails."""

    suites: tuple[CallSuite, ...]
    reference: str  # a right program: its results are expected, and its time here sets the limits


@dataclass(frozen=True, kw_only=True)
class Program:
    """One sample to grade."""

    source: str  # full program text: prompt and completion
    entry_point: str  # name in the program of the function under test
    tests: Check | Calls
    problem: str = ""  # its id, for error messages
    seconds: float = 3.0  # CPU time: for Check the limit of everything together, for Calls the least limit of one call


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one program ended."""

    verdict: Verdict
    message: str = ""  # one line of at most 300 characters; empty when passed
    call: str = ""  # the arguments of the first call that failed, shortened
    suite: str = ""  # for Calls: the suite that failed; the suites before it passed
    mark: str = ""  # "one process", "unproxied": see Check


@dataclass(frozen=True)
class Behaved:
    """What one program did on the probes of its problem; see spa_bench.types.Behaviour."""

    digest: str = ""  # "": the problem has no probes
    ran: bool = False
    right: int = 0
    probes: int = 0


def one_line(text: str) -> str:
    """`text` as one short line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MESSAGE_CHARACTERS]
