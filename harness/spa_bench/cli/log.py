"""`spa-bench log`: give runs that are there to trackers."""

from __future__ import annotations

import argparse

from spa_bench.publish.trackers.tracking import log_runs, names_of
from spa_bench.runs.folder import open_run
from spa_bench.support.console import Reporter


def log(a: argparse.Namespace) -> int:
    """2 when a tracker did not take a run, else 0."""
    names = names_of(a.log)
    missed = log_runs([open_run(path) for path in a.runs], names, Reporter().note, samples=a.log_samples)
    return 2 if missed else 0
