"""The regression gate compares two places and checks runs against a baseline. It imports no torch.

from spa_bench.compare.gate import check

verdict = check("runs", against="leaderboards/results/mini-code.json")
assert verdict.ok, verdict.report
"""

from spa_bench.compare.gate.checking import check, check_places, check_rows
from spa_bench.compare.gate.comparing import SamplerComparison, compare, compare_rows
from spa_bench.compare.gate.rules import ALPHA, RULES
from spa_bench.compare.gate.verdict import GateVerdict, Line, Subject

__all__ = [
    "ALPHA", "RULES", "GateVerdict", "Line", "SamplerComparison", "Subject", "check", "check_places", "check_rows", "compare",
    "compare_rows",
]  # fmt: skip
