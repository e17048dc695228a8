"""The regression gate: two places compared, and runs checked against a baseline. Imports no torch.

from spa_bench.compare.gate import check

verdict = check("runs", against="leaderboards/results/mini-code.json")
assert verdict.ok, verdict.report
"""

from spa_bench.compare.gate.checking import check, check_places
from spa_bench.compare.gate.comparing import Comparison, compare
from spa_bench.compare.gate.rules import ALPHA, RULES
from spa_bench.compare.gate.verdict import Line, Subject, Verdict

__all__ = ["ALPHA", "RULES", "Comparison", "Line", "Subject", "Verdict", "check", "check_places", "compare"]
