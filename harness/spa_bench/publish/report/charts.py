"""Charts by Altair (Vega-Lite): one specification is the picture in the page, as SVG and as PNG.

Data sets have names and are empty here; `filled` or the page fills them. The colours are Okabe and Ito's without black, so
that they can be seen on light and dark backgrounds. Every sampler also has a shape, and every shape an outline.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.compare import sweep_of
from spa_bench.errors import UsageError
from spa_bench.metrics.frontier import pareto_front
from spa_bench.metrics.suite import value_bounds
from spa_bench.publish.report.names import FONT, place_names
from spa_bench.publish.report.table import Table, head_of
from spa_bench.support.text import one_line, visible

Spec = dict[str, Any]
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#8C8C8C")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
QUALITY = (
    "pass@1",
    "pass@K",
    "majority_vote[behaviour]",
    "majority_vote[exact]",
    "any_of_n",
    "quality[judged]",
    "utility_k[class]",
)
DIVERSITY = (
    "effective_diversity[ast,correct]", "distinct_k[class]", "effective_diversity[behaviour,ran]", "vendi[ngram,q=1]",
    "vendi[ast,q=1]", "vendi[embedding,q=1]", "diversity_score[exact]", "diversity_score[ast]", "average_kl[i<j]",
    "kl[choices,i!=j]",
)  # fmt: skip
_SWEEP, _FRONT = "front of the temperatures", "front of all"
_FIELDS = ("x", "x_low", "x_high", "y", "y_low", "y_high")
_LONGEST = 48  # the most characters of a name in a chart
_INK, _GRID, _GROUND = "#333333", "#DDDDDD", "#FFFFFF"
_TICKS = {"expr": "ceil(width / 80)"}
_WIDE = (560, 380)  # the least size of the plane, in pixels: on a larger plane, names are only further apart
_NARROW = (250, 300)  # the least size of the plane on a phone, in pixels


def _altair() -> Any:
    try:
        import altair
    except ImportError as error:
        raise UsageError("charts of a report need altair and vl-convert: pip install 'spa-bench[report]'") from error
    return altair


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise UsageError("charts of a report need altair and vl-convert: pip install 'spa-bench[report]'") from error
    return vl_convert


@lru_cache(maxsize=1)
def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `vegaEmbed`; it does not use the network."""
    return str(_vl_convert().javascript_bundle())


def plane_data(table: Table) -> dict[str, Any]:
    """The data for the plane of a table: points for every choice of axes, and their fronts.

    {"labels", "quality": [[metric, head]], "diversity": ..., "points": {metric: [[value, low, high] or None, by row]},
    "within": {metric: labels of its axis}, "sweep": labels of the temperatures, where there are two or more}.
    """
    sweep = sweep_of(table.rows)
    names_ = drawn_names([row.label for row in table.rows])
    names = [column.name for column in table.columns]
    chosen = {"quality": [n for n in QUALITY if n in names], "diversity": [n for n in DIVERSITY if n in names]}
    points: dict[str, list[list[float] | None]] = {}
    for name in (*chosen["quality"], *chosen["diversity"]):
        estimates = [cells[names.index(name)].estimate for cells in table.cells]
        points[name] = [
            None if e.value is None else [e.value, e.value if e.low is None else e.low, e.value if e.high is None else e.high]
            for e in estimates
        ]
    return {
        "labels": list(names_.values()),
        **{side: [[n, head_of(n)] for n in metrics] for side, metrics in chosen.items()},
        "points": points,
        "within": {name: within(_most(name)) for name in points},
        "sweep": [names_[label] for label in sweep] if len(sweep) > 1 else [],
    }


def drawn_names(labels: Sequence[str]) -> dict[str, str]:
    """Label -> its name in a chart: names are all different and short, and all their characters can be drawn."""
    names: dict[str, str] = {}
    for number, label in enumerate(labels):
        name = visible(one_line(label))
        if len(name) > _LONGEST or not name or name in names.values():
            name = f"{name[:_LONGEST]}… ({number})"
        names[label] = name
    return names


