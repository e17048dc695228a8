"""A picture of a stage's report: sizes of the parts, scores of every query, mean scores of part by query.

Colours come from the Okabe-Ito set and, in the heat map, from purple over white to orange; both can be told apart with any kind
of colour vision. No information is in colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spa_bench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
_KEPT, _OTHER, _INK = "#0072B2", "#C8C8C8", "#222222"
_MOST = 60  # queries in one picture: those of highest variance
_CELLS = 120  # a heat map of more cells has no numbers


def check_place(path: Path) -> None:
    """Raise UsageError for a path to which no picture can be written."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out is {path}; a picture is a file that ends in {', '.join(FORMATS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"--out is {path}; name a file in a folder that exists")


def draw(report: Mapping[str, Any], path: Path, title: str) -> None:
    """Write the picture of a report on scores or parts (spa_bench.spa.report). Raises UsageError where that fails."""
    import matplotlib
    from matplotlib.figure import Figure

    check_place(path)
    queries = _shown(report["queries"])
    panels = [_sizes] if "parts" in report else []
    panels += [_scores] if queries else []
    panels += [_heat] if queries and "parts" in report else []
    wide = max(6.4, min(16.0, 2.0 + 0.24 * len(queries)))
    figure = Figure(figsize=(wide, 3.1 * len(panels) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=11, color=_INK)
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False).ravel(), panels, strict=True):
        panel(axes, report, queries)
    # without these the same picture would have other bytes every time
    with matplotlib.rc_context({"svg.hashsalt": "spa-bench"}):
        dates: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        try:
            figure.savefig(path, dpi=150, metadata=dates.get(path.suffix.lower()))
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _shown(queries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The queries that are drawn, in order."""
    best = sorted(queries, key=lambda q: -q["variance"])[:_MOST]
    return [q for q in queries if q in best]


def _sizes(axes: Axes, report: Mapping[str, Any], queries: Sequence[Mapping[str, Any]]) -> None:
    sizes = report["sizes"]
    bars = axes.bar(range(len(sizes)), sizes, color=_KEPT, width=0.5)
    equal = report["examples"] / len(sizes)
    axes.axhline(equal, color=_INK, linewidth=0.8, linestyle="--")
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # keeps the line out of the numbers
    axes.bar_label(bars, fontsize=8, color=_INK, padding=4, bbox=paper, zorder=3)
    axes.set(xlabel="part", ylabel="examples", xticks=range(len(sizes)))
    axes.set_title(f"sizes of the parts (dashed: N / K = {equal:.4g})", fontsize=9)
    axes.margins(y=0.18)
    _plain(axes)


def _scores(axes: Axes, report: Mapping[str, Any], queries: Sequence[Mapping[str, Any]]) -> None:
    kept = [q.get("part") is not None for q in queries]
    boxes = []
    for query in queries:
        low, five, quarter, middle, three, ninety_five, high = query["quantiles"]
        box = {"med": middle, "q1": quarter, "q3": three, "whislo": five, "whishi": ninety_five, "fliers": [low, high]}
        boxes.append(box)
    style = {"color": _INK, "linewidth": 0.8}
    drawn = axes.bxp(
        boxes,
        positions=range(len(boxes)),
        widths=0.65,
        patch_artist=True,
        boxprops={"edgecolor": _INK, "linewidth": 0.6},
        medianprops=style,
        whiskerprops=style,
        capprops=style,
        flierprops={"marker": ".", "markersize": 3, "markerfacecolor": _INK, "markeredgewidth": 0},
    )
    for patch, mine in zip(drawn["boxes"], kept, strict=True):
        patch.set(facecolor=_KEPT if mine else _OTHER, hatch="///" if mine else "")
    _query_ticks(axes, queries)
    more = f", {len(queries)} of highest variance of {len(report['queries'])}" if len(queries) < len(report["queries"]) else ""
    hint = "; hatched: kept, with its part" if any(kept) else ""
    axes.set_ylabel("score")
    title = f"scores of the examples by query{more} (box 25-75 %, whiskers 5-95 %, dots ends{hint})"
    axes.set_title(title, fontsize=9, wrap=True)
    _plain(axes)


def _heat(axes: Axes, report: Mapping[str, Any], queries: Sequence[Mapping[str, Any]]) -> None:
    import numpy as np

    means = np.array([q["mean_by_part"] for q in queries]).T
    middle = 0.0 if report["scale"] == "zscore" else float(means.mean())
    reach = float(np.abs(means - middle).max()) or 1.0
    image = axes.imshow(means, cmap="PuOr_r", vmin=middle - reach, vmax=middle + reach, aspect="auto", interpolation="none")
    if means.size <= _CELLS:
        for (i, j), value in np.ndenumerate(means):
            ink = "white" if abs(value - middle) > 0.6 * reach else _INK
            axes.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=7, color=ink)
    _query_ticks(axes, queries)
    scale = {"zscore": "z-score", "rank": "rank / N", "none": "score"}[report["scale"]]
    axes.set(ylabel="part", yticks=range(len(means)))
    axes.set_title(f"mean {scale} of each part's examples on each query", fontsize=9)
    axes.figure.colorbar(image, ax=axes, label=f"mean {scale}", pad=0.01)


def _query_ticks(axes: Axes, queries: Sequence[Mapping[str, Any]]) -> None:
    """Ticks with the number of each query and, below it, the part to which it belongs."""
    names = [str(q["query"]) if q.get("part") is None else f"{q['query']}\n({q['part']})" for q in queries]
    axes.set_xticks(range(len(names)), names, fontsize=6 if len(names) > 30 else 8)
    axes.set_xlabel("query (its part)" if any(q.get("part") is not None for q in queries) else "query", fontsize=9)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
