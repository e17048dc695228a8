"""Runs as files that other tools read: evalplus' samples, and a task of lm-eval with its cache of answers.

An export writes files and executes nothing. The other tool then gives verdicts of its own: they may differ from ours
where its rules differ (docs/explanation/security.md), and neither tool is a sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from spa_bench.errors import UsageError
from spa_bench.publish.export import evalplus, lm_eval
from spa_bench.publish.export.folder import write_export
from spa_bench.publish.export.samples import Content, Samples, collect
from spa_bench.runs.folder import RunFolder
from spa_bench.support.text import did_you_mean
from spa_bench.tasks.base import Task

FORMATS = MappingProxyType[str, Callable[[Samples], Content]]({"evalplus": evalplus.content, "lm-eval": lm_eval.content})


def export(run: RunFolder, task: Task, *, to: str, out: Path) -> tuple[str, ...]:
    """Write `run` to the folder `out` in the format `to`; returns notes for the user, one line each.

    The same run gives the same bytes. Raises UsageError for an unknown format, and for a folder with anything but an
    earlier export of this run in this format. Raises StoreError where the run has no samples, and DataError where the
    format cannot hold them.
    """
    if to not in FORMATS:
        raise UsageError(f"--to is {to!r}{did_you_mean(to, FORMATS)}")
    samples = collect(run, task)
    content = FORMATS[to](samples)
    stale = write_export(out, content.files, run=run.hash, to=to)
    return (*samples.notes(), *content.notes, *stale)
