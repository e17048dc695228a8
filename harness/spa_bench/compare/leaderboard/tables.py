"""Tables of rows in Markdown, plain text, CSV and LaTeX. Other modules decide the content; this one writes it."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tabulate import tabulate

from spa_bench.compare.leaderboard.compare import PAIRED, best, paired_columns
from spa_bench.compare.leaderboard.measurers import mixed
from spa_bench.compare.leaderboard.pooled import UNSAID
from spa_bench.compare.leaderboard.ranges import EFFECTIVE, runs_code
from spa_bench.compare.leaderboard.rows import LeaderboardRow, common_size
from spa_bench.support.rounding import fixed
from spa_bench.types import Estimate

COLUMNS = {**PAIRED, "average_kl": "average_kl[i<j]"}
"""Column -> metric."""
Measured = Mapping[str, tuple[Estimate, float | None]]
"""Metric -> (its estimate, the n that it is at; None where it depends on no n)."""
OF_PROGRAMS = {EFFECTIVE}
_DIGITS = {"average_kl": 4}
NOISE = {"diversity_score": "noise_floor[diversity_score,exact]", "average_kl": "noise_floor[average_kl]"}
"""Column -> what numerics alone give there."""


@dataclass(frozen=True)
class Style:
    """How a format writes its cells."""

    tablefmt: str
    bold: Callable[[str], str]
    interval: Callable[[str, str], str]
    escape: Callable[[str], str]


_LATEX = {**{sign: f"\\{sign}" for sign in "_%#&${}"}, "\\": "\\textbackslash{}", "~": "\\textasciitilde{}"}
_LATEX |= {"^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}"}


def _latex(text: str) -> str:
    """A name escaped so that it is read as it is: behind the end of a row, `[` and `*` would be arguments of that."""
    safe = "".join(_LATEX.get(sign, sign) for sign in text).replace("--", "-{}-").replace("--", "-{}-")
    return f"{{}}{safe}" if safe.startswith(("[", "*")) else safe


def _markdown(text: str) -> str:
    """A name escaped so that it becomes no tag, link, code or cell; brackets and underscores of metrics stay readable."""
    text = html.escape(text, quote=False)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`").replace("](", "]\\(").replace("*", "\\*")


STYLES = {
    "plain": Style("simple", lambda t: t, lambda a, b: f" [{a}, {b}]", lambda t: t),
    "md": Style("github", lambda t: f"**{t}**", lambda a, b: f" <sub>[{a}, {b}]</sub>", _markdown),
    "latex": Style(
        "latex_raw", lambda t: f"\\textbf{{{t}}}", lambda a, b: f" {{\\scriptsize [{a}, {b}]}}", _latex
    ),
}  # fmt: skip


def cell(estimate: Estimate, style: Style, *, digits: int = 3, bold: bool = False, note: str = "") -> str:
    """The text of a value with its interval in small letters; a dash where there is none."""
    if estimate.value is None:
        return "-"
    value = fixed(estimate.value, digits)
    text = style.bold(value) if bold else value
    if estimate.low is not None and estimate.high is not None:
        text += style.interval(fixed(estimate.low, digits), fixed(estimate.high, digits))
    return text + note


def table(rows: Sequence[LeaderboardRow], *, style: str = "plain") -> str:
    """The main table of `rows`, all of one task; metrics that depend on n at the largest n that all rows have."""
    how, size = STYLES[style], common_size(rows)
    columns = columns_of(rows)
    bold = {column: best(rows, column) if style != "plain" else set() for column in columns if column in paired_columns(rows)}
    body = []
    for row in rows:
        mark = " (unsafe sandbox)" if row.unsafe else ""
        cells = []
        for column, metric in columns.items():
            digits, is_best = _DIGITS.get(column, 3), row.label in bold.get(column, ())
            noise = row.estimate(NOISE[column]).value if column in NOISE else None
            note = "" if noise is None else f" (noise {noise:.{digits}f})"
            cells.append(cell(row.estimate(metric, size), how, digits=digits, bold=is_best, note=note))
        result = row.result
        n = "varies" if result["n"] is None else result["n"]
        body.append([how.escape(row.label + mark), *cells, n, result["k"], result["members"], len(row.seeds)])
        body[-1] += [f"{row.seconds:.0f}", *([how.escape(row.model)] if several_models(rows) else [])]
        body[-1] += [how.escape(row.measured_by or UNSAID)] if mixed(rows) else []
    head = ["sampler", *(_head(column, rows, size) for column in columns), "n", "k", "K", "seeds", "seconds"]
    head += ["model"] * several_models(rows) + ["measured by"] * mixed(rows)
    return tabulate(body, [how.escape(h) for h in head], tablefmt=how.tablefmt, disable_numparse=True)


def several_models(rows: Sequence[LeaderboardRow]) -> bool:
    """Whether the rows are of different models, so that a table names that of each."""
    return len({row.model for row in rows}) > 1


def columns_of(rows: Sequence[LeaderboardRow]) -> dict[str, str]:
    """Column -> metric, without those of programs where answers are not programs, and with the user's own at the end."""
    trees = any(runs_code(row.result["spec"]) for row in rows)
    own = {name: name for row in rows for name in row.own}
    columns = {**paired_columns(rows), "average_kl": COLUMNS["average_kl"]}
    return {column: metric for column, metric in columns.items() if trees or metric not in OF_PROGRAMS} | own


def _head(column: str, rows: Sequence[LeaderboardRow], size: int | None) -> str:
    """The column's name, with the n of the comparison where rows have different n."""
    depends = column in {"effective_diversity", "vendi", "utility_k", "distinct_k"}
    if not depends or len({r.result["size"] for r in rows}) == 1:
        return column
    return f"{column} ({'each at its n' if size is None else f'at {size}'})"


def grid(body: Sequence[Sequence[object]], head: Sequence[str], *, style: str = "md", ready: bool = False) -> str:
    """A table of any content; `ready` says that all columns but the first come from `cell` and stay as they are."""
    how = STYLES[style]
    escaped = [[how.escape(str(first)), *(c if ready else how.escape(str(c)) for c in line)] for first, *line in body]
    return tabulate(escaped, [how.escape(h) for h in head], tablefmt=how.tablefmt, disable_numparse=True)


def as_csv(rows: Sequence[LeaderboardRow], *, at: Mapping[str, Measured] = MappingProxyType({})) -> str:
    """All estimates as CSV, a line for each row and metric, for other programs.

    Metrics that depend on n are at the largest n that all rows of a task have, as in the table; `at_n` is that n.
    Of a row whose group hash is in `at`, the lines are those instead.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["task", "sampler", "label", "model", "n", "k", "members", "seeds", "spec_hash", "group_hash", "seconds"]
    writer.writerow([*head, "measured_by", "metric", "value", "low", "high", "problems", "at_n", "reason"])
    for row in rows:
        result = row.result
        fixed = [row.task, result["sampler"], row.label, result["model"], result["n"], result["k"], result["members"]]
        fixed += [" ".join(map(str, row.seeds)), result["runs"][0]["spec_hash"], result["group_hash"], row.seconds]
        fixed.append(row.measured_by)
        measured = at.get(result["group_hash"]) or {name: row.compared(name) for name in result["metrics"]}
        for name, (e, n) in measured.items():
            numbers = ["" if v is None else v for v in (e.value, e.low, e.high, e.n, n)]
            writer.writerow([*fixed, name, *numbers, e.reason])
    return stream.getvalue()
