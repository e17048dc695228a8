"""Verdicts on programs, which run in a sandbox while their answers are compared outside of it.

`Grader.run` takes programs and yields outcomes. Tests that are data (`Calls`) are compared by compare.py, outside; tests
that are code (`Check`) run in a process of their own inside the sandbox, where the program is a proxy.
docs/explanation/security.md says what can be trusted, and where verdicts differ from evalplus'. `Grader.behaviours` says
what programs do on their first inputs, whether right or wrong (probes.py, behave.py, digest.py).
"""

from spa_bench.grading.base import Behaved, Calls, Check, Grading, Outcome, Program
from spa_bench.grading.pool import Grader

__all__ = ["Behaved", "Calls", "Check", "Grader", "Grading", "Outcome", "Program"]
