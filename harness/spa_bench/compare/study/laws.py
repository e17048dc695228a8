"""How much data an adapter is worth: the saturating law of the study `data-fraction`, and the share that it recommends.

The law and its intervals are those of spa_bench.metrics.saturation; what the data do not determine is said to be so, and has no
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from spa_bench.compare.leaderboard.compare import MARGIN
from spa_bench.compare.leaderboard.tables import grid
from spa_bench.compare.study.measured import MeasuredPoint, by_series
from spa_bench.metrics.saturation import Law, fit
from spa_bench.types import Estimate

LAW_METRICS = ("pass@1", "pass@K")
KEY = "data.share"  # of the study that has laws


def laws_of(key: str, points: Sequence[MeasuredPoint]) -> dict[tuple[str, str], Law]:
    """(sampler, metric) -> its law, in a study that varies `key`; empty where that is not the share of the data."""
    if key != KEY:
        return {}
    found = {}
    for name, series in by_series(points).items():
        for metric in LAW_METRICS:
            scores = [m.scores(metric) for m in series]
            if all(one.shape == scores[0].shape for one in scores) and not np.isnan(scores).all():
                found[name, metric] = fit([m.point.x or 0.0 for m in series], np.stack(scores), tolerance=MARGIN)
    return found


def law_sections(key: str, points: Sequence[MeasuredPoint]) -> list[str]:
    """The section of a page, in Markdown; empty for a study without laws."""
    laws = laws_of(key, points)
    if not laws:
        return []
    body = [[*of, *map(_cell, (law.plateau, law.shortfall, law.scale, law.recommended))] for of, law in laws.items()]
    smallest = f"{100 * min(m.point.x or 1.0 for m in points):g} %"
    head = [
        "sampler",
        "metric",
        "plateau a",
        f"shortfall at {smallest}",
        "scale s, share of data",
        "smallest share near enough",
    ]
    return [
        "## How much data an adapter is worth",
        "\n".join(f"- {sentence(name, metric, law)}" for (name, metric), law in laws.items()),
        grid(body, head, ready=True),
        _HOW,
    ]


def sentence(name: str, metric: str, law: Law) -> str:
    """What the law recommends, or that it does not."""
    near = f"within {law.tolerance:g} of its plateau"
    least = f"{100 * law.shares[0]:g} %"
    share = law.recommended
    if share.value is None:
        return f"The share of the data at which {metric} of {name} is {near} is {share.reason}."
    if share.high is not None and share.high <= law.shares[0]:
        return f"{metric} of {name} is {near} at {least} of the data already, the smallest share that was tried."
    return f"{metric} of {name} is {near} from {_percent(share)} of the data on."


def laws_as_json(key: str, points: Sequence[MeasuredPoint]) -> list[dict[str, Any]]:
    """The laws as rows."""
    return [{"sampler": name, "metric": metric, **asdict(law)} for (name, metric), law in laws_of(key, points).items()]


def _percent(share: Estimate) -> str:
    value, low, high = (100 * (v or 0.0) for v in (share.value, share.low, share.high))
    return f"{value:.3g} % [{low:.3g}, {high:.3g}]"


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return estimate.reason
    return f"{estimate.value:.3f} <sub>[{estimate.low:.3f}, {estimate.high:.3f}]</sub>"


_HOW = f"""The law is y = a - b exp(-x / s) in the share x of the data, by least squares; a is the plateau, and b exp(-x / s)
what a share lacks to it. It is an exponential and not a power, because the question is where more data stops to matter: a
power's plateau may lie outside all data that were seen, and few shares with noise do not determine it. Near enough is within
{MARGIN}, the margin of the leaderboard. Intervals are from 1,000 fits to resampled problems, with the seeds' part added. Where
they reach beyond all of the data, or no rise is resolved, the number is not determined and none is given. No share below the
smallest that was tried is recommended."""
