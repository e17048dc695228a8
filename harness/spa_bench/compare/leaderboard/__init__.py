"""Leaderboards from run folders or result files: seeds pooled, intervals, paired differences, fronts. Imports no torch."""

from spa_bench.compare.leaderboard.budget import arrange
from spa_bench.compare.leaderboard.budget_table import budget_json, measured
from spa_bench.compare.leaderboard.check import check
from spa_bench.compare.leaderboard.compare import compare_with_reference, number, row_of, summary
from spa_bench.compare.leaderboard.latex import as_latex
from spa_bench.compare.leaderboard.measurers import marked
from spa_bench.compare.leaderboard.page import markdown
from spa_bench.compare.leaderboard.results import LogFacts, find_results, find_with_runs, from_runs, save, save_all
from spa_bench.compare.leaderboard.rows import LeaderboardRow, build_rows, by_table
from spa_bench.compare.leaderboard.tables import as_csv, table

__all__ = [
    "LeaderboardRow",
    "LogFacts",
    "arrange",
    "as_csv",
    "as_latex",
    "budget_json",
    "build_rows",
    "by_table",
    "check",
    "compare_with_reference",
    "find_results",
    "find_with_runs",
    "from_runs",
    "markdown",
    "marked",
    "measured",
    "number",
    "row_of",
    "save",
    "save_all",
    "summary",
    "table",
]
