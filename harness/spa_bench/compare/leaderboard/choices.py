"""The tables that a page has where results are multiple choice or have scores of the library behind a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from spa_bench.compare.leaderboard.compare import CHOSEN, best
from spa_bench.compare.leaderboard.rows import LeaderboardRow
from spa_bench.compare.leaderboard.tables import STYLES, cell
from spa_bench.metrics.suite import is_of_all
from spa_bench.runs.measure import is_own_score

CHOICE_COLUMNS = {
    "accuracy": "pass@1[mc]",
    "majority vote": "majority_vote[mc]",
    "any of n": "any_of_n[mc]",
    "by chance": "any_of_n[chance]",
    "agreement": "agreement[choices]",
    "KL (choices)": "kl[choices,i!=j]",
    "KL (first token)": "kl[first,i!=j]",
    "entropy (choices)": "entropy[choices]",
    "diversity after": "diversity_score[mc]",
}
"""Column -> metric, for the table of multiple choice."""
_CHANCE = "any_of_n[chance]"
_DIGITS = {"KL (choices)": 4, "KL (first token)": 4}


def choice_table(rows: Sequence[LeaderboardRow], *, style: str = "plain") -> str:
    """A table with a line for each sampler over the problems that have choices, and the level of guessing; empty without any.

    A column is there where some row has a value. The best values are bold where more is better, as in the main table.
    """
    how, with_choices = STYLES[style], [row for row in rows if row.estimate(_CHANCE).value is not None]
    if not with_choices:
        return ""
    columns = {c: m for c, m in CHOICE_COLUMNS.items() if any(row.estimate(m).value is not None for row in with_choices)}
    kept = [
        c for c in columns if c in CHOSEN and all(CHOSEN[c] in run["values"] for r in with_choices for run in r.result["runs"])
    ]
    bold = {column: best(with_choices, column) if style != "plain" else set() for column in kept}
    body = []
    for row in with_choices:
        estimates = {column: row.estimate(metric) for column, metric in columns.items()}
        cells = [
            cell(estimate, how, digits=_DIGITS.get(column, 3), bold=row.label in bold.get(column, ()))
            for column, estimate in estimates.items()
        ]
        body.append([how.escape(row.label), row.estimate(_CHANCE).n, *cells])
    unequal = len({row.result["size"] for row in with_choices}) > 1
    names = [f"{c} (each at its n)" if unequal and is_of_all(metric) else c for c, metric in columns.items()]
    drawn = tabulate(body, [*map(how.escape, ["sampler", "problems", *names])], tablefmt=how.tablefmt, disable_numparse=True)
    note = chance_note([(row.label, row.result["spec"], row.estimate("distinct[choices]").value) for row in with_choices])
    return f"{drawn}\n\n{how.escape(note)}" if note else drawn


def own_table(rows: Sequence[LeaderboardRow], *, style: str = "plain") -> str:
    """A table of the scores of the library behind the task, a column for each sampler; empty without any.

    Values are means over members and seeds. Standard errors are left out, because those of single members and seeds are not
    standard errors of their mean.
    """
    how, names = STYLES[style], list(dict.fromkeys(n for r in rows for n in r.metrics if n.startswith("own[")))
    shown = [name for name in names if is_own_score(name)]
    body = []
    for name in shown:
        task, metric = name.removeprefix("own[").removesuffix("]").split(",", 1)
        body.append([how.escape(task), how.escape(metric), *(cell(r.estimate(name), how, digits=4) for r in rows)])
    head = map(how.escape, ["task", "metric", *(row.label for row in rows)])
    return tabulate(body, [*head], tablefmt=how.tablefmt, disable_numparse=True) if body else ""


def chance_note(rows: Sequence[tuple[str, Mapping[str, Any], float | None]]) -> str:
    """A note on the column "by chance" for the rows (label, spec, different choices a problem) at temperature 0.

    At temperature 0 a member makes the same choice in all its draws, and members may choose alike, so n answers are fewer than
    n guesses. The note is empty where no row is at temperature 0 or has more than one answer.
    """
    said = [
        f"{label} made {made:.3g} different guess{'es' * (made != 1)} a problem in {spec['n']} answers"
        for label, spec, made in rows
        if made is not None and (spec["n"] or 1) > 1 and spec["sampler"].get("decoding", {}).get("temperature") == 0
    ]
    rest = "; at temperature 0 a member makes one guess, and members may make the same: "
    return f"by chance: what n independent guesses get{rest}{', '.join(said)}." if said else ""
