"""The page that people look at: runs and results as one HTML file that works offline. Reads files only; imports no torch."""

from spa_bench.publish.report.data import ReportData, read
from spa_bench.publish.report.page import render

__all__ = ["ReportData", "read", "render"]
