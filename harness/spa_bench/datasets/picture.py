"""The picture of a description: the sets as points, quality, diversity and complexity against one another, with intervals.

Colours are those of Okabe and Ito; markers differ too, so that no information is in colour alone. The same description gives
the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from spa_bench.datasets.describe import Described, Description
from spa_bench.datasets.measures import MEASURES
from spa_bench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png", "pdf")
# the first that all sets have, or else that most have, is the side's axis
AXES = {
    "quality": ("passes", "runs", "parses", "judge", "perplexity"),
    "diversity": ("vendi[gradient,q=1]", "vendi[embedding,q=1]", "vendi[ngram,q=1]"),
    "complexity": ("ast_kinds", "tokens", "characters"),
}
_BETTER = {"perplexity": " (lower: more expected)"}
_FAR = 20  # an axis on which values are further apart than by this factor is logarithmic
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "*")
_PANELS = (("diversity", "quality"), ("complexity", "quality"), ("diversity", "complexity"))
_RC: dict[str, Any] = {
    "svg.hashsalt": "spa-bench", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9.0, "axes.grid": True,
    "grid.color": "#E4E4E4", "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white", "figure.dpi": 110, "savefig.dpi": 110,
}  # fmt: skip


def chosen_axes(found: Description) -> dict[str, str]:
    """Side -> the measure on its axis; a side of which no set has a measure is left out."""
    axes = {}
    for side, names in AXES.items():
        counts = {name: sum(_value(row, name) is not None for row in found.sets) for name in names}
        if max(counts.values()):
            axes[side] = max(names, key=lambda name: counts[name])
    return axes


def draw(found: Description, kind: str) -> bytes:
    """The picture as `kind`, one of FORMATS. Raises UsageError where no two sides have a measure."""
    from matplotlib import style
    from matplotlib.figure import Figure

    axes = chosen_axes(found)
    panels = [(axes[x], axes[y]) for x, y in _PANELS if x in axes and y in axes]
    if not panels:
        raise UsageError("there is nothing to draw: no set has measures of two of quality, diversity and complexity")
    with style.context(["default", _RC]):  # the user's own matplotlib settings must not change this picture
        figure = Figure(figsize=(max(5.2, 3.7 * len(panels)), 4.1), layout="constrained")
        for place, (x, y) in zip(figure.subplots(1, len(panels), squeeze=False).ravel(), panels, strict=True):
            _panel(place, found, x, y)
        handles = {h.get_label(): h for place in figure.axes for h in place.get_legend_handles_labels()[0]}
        columns = min(len(handles), 4)
        figure.legend(
            handles.values(), [str(name) for name in handles], loc="outside lower center", ncols=columns, frameon=False
        )
        figure.suptitle("Data sets by quality, diversity and complexity (bars: 95 % intervals)", fontsize=10)
        stream = io.BytesIO()
        metadata: dict[str, dict[str, None]] = {
            "svg": {"Date": None, "Creator": None}, "png": {"Software": None}, "pdf": {"CreationDate": None},
        }  # fmt: skip
        figure.savefig(stream, format=kind, metadata=metadata[kind])
    return stream.getvalue()


def _panel(axes: Axes, found: Description, x: str, y: str) -> None:
    styles = zip(cycle(_COLOURS), cycle(_MARKERS), strict=False)
    for row, (colour, marker) in zip(found.sets, styles, strict=False):
        across, along = _value(row, x), _value(row, y)
        if across is None or along is None:
            continue
        face = "white" if row.part_of else colour
        axes.errorbar(
            [across], [along], xerr=_reach(row, x), yerr=_reach(row, y), label=row.name, color=colour, marker=marker,
            linestyle="none", markersize=7, capsize=2, elinewidth=0.9, markerfacecolor=face,
        )  # fmt: skip
    for name, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        values = [value for row in found.sets if (value := _value(row, name)) is not None]
        if min(values) > 0 and max(values) > _FAR * min(values):
            scale("log")
    axes.set_xlabel(_label(found, x))
    axes.set_ylabel(_label(found, y))


def _label(found: Description, name: str) -> str:
    size = found.gradients if "gradient" in name else found.size
    at = f" at {size} pairs" if MEASURES[name].of == "m" else ""
    return f"{MEASURES[name].head}{at}{_BETTER.get(name, '')}"


def _value(row: Described, name: str) -> float | None:
    return row.values[name].value if name in row.values else None


def _reach(row: Described, name: str) -> Sequence[Sequence[float]]:
    one = row.values[name]
    if one.value is None or one.low is None or one.high is None:
        return [[0.0], [0.0]]
    return [[max(one.value - one.low, 0.0)], [max(one.high - one.value, 0.0)]]
