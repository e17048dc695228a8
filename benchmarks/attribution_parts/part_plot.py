"""Pictures of what was measured: seconds against N and M, and LDS with its intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plot_cost(speed: Mapping[str, Any], to: Path) -> None:
    """CPU seconds of the default against the number of examples and of queries, as SVG."""
    figure, (left, right) = _figure(2, (8, 3.2))
    setting = speed["setting"]
    for axis, curve, label, fixed in (
        (left, speed["curve_n"], "training examples N", f"{setting['queries']} queries"),
        (right, speed["curve_m"], "queries M", f"{setting['examples'] // 2} examples"),
    ):
        x = [int(n) for n in curve]
        axis.plot(x, list(curve.values()), "o-", color="black", markersize=4)
        axis.set_xlabel(label)
        axis.set_title(fixed, fontsize=9)
        axis.set_ylim(0)
        axis.set_xlim(0)
    left.set_ylabel("CPU seconds, one thread")
    _save(figure, to)


def plot_lds(lds: Mapping[str, Any], to: Path) -> None:
    """LDS of each setting with its 95 % interval, and the ceiling, as SVG."""
    rows = sorted(lds["lds"].items(), key=lambda item: item[1]["value"])
    figure, axis = _figure(1, (7, 0.28 * len(rows) + 1.0))
    values = [row["value"] for _, row in rows]
    errors = [[row["value"] - row["low"] for _, row in rows], [row["high"] - row["value"] for _, row in rows]]
    axis.errorbar(values, range(len(rows)), xerr=errors, fmt="o", color="black", markersize=4, linewidth=1)
    axis.axvline(lds["ceiling"], color="grey", linestyle="--", linewidth=1)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axis.set_xlabel("linear datamodelling score; dashed: the ceiling")
    _save(figure, to)


def _figure(columns: int, size: tuple[float, float]) -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "spa-bench"  # else the same picture has other bytes every time
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=size, layout="constrained")


def _save(figure: Any, to: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(to, metadata={"Date": None})
    pyplot.close(figure)
