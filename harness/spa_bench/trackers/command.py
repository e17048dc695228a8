"""`spa-bench log`: give runs that are there to trackers."""

from __future__ import annotations

import argparse

from spa_bench.console import Reporter
from spa_bench.store import open_run
from spa_bench.trackers.tracking import log_runs, names_of


def log(a: argparse.Namespace) -> int:
    """2 when a tracker did not take a run, else 0."""
    names = names_of(a.log)
    missed = log_runs([open_run(path) for path in a.runs], names, Reporter().note, samples=a.log_samples)
    return 2 if missed else 0
