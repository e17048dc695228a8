"""The picture of a study, as SVG and PNG; the same numbers give the same bytes with the same matplotlib.

Which panels each study has stands here, how they are drawn in drawn.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from spa_bench.compare.leaderboard.budget import at_equal
from spa_bench.compare.leaderboard.budget_front import fronts_at
from spa_bench.compare.leaderboard.compare import paired_columns
from spa_bench.compare.study.claims import DIVERSITY
from spa_bench.compare.study.drawn import bars, bars_of, curves, dial_plane, plane, plane_at, plane_of_samplers, shares
from spa_bench.compare.study.judged import Judged, judged_of
from spa_bench.compare.study.measured import by_series, shared_size
from spa_bench.compare.study.of_pairs import LIKE, NATS, measures_of
from spa_bench.compare.study.syntheses import KEPT, VALID, PairsOfSeed
from spa_bench.compare.study.tables import Report
from spa_bench.errors import UsageError
from spa_bench.types import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Panel = Callable[[Any], None]
_RC: dict[str, Any] = {
    "svg.hashsalt": "spa-bench", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9.0, "axes.grid": True,
    "grid.color": "#E4E4E4", "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white", "figure.dpi": 110, "savefig.dpi": 110,
}  # fmt: skip


def pictures(report: Report) -> dict[str, bytes]:
    """Suffix -> the file: "svg" and "png". Raises UsageError where matplotlib is missing."""
    seeds = f"{len(report.seeds)} seed{'s' * (len(report.seeds) != 1)}"
    title = f"{report.study.title}: {report.task}, {report.model}, {seeds}"
    return _drawn(_PANELS[report.study.name](report), title, len(by_series(report.points)))


def pictures_of_pairs(roles: Mapping[str, str], pairs: Sequence[PairsOfSeed], title: str) -> dict[str, bytes]:
    """As `pictures`, of pairs without students; `roles` has the role of each method in the order of its bars."""
    return _drawn(_panels_of_pairs(roles, measures_of(pairs)), title, len(roles))


def _drawn(panels: Sequence[Panel], title: str, labels: int) -> dict[str, bytes]:
    """Suffix -> the file with these panels, of so many samplers."""
    try:
        from matplotlib import style
    except ImportError as error:
        raise UsageError("the picture of a study needs matplotlib: pip install matplotlib") from error
    files = {}
    with style.context(["default", _RC]):  # the user's own matplotlib settings must not change this picture
        figure = figure_of(panels, title, labels)
        for suffix, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
            stream = io.BytesIO()
            figure.savefig(stream, format=suffix, metadata=metadata)
            files[suffix] = stream.getvalue()
    return files


def figure_of(panels: Sequence[Panel], title: str, labels: int) -> Figure:
    """The panels in lines of three, or two and two, high enough for the names of so many samplers, over one legend."""
    from matplotlib.figure import Figure

    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    lines, high = -(-len(panels) // columns), max(3.0, 0.7 + 0.17 * labels)
    figure = Figure(layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for place, draw in zip(axes, panels, strict=False):
        draw(place)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    handles = {h.get_label(): h for place in axes for h in place.get_legend_handles_labels()[0]}
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    figure.set_size_inches(3.6 * columns, high * lines + 0.9 + 0.19 * max(0, -(-len(handles) // 4) - 2))
    figure.suptitle(title, fontsize=10)
    return figure


# what is drawn -------------------------------------------------------------------------------------------------------


def _main(report: Report) -> list[Panel]:
    judged = judged_of(report.points)
    effective = () if judged.open_ended else ("effective_diversity[ast,correct]",)
    metrics = (*_first(judged), DIVERSITY, *effective, "average_kl[i<j]")
    return [
        *(partial(bars, points=report.points, metric=metric) for metric in metrics),
        *_planes(judged, partial(plane, points=report.points, sweep=False)),
    ]


def _first(judged: Judged) -> list[str]:
    """The metrics of quality, where somebody judged it, and of what all answers reach."""
    return [metric for metric in (judged.quality, judged.reach) if metric]


def _planes(judged: Judged, draw: Callable[..., None]) -> list[Panel]:
    """The plane that `draw` draws; none where nobody judged the quality."""
    return [partial(draw, judged=judged)] if judged.quality else []


def _temperature(report: Report) -> list[Panel]:
    judged = judged_of(report.points)
    return [
        *(partial(curves, report=report, metric=metric) for metric in (*_first(judged), DIVERSITY)),
        *_planes(judged, partial(plane, points=report.points, sweep=True)),
    ]


def _members(report: Report) -> list[Panel]:
    judged, size = judged_of(report.points), shared_size(report.points)
    single = ("pass@1", "pass@2", "pass@5") if not judged.open_ended else [judged.quality] if judged.quality else []
    of_all = judged.reach if judged.open_ended else "effective_diversity[ast,correct]"
    return [
        *(partial(curves, report=report, metric=metric) for metric in (*single, DIVERSITY)),
        partial(curves, report=report, metric=of_all, size=size),
        partial(curves, report=report, metric="average_kl[i<j]"),
    ]


def _data_fraction(report: Report) -> list[Panel]:
    return [partial(shares, report=report, metric=metric) for metric in _first(judged_of(report.points))]


def _merge(report: Report) -> list[Panel]:
    judged = judged_of(report.points)
    dials = replace(report, points=[m for m in report.points if m.point.x is not None])
    return [
        *(partial(curves, report=dials, metric=metric) for metric in (*_first(judged), DIVERSITY)),
        *_planes(judged, partial(dial_plane, points=report.points)),
    ]


def _samplers(report: Report) -> list[Panel]:
    judged = judged_of(report.points)
    metrics = ["pass@1", "pass@K", "effective_diversity[ast,correct]"]
    if judged.open_ended:
        metrics = [*paired_columns([m.row for m in report.points]).values()][:3]
    across, up = judged.diversity, judged.quality
    there = all(metric and any(m.estimate(metric).value is not None for m in report.points) for metric in (across, up))
    return [
        *(partial(bars, points=report.points, metric=metric) for metric in metrics),
        *([partial(plane_of_samplers, points=report.points, across=across, up=up)] if up and there else []),
        *_planes_at_tokens(report),
    ]


def _planes_at_tokens(report: Report) -> list[Panel]:
    """A panel for each front at an equal budget of tokens; none where nobody knows what an answer costs."""
    try:
        budget = at_equal([m.row for m in report.points], "tokens")
    except UsageError:
        return []
    roles = {m.row.label: m.point.role for m in report.points}
    return [partial(plane_at, budget=budget, roles=roles, front=front) for front in fronts_at(budget)]


def _synthesize(report: Report) -> list[Panel]:
    of_pairs = _panels_of_pairs({m.point.series: m.point.role for m in report.points}, measures_of(report.pairs))
    quality = judged_of(report.points).quality
    return [*([partial(bars, points=report.points, metric=quality)] if quality else []), *of_pairs]


def _panels_of_pairs(roles: Mapping[str, str], made: Mapping[str, Mapping[str, Estimate]]) -> list[Panel]:
    """A panel for each measure that a method has: a bar for each method, none where the method does not have it."""
    names = {
        LIKE: "likeness to the target",
        NATS: "nats a token, held out",
        VALID: "valid programs, share",
        KEPT: "kept drafts, share",
    }
    return [
        partial(bars_of, roles=roles, estimates=[made[label][name] for label in roles], title=title)
        for name, title in names.items()
        if any(values[name].value is not None for values in made.values())
    ]


_PANELS: Mapping[str, Callable[[Report], list[Panel]]] = {
    "main": _main,
    "temperature": _temperature,
    "members": _members,
    "data-fraction": _data_fraction,
    "merge": _merge,
    "synthesize": _synthesize,
    "samplers": _samplers,
}