def plane_sets(data: Mapping[str, Any], quality: str, diversity: str) -> dict[str, list[dict[str, Any]]]:
    """The data sets of the plane with these axes: `points`, with the places of their names on both sizes, and `fronts`."""
    points, fronts = [], []
    known = []
    for label, across, up in zip(data["labels"], data["points"][diversity], data["points"][quality], strict=True):
        if across is None or up is None:
            continue
        known.append((label, across[0], up[0]))
        points.append({
            "sampler": label, "x": across[0], "x_low": across[1], "x_high": across[2],
            "y": up[0], "y_low": up[1], "y_high": up[2],
        })  # fmt: skip
    for key, size in (("wide", _WIDE), ("narrow", _NARROW)):
        for point, beside in zip(points, place_names(points, size), strict=True):
            point[key] = beside
    for name, mine in ((_FRONT, known), (_SWEEP, [k for k in known if k[0] in data["sweep"]])):
        if len(mine) > 1:
            out = pareto_front(np.array([[x, y] for _, x, y in mine]))
            steps = sorted((x, y) for (_, x, y), kept in zip(mine, out, strict=True) if kept)
            fronts += [{"front": name, "x": x, "y": y} for x, y in steps]
    return {"points": points, "fronts": fronts}


def plane(
    labels: Sequence[str],
    *,
    x: str,
    y: str,
    sweep: bool = True,
    named: bool = False,
    labels_x: str = "datum.label",
    labels_y: str = "datum.label",
    width: int | str = 860,
    height: int = 460,
) -> Spec:
    """A chart of quality (upwards) over diversity (to the right), with intervals and fronts. Data: see plane_sets.

    `sweep`: whether there is a front of temperatures. `named`: whether every point has its name beside it, so that the
    picture needs no legend of names. `labels_x`, `labels_y`: Vega's expressions for the labels of the axes, see `within`.
    """
    alt = _altair()
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(labels))]
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(labels))]
    fronts_ = [_FRONT, _SWEEP] if sweep else [_FRONT]
    room = alt.Scale(zero=False, nice=True, padding=12)  # space around the points: axes may extend beyond possible values
    across = alt.X(
        "x:Q", title=x, scale=room, axis=alt.Axis(labelExpr=labels_x, labelOverlap=True, labelFlush=False, tickCount=_TICKS)
    )
    up = alt.Y("y:Q", title=y, scale=room, axis=alt.Axis(labelExpr=labels_y))
    legend = None if named else alt.Legend(title=None, orient="right", labelLimit=260, symbolSize=90, symbolStrokeColor=_INK)
    beside = {"align": _of("align"), "dx": _of("dx"), "dy": _of("dy"), "baseline": "middle", "fontSize": FONT}
    base = alt.Chart(alt.NamedData("points"))
    fronts = alt.Chart(alt.NamedData("fronts")).mark_line(interpolate="step-before", strokeWidth=2, opacity=0.75)
    chart = alt.layer(
        fronts.encode(
            across, up, color=alt.value("#8C8C8C"), order="x:Q",
            strokeDash=alt.StrokeDash(
                "front:N",
                scale=alt.Scale(domain=fronts_, range=[[1, 0], [6, 4]][: len(fronts_)]),
                legend=alt.Legend(title=None, orient="bottom", symbolStrokeColor="#8C8C8C", labelLimit=260),
            ),
        ),
        base.mark_rule(opacity=0.3).encode(alt.X("x_low:Q"), alt.X2("x_high:Q"), up, color=alt.value(_INK)),
        base.mark_rule(opacity=0.3).encode(across, alt.Y("y_low:Q"), alt.Y2("y_high:Q"), color=alt.value(_INK)),
        base.mark_point(filled=True, size=95, opacity=1, stroke=_INK, strokeWidth=0.8).encode(
            across, up,
            color=alt.Color("sampler:N", scale=alt.Scale(domain=list(labels), range=colours), legend=legend),
            shape=alt.Shape("sampler:N", scale=alt.Scale(domain=list(labels), range=shapes), legend=legend),
            tooltip=["sampler:N", *(alt.Tooltip(f"{f}:Q", format=".3f") for f in _FIELDS)],
        ),
        *(
            base.mark_text(**beside, **look).encode(across, up, text=alt.Text("wide.name:N"))
            for look in ({"stroke": _GROUND, "strokeWidth": 3.5, "strokeJoin": "round"}, {"color": _INK})  # halo, then text
        ),
    )  # fmt: skip
    return _finished(chart, width, height)


