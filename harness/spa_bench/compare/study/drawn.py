"""What the pictures of studies consist of: bars, curves over a setting, and planes of quality and diversity.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; markers and dashes differ too. Bars are 95 %
intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spa_bench.compare.leaderboard.budget import Budget
from spa_bench.compare.leaderboard.budget_front import BudgetFront
from spa_bench.compare.leaderboard.budget_table import HEADS
from spa_bench.compare.leaderboard.compare import OPEN_PAIRED
from spa_bench.compare.study.claims import DIVERSITY
from spa_bench.compare.study.judged import Judged
from spa_bench.compare.study.laws import laws_of
from spa_bench.compare.study.measured import MeasuredPoint, by_series
from spa_bench.compare.study.tables import Report
from spa_bench.metrics.frontier import pareto_front
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = {  # role -> colour, marker, dashes
    "influence": ("#D55E00", "o", "-"),
    "lexical": ("#0072B2", "s", "--"),
    "random": ("#009E73", "^", "-."),
    "single": ("#000000", "D", "-"),
    "seeds": ("#CC79A7", "v", ":"),
    "single-long": ("#7F7F7F", "P", ":"),
    "temperature": ("#56B4E9", "X", ":"),
    "nucleus": ("#F0E442", "*", ":"),
    "merge": ("#D55E00", "o", "-"),
    "balanced": ("#E69F00", "h", "--"),
}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
_FEW = 12  # samplers whose intervals can be told apart in a plane


def style_of(role: str) -> tuple[str, str, str]:
    """Colour, marker and dashes of a role; a card that is its own role gets them by its name."""
    return styles_of([role])[role]


def styles_of(roles: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """The style of each of `roles`, no two alike as long as there are colours and markers: who finds one taken has the next."""
    every = [(colour, marker) for marker in _MARKERS for colour in _COLOURS]
    known = {role: role.removeprefix("spa-") for role in roles}
    ours = [*_STYLES]
    found: dict[str, tuple[str, str, str]] = {}
    for role, name in sorted(known.items(), key=lambda one: ours.index(one[1]) if one[1] in _STYLES else len(ours)):
        number = derive_seed("style", role)
        own = _STYLES.get(name, (_COLOURS[number % len(_COLOURS)], _MARKERS[number // 7 % len(_MARKERS)], ":"))
        taken, first = {style[:2] for style in found.values()}, every.index(own[:2]) if own[:2] in every else 0
        free = next((one for one in [own[:2], *every[first:], *every[:first]] if one not in taken), own[:2])
        found[role] = (*free, own[2])
    return found


_NAMES = {
    "pass@1": "pass@1",
    "pass@K": "pass@K",
    "pass@2": "pass@2",
    "pass@5": "pass@5",
    DIVERSITY: "diversity score",
    "effective_diversity[ast,correct]": "effective diversity",
    "average_kl[i<j]": "average KL (nats a token)",
    **{metric: column for column, metric in OPEN_PAIRED.items() if metric != DIVERSITY},
}


def bars(axes: Axes, points: Sequence[MeasuredPoint], metric: str) -> None:
    """A bar for each sampler with its interval."""
    roles = {m.point.series: m.point.role for m in points}
    bars_of(axes, roles, [m.estimate(metric) for m in points], _NAMES[metric])


def bars_of(axes: Axes, roles: Mapping[str, str], estimates: Sequence[Estimate], title: str) -> None:
    """A bar for each of `roles` (label -> role), which have these values."""
    styles = styles_of(roles.values())
    for y, (role, estimate) in enumerate(zip(roles.values(), estimates, strict=True)):
        if estimate.value is None:
            continue
        colour, marker, _ = styles[role]
        reach = _reach([estimate]) if estimate.low is not None else None
        axes.errorbar([estimate.value], [y], xerr=reach, fmt=marker, color=colour, capsize=3, markersize=6)
    axes.set_yticks(range(len(roles)), list(roles))
    axes.set_ylim(len(roles) - 0.5, -0.5)
    axes.set_title(title)


def curves(axes: Axes, report: Report, metric: str, size: int | None = None, *, log: bool = False) -> None:
    """A curve for each sampler over the setting that varies; points of different samplers are shifted a little."""
    samplers = by_series(report.points)
    every = [m.point.x or 0.0 for m in report.points]
    for i, (name, series) in enumerate(samplers.items()):
        values = [(m.point.x or 0.0, m.estimate(metric, size)) for m in series]
        known = [(x, e) for x, e in values if e.value is not None]
        if not known:
            continue
        aside = 0.01 * (i - (len(samplers) - 1) / 2)
        places = [x * (1 + 2 * aside) if log else x + aside * (max(every) - min(every)) for x, _ in known]
        colour, marker, dashes = style_of(series[0].point.role)
        axes.errorbar(
            places, [e.value or 0.0 for _, e in known], yerr=_reach([e for _, e in known]), label=name,
            color=colour, marker=marker, linestyle=dashes, capsize=2, markersize=5, linewidth=1.4, elinewidth=0.8,
        )  # fmt: skip
    if report.study.key == "members":  # the same in all panels, whole numbers
        axes.set_xticks(sorted(set(every)), [f"{x:g}" for x in sorted(set(every))])
        axes.set_xlim(min(every) - 0.5, max(every) + 0.5)
    axes.set_xlabel(report.study.axis)
    axes.set_title(_NAMES[metric] + (f" at n = {size}" if size else ""))


def shares(axes: Axes, report: Report, metric: str) -> None:
    """The curves of `_curves` with shares on a logarithmic axis; the interval with all data is a band."""
    curves(axes, report, metric, log=True)
    axes.set_xscale("log")
    shares = sorted({m.point.x or 1.0 for m in report.points})
    axes.set_xticks(shares, [f"{100 * x:g} %" for x in shares])
    axes.minorticks_off()
    laws = laws_of(report.study.key, report.points)
    for name, series in by_series(report.points).items():
        whole = series[-1].estimate(metric)
        law = laws.get((name, metric))
        if law is not None and law.fitted:
            axes.plot(law.shares, law.fitted, color="#999999", linewidth=4, alpha=0.5, zorder=0, label="fitted law")
        if series[-1].point.x == 1.0 and whole.low is not None and whole.high is not None:
            axes.axhspan(whole.low, whole.high, color=style_of(series[0].point.role)[0], alpha=0.08, linewidth=0)


def plane(axes: Axes, points: Sequence[MeasuredPoint], judged: Judged, *, sweep: bool) -> None:
    """Quality against diversity; with `sweep` the points of a sampler joined, without intervals, over single's front."""
    across_metric, up_metric = _axes_of(judged)
    for name, series in by_series(points).items():
        colour, marker, dashes = style_of(series[0].point.role)
        spread, quality = ([m.estimate(metric) for m in series] for metric in (across_metric, up_metric))
        if any(e.value is None for e in (*quality, *spread)):
            continue
        x, y = ([e.value or 0.0 for e in side] for side in (spread, quality))
        across, along = (None, None) if sweep else (_reach(spread), _reach(quality))
        axes.errorbar(
            x, y, xerr=across, yerr=along, label=name, color=colour, marker=marker,
            linestyle=dashes if sweep else "none", markersize=5, linewidth=1.0, elinewidth=0.6,
        )  # fmt: skip
        if sweep and series[0].point.role == "single":
            front = pareto_front(np.column_stack([x, y]))
            steps = sorted((a, b) for a, b, out in zip(x, y, front, strict=True) if out)
            label = f"front of {name} over temperatures"
            axes.plot(
                [a for a, _ in steps], [b for _, b in steps], color="#999999", linewidth=6, alpha=0.5, zorder=0, label=label
            )
    axes.set_xlabel(_NAMES[across_metric])
    axes.set_ylabel(_NAMES[up_metric])
    axes.set_title("quality against diversity")


