"""A result file that somebody sends, inspected: its faults, and the rows that it would add to leaderboards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spa_bench.compare.leaderboard.check import check
from spa_bench.compare.leaderboard.measurers import measurers
from spa_bench.compare.leaderboard.pooled import UNSAID
from spa_bench.compare.leaderboard.results import read_all
from spa_bench.compare.leaderboard.rows import LeaderboardRow, build_rows, by_table
from spa_bench.compare.leaderboard.tables import STYLES, columns_of, table
from spa_bench.compare.submission.recompute import recompute
from spa_bench.errors import StoreError

UNMARKED = "measured_by is empty; `--save --measured-by LINE` says who made the runs"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was found in one file."""

    faults: tuple[str, ...]  # a sentence each; empty: it is complete, consistent and, where asked for, recomputed
    notes: tuple[str, ...]  # what was recomputed
    rows: tuple[LeaderboardRow, ...]  # empty where the file cannot be tabled

    def to_json(self) -> dict[str, Any]:
        """Faults, notes and, for each row, the estimates of the columns of a leaderboard."""
        return {"faults": list(self.faults), "notes": list(self.notes), "rows": [_shown(row) for row in self.rows]}

    def markdown(self) -> str:
        """The rows as a leaderboard shows them, a table for each task, with who measured them; "" without rows."""
        parts = []
        for mine in by_table(self.rows).values():
            title = STYLES["md"].escape(f"{mine[0].title}, measured by {', '.join(measurers(mine))}")
            parts.append(f"{title}\n\n{table(mine, style='md')}")
        return "\n\n".join(parts)


def inspect_file(path: Path, *, recomputed: bool, regrade: bool = False, task_file: Path | None = None) -> Submission:
    """The file at `path`, checked; where `recomputed`, its metrics follow from its samples. Raises as recompute."""
    faults, notes = check(path), list[str]()
    if recomputed and not faults:
        found = recompute(path, regrade=regrade, task_file=task_file)
        faults, notes = [*found.faults], [*found.notes]
    rows = _rows(path)
    if recomputed and any(not row.measured_by for row in rows):
        faults = [*faults, UNMARKED]
    return Submission(faults=tuple(faults), notes=tuple(notes), rows=tuple(rows))


def _rows(path: Path) -> Sequence[LeaderboardRow]:
    try:
        return build_rows(read_all(path))
    except StoreError:  # `check` has said why
        return ()


def _shown(row: LeaderboardRow) -> dict[str, Any]:
    whole = row.to_json()
    metrics = {metric: whole["metrics"][metric] for metric in columns_of([row]).values() if metric in whole["metrics"]}
    return {**whole, "title": row.title, "label": row.label, "measured_by": row.measured_by or UNSAID, "metrics": metrics}
