"""Made-up points of studies: values are given, or drawn around a mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from made_up import PROBLEMS, estimated_anew, hashed_anew, made_up
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.compare.study.designs import STUDIES, Point
from spa_bench.compare.study.measured import MeasuredPoint

CARDS = {"single": "single", "random": "spa-random", "lexical": "spa-lexical", "influence": "spa-influence"}
CARDS |= {"merge": "merge", "balanced": "merge-balanced"}
EFFECTIVE = "effective_diversity[ast,correct]"


def rates(mean: float, *, seeds: int = 5, spread: float = 0.02, shape_seed: int = 0) -> NDArray[np.float64]:
    """(S, P) rates around `mean`; problems are alike for all calls with one `shape_seed`."""
    rng = np.random.default_rng(shape_seed)
    return np.clip(mean + rng.normal(0, spread, PROBLEMS) + rng.normal(0, spread, (seeds, PROBLEMS)), 0, 1)


def point(
    role: str,
    values: Mapping[str, NDArray[np.float64]],
    *,
    x: float | None = None,
    members: int = 1,
    n: int = 4,
    open_ended: bool = False,
) -> MeasuredPoint:
    """A point whose metrics.json holds `values`, (S, P) each; `NAME@SIZE` is a metric at that many answers."""
    card = replace(load_sampler_card(CARDS[role]), members=members)
    contents = []
    for s in range(len(next(iter(values.values())))):
        plain = {name: [float(v) for v in table[s]] for name, table in values.items() if "@n=" not in name}
        at: dict[str, dict[str, list[float]]] = {}
        for name, table in values.items():
            if "@n=" in name:
                metric, _, size = name.partition("@n=")
                at.setdefault(size, {})[metric] = [float(v) for v in table[s]]
        contents.append({"values": plain, "values_at": at, "size": n})
    result = {
        "problems": [f"p{i}" for i in range(PROBLEMS)], "size": n, "n": n, "members": members,
        "runs": [
            {"seed": s, "values_at": c["values_at"], "verdicts": {"unjudged" if open_ended else "passed": n * PROBLEMS}}
            for s, c in enumerate(contents)
        ],
    }  # fmt: skip
    label = card.name if x is None else f"{card.name}[{x:g}]"
    return MeasuredPoint(Point(role, x, card, n), LeaderboardRow(result, label), tuple(contents))


def whole_point(
    study: str, role: str, quality: float, spread: float, *, x: float | None = None, seeds: int = 5
) -> MeasuredPoint:
    """A point with everything that a page and a picture want, from made-up results."""
    card = load_sampler_card(CARDS[role])
    results = [made_up(card.name, quality=quality, spread=spread, seed=s) for s in range(seeds)]
    merged: dict[str, Any] = results[0]
    merged["spec"]["sampler"]["x"] = x
    merged["runs"] = [{**r["runs"][0], "seed": s} for s, r in enumerate(results)]
    made = Point(role, x, card, 4)
    none = {"average_kl[i!=j]": [None] * PROBLEMS}  # as in metrics.json of one member, and not in a result
    contents = tuple({"values": r["values"] | none, "values_at": r["values_at"], "size": 4} for r in merged["runs"])
    return MeasuredPoint(made, LeaderboardRow(hashed_anew(estimated_anew(merged)), made.label(STUDIES[study])), contents)
