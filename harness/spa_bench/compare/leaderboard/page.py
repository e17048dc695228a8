"""The page of a leaderboard in Markdown: a table for each task, resolved differences, failures, cost and origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from spa_bench.compare.leaderboard.budget import Budget
from spa_bench.compare.leaderboard.budget_table import LEGEND as BUDGET_LEGEND
from spa_bench.compare.leaderboard.budget_table import budget_table, said
from spa_bench.compare.leaderboard.choices import choice_table, own_table
from spa_bench.compare.leaderboard.compare import (
    PairedComparison,
    compare_with_reference,
    front_of,
    number,
    paired_columns,
    summary,
)
from spa_bench.compare.leaderboard.measurers import measured_line
from spa_bench.compare.leaderboard.quality import LEAD, quality_line
from spa_bench.compare.leaderboard.rows import LeaderboardRow, by_table
from spa_bench.compare.leaderboard.signal import signal_line
from spa_bench.compare.leaderboard.tables import STYLES, cell, columns_of, grid, table
from spa_bench.runs.contents import COUNTS
from spa_bench.support.provenance import numerics_line, revision_line, versions_line

_ODD = COUNTS[1:]  # all but how many there are


def markdown(
    rows: Sequence[LeaderboardRow],
    *,
    reference: str | None,
    command: str,
    budgets: Mapping[tuple[str, str], Budget] = MappingProxyType({}),
) -> str:
    """The whole page; the same rows give the same bytes. `budgets` are by the key of their table, which then shows them too."""
    parts = ["# Leaderboard\n", f"Made by `{command}`; do not edit by hand.\n"]
    for key, mine in by_table(rows).items():
        models = ", ".join(sorted({r.model for r in mine}))
        about = f"{mine[0].covered}, model {models}.{_pairs(mine)}{_sanitised(mine)} {measured_line(mine)}"
        parts.append(f"## {_escape(mine[0].version)}\n\n{_escape(about.rstrip())}\n")
        parts.append(f"{line}\n" if (line := signal_line(mine)) else "")
        parts.append(f"**{LEAD}**: {_escape(line)}\n" if (line := quality_line(mine)) else "")
        parts.append(table(mine, style="md") + "\n")
        parts += [_budget_section(budgets[key])] if key in budgets else []
        parts += [_choice_section(mine), _own_section(mine)]
        if reference:
            there = any(r.label == reference for r in mine)
            parts.append(_paired_section(mine, reference) if there else _no_reference(mine, reference))
        parts += [_front_section(mine), _odd_section(mine), _cost_section(mine), _provenance(mine)]
    parts.append(
        LEGEND + (CHOICE_LEGEND if choice_table(rows) else "") + (OPEN_LEGEND if any(r.open_ended for r in rows) else "")
    )
    return "\n".join(part for part in parts if part)


_escape = STYLES["md"].escape


def _pairs(rows: Sequence[LeaderboardRow]) -> str:
    """The training pairs of the rows as a sentence; "" where nothing is trained, and for the embedded model's own task."""
    names = sorted({row.pairs for row in rows} - {""})
    return f" Trained on {', '.join(names)}." if names else ""


def _sanitised(rows: Sequence[LeaderboardRow]) -> str:
    """A sentence where all programs were graded as evalplus' sanitiser makes them, which is no card's default; else ""."""
    names = {row.result["spec"]["task"].get("sanitiser") for row in rows}
    return " Answers were sanitised as by evalplus (task.sanitiser=evalplus)." if names == {"evalplus"} else ""


def _code(name: str) -> str:
    return "`" + name.replace("`", "'") + "`"


def _budget_section(budget: Budget) -> str:
    return f"### At equal {budget.what}\n\n{_escape(said(budget))}\n\n{budget_table(budget)}\n\n{BUDGET_LEGEND}\n"


def _choice_section(rows: Sequence[LeaderboardRow]) -> str:
    choices = choice_table(rows, style="md")
    return f"### Multiple choice\n\n{choices}\n" if choices else ""


def _own_section(rows: Sequence[LeaderboardRow]) -> str:
    scores = own_table(rows, style="md")
    why = next((e.reason for row in rows for name, e in row.metrics.items() if name.startswith("own[")), "")
    return f"### Own scores\n\nMeans over members and seeds, {why}.\n\n{scores}\n" if scores else ""


def _paired_section(rows: Sequence[LeaderboardRow], reference: str) -> str:
    comparisons = compare_with_reference(rows, reference)
    if not comparisons:
        return ""
    columns = [column for column in columns_of(rows) if column in paired_columns(rows)]
    body = [[c.other.label, *(_difference(c, column) for column in columns)] for c in comparisons]
    head = f"### {_escape(reference)} minus the others, paired by problem\n"
    bold = "Bold: resolved at 95 %, Holm over the samplers of a column.\n"
    sentences = [summary(comparisons, reference) + "\n", *(f"- {c.sentence(reference)}" for c in comparisons)]
    drawn = grid(body, [f"{reference} minus", *columns], ready=True)
    listed = "\n".join(map(_escape, sentences))
    return f"{head}\n{bold}\n{drawn}\n\n{listed}\n"


def _no_reference(rows: Sequence[LeaderboardRow], reference: str) -> str:
    """The reason why there is no paired section, and the references to choose from."""
    labels, called = ", ".join(_code(r.label) for r in rows), _code(reference)
    return f"No row of this table is called {called}, so nothing is compared with it here; `--reference` takes {labels}.\n"


def _difference(comparison: PairedComparison, column: str) -> str:
    decision = comparison.decisions[column]
    return cell(decision.difference, STYLES["md"], bold=decision.resolved)


