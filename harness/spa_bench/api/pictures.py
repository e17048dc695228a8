"""The charts of a report for a notebook (Altair) and for a paper (matplotlib), from the same data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.errors import UsageError
from spa_bench.publish.report import charts
from spa_bench.publish.report.page import plane_picture
from spa_bench.publish.report.table import head_of, table_of
from spa_bench.support.text import did_you_mean

if TYPE_CHECKING:
    from pandas import DataFrame

_MARKERS = ("o", "s", "^", "D", "P", "v", ">")  # the shapes of charts.SHAPES
_RC: dict[str, Any] = {
    "font.size": 9.0, "axes.grid": True, "grid.color": "#E4E4E4", "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "svg.fonttype": "path", "pdf.fonttype": 42,
}  # fmt: skip


def plane(rows: Sequence[LeaderboardRow], quality: str, diversity: str, backend: str) -> Any:
    """Quality upwards over diversity, a point a sampler. Raises UsageError for a metric that runs or chart cannot have."""
    _check_backend(backend)
    data = charts.plane_data(table_of(rows))
    for side, name, known in (("quality", quality, charts.QUALITY), ("diversity", diversity, charts.DIVERSITY)):
        there = [metric for metric, _ in data[side]]
        if name not in known:
            raise UsageError(f"{side} is {name!r}, which the chart cannot have{did_you_mean(name, known)}")
        if name not in there:
            raise UsageError(f"{side} is {name!r}, and these runs have no value of it; they have {', '.join(there) or 'none'}")
    if backend == "matplotlib":
        return _drawn_plane(charts.plane_sets(data, quality, diversity), data["labels"], head_of(quality), head_of(diversity))
    spec = plane_picture(data, quality, diversity)
    if spec is None:
        raise UsageError(f"no run has both {quality} and {diversity}: choose others, as plot(diversity=...)")
    return charts.as_chart(spec)


def heat(matrix: DataFrame, kind: str, backend: str) -> Any:
    """A K × K matrix, from member (row) to member (column)."""
    _check_backend(backend)
    unit = "share" if kind.startswith("tv") else "nats" if kind.endswith(("[choices]", "[first]")) else "nats a token"
    if backend == "matplotlib":
        return _drawn_heat(matrix, f"{kind} ({unit})")
    values = matrix.to_numpy()
    middle = float((values.min() + values.max()) / 2)
    cells = [
        {"row": str(i), "column": str(j), "value": float(values[i, j]), "middle": middle}
        for i in range(len(values))
        for j in range(len(values))
    ]
    return charts.as_chart(charts.filled(charts.heat(len(values), kind, unit), {"cells": cells}))


def _check_backend(backend: str) -> None:
    if backend not in ("altair", "matplotlib"):
        raise UsageError(f"backend is {backend!r}; it is 'altair' or 'matplotlib'")


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    """(a matplotlib Figure of that size in inches, its axes), apart from pyplot and its state."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("backend='matplotlib' needs matplotlib: pip install matplotlib") from error
    with rc_context(_RC):
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.add_subplot()


def _drawn_plane(sets: dict[str, list[dict[str, Any]]], labels: Sequence[str], up: str, across: str) -> Any:
    figure, axes = _figure((5.5, 3.6))
    names = {front["front"]: None for front in sets["fronts"]}
    for number, name in enumerate(names):
        steps = [(front["x"], front["y"]) for front in sets["fronts"] if front["front"] == name]
        axes.step(*zip(*steps, strict=True), where="pre", color="#8C8C8C", lw=1.2, ls="--" if number else "-", label=name)
    for point in sets["points"]:
        style = list(labels).index(point["sampler"])
        reach = [[[point[axis] - point[f"{axis}_low"]], [point[f"{axis}_high"] - point[axis]]] for axis in ("x", "y")]
        axes.errorbar(
            point["x"], point["y"], xerr=reach[0], yerr=reach[1], ls="", ms=6, elinewidth=0.8, ecolor="#33333355",
            marker=_MARKERS[style % len(_MARKERS)], color=charts.COLOURS[style % len(charts.COLOURS)],
            markeredgecolor="#333333", markeredgewidth=0.6, label=point["sampler"],
        )  # fmt: skip
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return figure


def _drawn_heat(matrix: DataFrame, label: str) -> Any:
    side = max(2.6, 0.5 * len(matrix) + 1.2)
    figure, axes = _figure((side + 0.8, side))
    image = axes.imshow(matrix.to_numpy(), cmap="cividis")
    axes.grid(visible=False)
    for set_ticks, names in ((axes.set_xticks, matrix.columns), (axes.set_yticks, matrix.index)):
        set_ticks(range(len(matrix)), [str(name).removeprefix("member ") for name in names])
    axes.set_xlabel("to member")
    axes.set_ylabel("from member")
    figure.colorbar(image, ax=axes, label=label)
    return figure
