"""`spa-bench log`: send existing runs to trackers."""

from __future__ import annotations

from typing import Annotated

from spa_bench.cli.options import OUTPUT, RunFolders, option


def log(
    runs: RunFolders,
    /,
    *,
    to: Annotated[tuple[str, ...], option("wandb, mlflow or trackio; as --log of run", OUTPUT, metavar="NAME")],
    log_samples: Annotated[bool, option("give trackers the samples and verdicts too", OUTPUT)] = False,
) -> int:
    """Give finished or stopped runs to wandb, mlflow or trackio. The exit code is 2 where a tracker did not take a run."""
    from spa_bench.publish.trackers.tracking import log_runs, names_of
    from spa_bench.runs.folder import given_run
    from spa_bench.support.console import Reporter

    names = names_of(to)
    missed = log_runs([given_run(path) for path in runs], names, Reporter().note, samples=log_samples)
    return 2 if missed else 0