def _of(key: str) -> dict[str, str]:
    """Vega's expression for the place of a point's name."""
    return {"expr": f"datum.wide.{key}"}


def _most(metric: str) -> float | None:
    """The largest value that a metric can have, whatever n is; None where there is none."""
    bounds = value_bounds(metric)
    return None if bounds is None or math.isinf(bounds[1]) else bounds[1]


def within(most: float | None) -> str:
    """Vega's expression for labels from 0 to `most` alone, if `most` is known; half a thousandth more allows for rounding."""
    beyond = "" if most is None else f" || datum.value > {most + 5e-4}"
    return f"datum.value < -5e-4{beyond} ? '' : datum.label"


def heat(members: int, kind: str, unit: str) -> Spec:
    """A K × K matrix, from member (row) to member (column), with its numbers. Data set: `cells` with row, column, value."""
    alt = _altair()
    names = [str(k) for k in range(members)]
    base = alt.Chart(alt.NamedData("cells")).encode(
        alt.X("column:O", title="to member", sort=names, axis=alt.Axis(labelAngle=0, orient="top")),
        alt.Y("row:O", title="from member", sort=names),
        tooltip=["row:O", "column:O", alt.Tooltip("value:Q", format=".5f")],
    )
    fill = alt.Color("value:Q", title=f"{kind} ({unit})", scale=alt.Scale(scheme="cividis"))
    cells = base.mark_rect().encode(fill)
    dark = alt.datum.value < alt.expr.toNumber(alt.datum.middle)
    numbers = base.mark_text(fontSize=11).encode(
        alt.Text("value:Q", format=".3f"), color=alt.condition(dark, alt.value("white"), alt.value("black"))
    )
    side = max(140, min(520, 52 * members))
    return _finished(cells + numbers if members <= 12 else cells, side, side)


def filled(spec: Spec, sets: Mapping[str, Any]) -> Spec:
    """`spec` with its data."""
    return {**copy.deepcopy(spec), "datasets": dict(sets)}


def as_chart(spec: Spec) -> Any:
    """`spec` as a chart of Altair, which a notebook shows."""
    return _altair().Chart.from_dict(spec)


def as_svg(spec: Spec) -> str:
    """The picture as SVG; with the same packages, the same numbers give the same bytes."""
    return str(_vl_convert().vegalite_to_svg(spec, allowed_base_urls=[]))


def as_png(spec: Spec, *, scale: float = 2.0) -> bytes:
    """The picture as PNG, with `scale` pixels for each unit."""
    from PIL import Image

    drawn = io.BytesIO(bytes(_vl_convert().vegalite_to_png(spec, scale=scale, allowed_base_urls=[])))
    smaller = io.BytesIO()
    with Image.open(drawn) as image:  # the drawn PNG is hardly compressed, so it is saved again
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def _finished(chart: Any, width: int | str, height: int) -> Spec:
    axis: dict[str, Any] = {"gridColor": _GRID, "domainColor": _INK, "tickColor": _INK, "labelColor": _INK, "titleColor": _INK}
    axis |= {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal"}
    finished = chart.properties(width=width, height=height).configure(
        background="white",
        axis=axis,
        legend={"labelColor": _INK, "labelFontSize": 12, "titleColor": _INK},
        view={"stroke": None},
    )
    spec: Spec = finished.to_dict()
    return spec
