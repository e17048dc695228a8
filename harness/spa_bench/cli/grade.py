"""`spa-bench grade`: grade runs that were generated elsewhere."""

from __future__ import annotations

from spa_bench.cli.options import Embedding, Json, Judge, Metrics, Price, RunFolders, TaskFile, Trackers, Workers


def grade(
    runs: RunFolders,
    /,
    *,
    task_file: TaskFile = None,
    judge: Judge | None = None,
    spread: Workers | None = None,
    embedding: Embedding = None,
    metrics: Metrics = (),
    price_per_hour: Price = None,
    trackers: Trackers | None = None,
    as_json: Json = False,
) -> int:
    """Grade runs that were generated elsewhere, or whose grading was stopped."""
    from spa_bench.cli.summary import print_summary
    from spa_bench.compare.leaderboard import number
    from spa_bench.publish.trackers.tracking import Tracking, names_of
    from spa_bench.runs import perform
    from spa_bench.runs.folder import ADDED
    from spa_bench.runs.options import GradeOptions
    from spa_bench.runs.own_metrics import load_metrics
    from spa_bench.support.console import Reporter
    from spa_bench.types import Estimate

    judge, spread, trackers = judge or Judge(), spread or Workers(), trackers or Trackers()
    own, note = load_metrics(metrics), Reporter().note
    options = GradeOptions(
        judge=judge.options(price_per_hour),
        executor=spread.executor_options(),
        task_file=task_file,
        embedding=embedding,
        metrics=metrics,
    )
    with Tracking(names_of(trackers.log), note, samples=trackers.log_samples) as tracking:
        folders = perform.grade_runs(runs, options, follow=tracking)
    for folder in folders:
        added = (folder.read_json(ADDED) or {}).get("estimates", {})
        for name in (metric.name for metric in own if metric.name in added):
            note(f"{name}: {number(Estimate(**added[name]))}  ({folder.path / ADDED})")
    return print_summary(folders, as_json=as_json)