def _front_section(rows: Sequence[LeaderboardRow]) -> str:
    reached = front_of(rows)
    if reached is None:
        return ""
    front, sweep = reached
    body = [
        [
            r.label,
            "yes" if front.on_front[r.label] else "no",
            f"{front.stays_on_front[r.label]:.2f}",
            number(front.adds[r.label], 4),
            number(front.distance[r.label]) if front.distance[r.label].value is not None else front.distance[r.label].reason,
        ]
        for r in rows
        if r.label in front.on_front
    ]
    head = ["sampler", "on the front", "in resamples", "adds to the hypervolume", "distance to the temperature front"]
    swept = f"The temperature front is drawn by {_escape(', '.join(sweep))}. " if sweep else ""
    return (
        "### Quality and diversity together\n\n"
        f"Points are ({'judged quality / 10, distinct_k / n' if rows[0].open_ended else 'pass@1, diversity score'}). {swept}"
        f"Hypervolume above (0, 0) of all: {number(front.hypervolume)}; R2 from (1, 1): {number(front.r2)}.\n\n"
        f"{grid(body, head)}\n"
    )


def _odd_section(rows: Sequence[LeaderboardRow]) -> str:
    body = []
    for row in rows:
        totals = {name: sum(run["counts"][name] for run in row.result["runs"]) for name in (*_ODD, "samples")}
        body.append([row.label, *(_percent(totals[name], totals["samples"]) for name in _ODD)])
    return f"### Samples that went wrong\n\n{grid(body, ['sampler', *_ODD])}\n"


def _percent(part: int, whole: int) -> str:
    return "0" if not part else f"{part} ({100 * part / whole:.1f} %)"


def _cost_section(rows: Sequence[LeaderboardRow]) -> str:
    body = []
    for row in rows:
        costs = [run["cost"] for run in row.result["runs"]]
        tokens, spent = (row.estimate(name).value for name in ("tokens", "tokens[spent]"))
        stages: dict[str, float] = {}
        for cost in costs:
            for name, seconds in cost.get("stages", {}).items():
                stages[name] = stages.get(name, 0.0) + seconds / len(costs)
        longest = ", ".join(f"{n} {s:.0f}" for n, s in sorted(stages.items(), key=lambda kv: -kv[1])[:3] if s >= 0.5)
        body.append(
            [
                row.label,
                "-" if tokens is None else f"{tokens:.1f}",
                "-" if spent is None else f"{spent:.1f}",
                f"{row.seconds:.0f}",
                longest or "-",
                max((c.get("peak_memory_mb", 0) for c in costs), default=0) or "-",
                _mean([c["gpu_seconds"] for c in costs if "gpu_seconds" in c], 0),
                _mean([c["price"] for c in costs if "price" in c], 2),
            ]
        )
    head = ["sampler", "tokens an answer", "drawn for it", "seconds", "of which", "peak MiB", "GPU seconds", "price"]
    return f"### What it cost\n\nMeans over seeds.\n\n{grid(body, head)}\n"


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{sum(values) / len(values):.{digits}f}" if values else "-"


def _provenance(rows: Sequence[LeaderboardRow]) -> str:
    body = []
    for row in rows:
        spec, runs = row.result["spec"], row.result["runs"]
        numerics = numerics_line(spec["numerics"]) or "-"
        judged = ", ".join(sorted({s for run in runs for s in run["judged"]}))
        names = f"{runs[0]['run']}" + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")
        body.append(
            [
                row.label,
                names,
                ", ".join(map(str, row.seeds)),
                runs[0]["spec_hash"],
                row.result["group_hash"],
                judged,
                spec["grading"],
            ]
        )
        body[-1] += [numerics, revision_line(spec["code"]), row.result["design"]]
    head = ["sampler", "runs", "seeds", "spec (first seed)", "group", "sandbox", "grading", "numerics", "revision", "design"]
    versions = sorted({versions_line(r.result["spec"]["versions"]) for r in rows})
    return f"### Where it comes from\n\n{grid(body, head)}\n\n" + "\n\n".join(map(_escape, versions)) + "\n"


LEGEND = """## How to read it

Values are means over problems, the small numbers a 95 % interval: a bootstrap over problems, combined with the spread
over training seeds (t, S - 1 degrees of freedom) when there is more than one. **Bold** in the first table: the best value
of a column and those that are not resolved from it, when some are (paired by problem, corrected for every pair of samplers,
because any of them could have come out best); no bold, no claim. K members give n = rK answers; pass@K is at the k in its
column, estimated by members when K > 1 and for exchangeable draws otherwise (the design is named below each table).
diversity_score is 1 minus the share of equal pairs of answers (texts compared after stripping) and rewards garbage;
effective_diversity counts distinct syntax trees among the *correct* answers, as a share of n. vendi is the effective number of
different texts (n-grams). Metrics that depend on n are shown at the largest n that all rows have, by rarefaction. average_kl is
in nats a token, over members i < j, teacher-forced on the reference solutions; one member has none. A sample that failed is
wrong and different from nothing. seconds is a
run's own time, mean over seeds: stages that another run had left in the cache cost nothing.
"""
CHOICE_LEGEND = """
Tables of multiple choice are over the problems that have choices: accuracy is pass@1 there, *by chance* what n independent
guesses get in any-of-n, agreement the share of pairs of members that choose the same, KL in nats over i ≠ j, and *diversity
after* the diversity score of what is written after the choice. average_kl of such problems is that of the first token after
the context.
"""
OPEN_LEGEND = """
Answers of tasks without a right answer are neither right nor wrong, so that pass@1 has no value. distinct_k is the number of
classes of equivalent answers among the n to a problem, as the task compares them (its `equivalence`), quality the mean judged
quality of an answer, 1 to 10, and utility_k NoveltyBench's, 0 to 10: the quality of each answer of a class that is new in the
order of generation, discounted by the patience of the reader.
"""
