"""What a notebook shows: a leaderboard, a comparison and a verdict, each as text, as HTML and as a DataFrame."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spa_bench.api import frames
from spa_bench.compare.gate import GateVerdict, SamplerComparison
from spa_bench.compare.leaderboard import LeaderboardRow, as_csv, as_latex, by_table, markdown, table
from spa_bench.publish.report.table import table_of

if TYPE_CHECKING:
    from pandas import DataFrame

_DIFFERENCE = ("metric", "a", "b", "difference", "low", "high", "p", "adjusted_p", "resolved", "problems", "reason")
_JUDGED = (
    "task", "sampler", "metric", "outcome", "before", "now", "difference", "low", "high", "tolerance", "visible", "note",
)  # fmt: skip


def text_of(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The title and the table of each task, for a terminal."""
    return [f"{mine[0].title}\n{table(mine, style='plain')}" for mine in by_table(rows).values()]


def html_of(rows: Sequence[LeaderboardRow], notes: Sequence[str] = ()) -> str:
    """A table of HTML for each task: a row a sampler, with the main metrics and their 95 % intervals. All text is escaped."""
    parts = []
    for mine in by_table(rows).values():
        shown = table_of(mine)
        columns = [(place, column) for place, column in enumerate(shown.columns) if column.shown]
        cells = [
            [row.label, *(f"{each[place].value} {each[place].interval}".strip() or "–" for place, _ in columns), *_facts(row)]
            for row, each in zip(shown.rows, shown.cells, strict=True)
        ]
        at = f"; metrics that depend on n are at n = {shown.size}" if shown.unequal and shown.size else ""
        head = ["sampler", *(column.head for _, column in columns), "n", "seeds"]
        body = frames.pandas().DataFrame(cells, columns=head).to_html(index=False, border=0, escape=True)
        parts.append(f"<p><b>{html.escape(shown.title)}</b>{html.escape(at)}</p>\n{body}")
    parts += [f"<p>{html.escape(note)}</p>" for note in notes]
    return "\n".join(parts) or "<p>no runs</p>"


def _facts(row: LeaderboardRow) -> list[str]:
    n = row.result["n"]
    return ["varies" if n is None else str(n), ", ".join(map(str, row.seeds))]


class Leaderboard:
    """The rows of a leaderboard: one a sampler and task, seeds pooled."""

    def __init__(self, rows: Sequence[LeaderboardRow], *, reference: str | None = None):
        self._rows, self._reference = tuple(rows), reference

    def to_pandas(self) -> DataFrame:
        """A row for each sampler and metric: task, sampler, model, seeds, metric, value, low, high, n, at_n, problems, reason.

        Intervals are over problems and, with several seeds, over training too.
        """
        return frames.of_rows(self._rows)

    def markdown(self) -> str:
        """The page of `spa-bench leaderboard`: tables, paired differences of the reference, fronts."""
        return markdown(self._rows, reference=self._reference, command="spa_bench.load(...).leaderboard()")

    def latex(self) -> str:
        """The tables for a paper."""
        return as_latex(self._rows)

    def csv(self) -> str:
        """All estimates as CSV."""
        return as_csv(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _repr_html_(self) -> str:
        """The main table, for a notebook."""
        return html_of(self._rows)

    def __repr__(self) -> str:
        return "\n\n".join(text_of(self._rows))


class Comparison:
    """B minus A, paired by problem: `spa-bench compare`."""

    def __init__(self, compared: SamplerComparison):
        self._compared = compared

    def to_pandas(self) -> DataFrame:
        """A row for each metric: a, b, difference, its 95 % interval (low, high), p, adjusted_p (Holm), resolved, ...."""
        body = []
        for one in self._compared.metrics:
            difference, decision = one.decision.difference, one.decision
            body.append(
                [
                    one.metric, one.a, one.b, difference.value, difference.low, difference.high, decision.p,
                    decision.adjusted, decision.resolved, difference.n, difference.reason,
                ]
            )  # fmt: skip
        return frames.frame(_DIFFERENCE, body)

    def to_json(self) -> list[dict[str, Any]]:
        """As `spa-bench compare --json`."""
        return self._compared.to_json()

    @property
    def markdown(self) -> str:
        """The comparison as Markdown."""
        return self._compared.markdown

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return self._compared.report


class Check:
    """The verdict on runs against a baseline: `spa-bench check`."""

    def __init__(self, verdict: GateVerdict):
        self._verdict = verdict

    @property
    def ok(self) -> bool:
        """Whether nothing fell, is lost, or differs under the same spec."""
        return self._verdict.ok

    def to_pandas(self) -> DataFrame:
        """A row for each sampler and metric: outcome, before, now, difference, its interval, tolerance, note.

        `visible` is the smallest true drop that the check would see with 80 % chance.
        """
        body = []
        for subject in self._verdict.subjects:
            for line in subject.lines:
                found = {} if line.difference is None else asdict(line.difference)
                body.append(
                    [
                        subject.task, subject.label, line.metric, line.outcome, line.before, line.now, found.get("value"),
                        found.get("low"), found.get("high"), line.tolerance, line.visible, line.note,
                    ]
                )  # fmt: skip
        return frames.frame(_JUDGED, body)

    def to_json(self) -> Any:
        """As `spa-bench check --json`."""
        return self._verdict.to_json()

    @property
    def markdown(self) -> str:
        """The verdict as Markdown."""
        return self._verdict.markdown

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return self._verdict.report
