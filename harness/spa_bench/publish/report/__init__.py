"""The report: runs and results as one HTML file that works offline. It only reads files, and does not import torch."""

from spa_bench.publish.report.data import ReportData, read
from spa_bench.publish.report.page import render

__all__ = ["ReportData", "read", "render"]