def _axes_of(judged: Judged) -> tuple[str, str]:
    """The metrics of diversity and of quality, which somebody judged."""
    assert judged.quality is not None
    return judged.diversity, judged.quality


def plane_of_samplers(axes: Axes, points: Sequence[MeasuredPoint], across: str, up: str) -> None:
    """The metric `up`, of quality, against `across`, of diversity, at equal answers, over their front."""
    estimates = {m.label: (m.estimate(across), m.estimate(up)) for m in points}
    known = {label: pair for label, pair in estimates.items() if None not in (pair[0].value, pair[1].value)}
    reached = np.array([(spread.value, quality.value) for spread, quality in known.values()], float)
    front = [label for label, out in zip(known, pareto_front(reached), strict=True) if out] if known else []
    _over_front(axes, known, {m.label: m.point.role for m in points}, front)
    axes.set_xlabel(_NAMES[across])
    axes.set_ylabel(_NAMES[up])
    _titled(axes, "at equal answers", known)


def plane_at(axes: Axes, budget: Budget, roles: Mapping[str, str], front: BudgetFront) -> None:
    """Quality against diversity of what the budget buys, over their front."""
    known: dict[str, tuple[Estimate, Estimate]] = {}
    for one in budget.rows:
        quality, spread = one.estimates.get(front.quality), one.estimates.get(front.diversity)
        if quality is not None and spread is not None and quality.value is not None and spread.value is not None:
            known[one.row.label] = (spread, quality)
    _over_front(axes, known, roles, [label for label in front.shares if label in known])
    axes.set_xlabel(HEADS[front.diversity])
    axes.set_ylabel(HEADS[front.quality])
    _titled(axes, "at equal tokens", known)


def _over_front(
    axes: Axes, known: Mapping[str, tuple[Estimate, Estimate]], roles: Mapping[str, str], front: Sequence[str]
) -> None:
    """The points (diversity, quality) of samplers, and the front with the names of those on it.

    Where there are many, without intervals: their lines would hide the points, and set a scale on which these are one heap.
    """
    styles, few = styles_of(roles.values()), len(known) <= _FEW
    for label, (spread, quality) in known.items():
        colour, marker, _ = styles[roles[label]]
        across, along = (_reach([spread]), _reach([quality])) if few else (None, None)
        axes.errorbar(
            [spread.value or 0.0], [quality.value or 0.0], xerr=across, yerr=along, label=label, color=colour, marker=marker,
            linestyle="none", markersize=5, elinewidth=0.6,
        )  # fmt: skip
    steps = sorted((known[label][0].value or 0.0, known[label][1].value or 0.0, label) for label in front)
    line: dict[str, Any] = {"color": "#999999", "marker": "o", "markersize": 11, "linewidth": 6, "alpha": 0.5, "zorder": 0}
    axes.plot([x for x, _, _ in steps], [y for _, y, _ in steps], label="front", **line)
    axes.margins(0.1)
    middle = sum(axes.get_xlim()) / 2
    for x, y, label in steps:
        aside, at = (-6, "right") if x > middle else (6, "left")
        axes.annotate(label, (x, y), xytext=(aside, 5), textcoords="offset points", fontsize=7, ha=at)


def _titled(axes: Axes, title: str, known: Mapping[str, object]) -> None:
    axes.set_title(title if len(known) <= _FEW else f"{title}\n(intervals: the tables)")


def dial_plane(axes: Axes, points: Sequence[MeasuredPoint], judged: Judged) -> None:
    """Quality against diversity: dials as curves whose ends are named, over the front of the other samplers."""
    across, up = _axes_of(judged)
    others = [m for m in points if m.point.x is None]
    plane(axes, others, judged, sweep=False)
    known = [(m.estimate(across).value, m.estimate(up).value) for m in others]
    reached = np.array([(x, y) for x, y in known if x is not None and y is not None])
    if len(reached):
        steps = sorted(map(tuple, reached[pareto_front(reached)].tolist()))
        x, y = zip(*steps, strict=True)
        axes.plot(
            x, y, color="#999999", marker="o", markersize=11, linewidth=6, alpha=0.5, zorder=0, label="front of the others"
        )  # a front of one point is a dot
    dials = [m for m in points if m.point.x is not None]
    plane(axes, dials, judged, sweep=True)
    for number, series in enumerate(by_series(dials).values()):
        aside = (4, 4 - 14 * (number % 2))  # dials that end in one place have their names above and below it
        for m in (series[0], series[-1]) if len(series) > 1 else series:
            spread, quality = m.estimate(across).value, m.estimate(up).value
            if spread is not None and quality is not None:
                axes.annotate(f"λ = {m.point.x:g}", (spread, quality), xytext=aside, textcoords="offset points", fontsize=7)


def _reach(estimates: Sequence[Estimate]) -> list[list[float]]:
    """How far intervals reach below and above, 0 where there is none."""
    below = [0.0 if e.low is None or e.value is None else max(e.value - e.low, 0.0) for e in estimates]
    above = [0.0 if e.high is None or e.value is None else max(e.high - e.value, 0.0) for e in estimates]
    return [below, above]
