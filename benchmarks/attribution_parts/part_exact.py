"""(a): rank correlation with the exact damped inverse of the Gauss-Newton matrix."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution_parts.peers import PEERS, run_peer
from attribution_parts.plain import size_of
from attribution_parts.ranks import rank_correlation
from attribution_parts.setting import Where, silent
from attribution_parts.small import Small, SmallSetting, make_small
from spa_bench.errors import UsageError
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.spa_cards import AttributionCard

FLOOR = 0.95
Report = Callable[[str], None]


@dataclass(frozen=True)
class Lissa:
    """One setting of the estimator."""

    depth: int
    repeats: int
    batch: int


LISSA = tuple(Lissa(depth, 1, batch) for batch in (8, 32) for depth in (60, 120, 250, 500, 1000, 2000))
"""Tried from the cheapest on, until one reaches the floor."""

COPIES = (1, 4, 16)
"""How many draws of labels an example's curvature is estimated from."""


def run_exact(
    where: Where, model: Any, setting: SmallSetting, report: Report, *, python: str = "", lissa: Sequence[Lissa] = LISSA
) -> dict[str, Any]:
    """Correlations of every method with the exact scores under `block` and `full`, and what reached the floor."""
    small = make_small(where, model, setting, report)
    rows: dict[str, dict[str, float]] = {}

    def add(name: str, scores: NDArray[Any], seconds: float) -> dict[str, float]:
        found = np.asarray(scores, np.float64)
        rows[name] = {k: rank_correlation(found, small.scores[k]) for k in ("block", "full")} | {"cpu_seconds": seconds}
        report(f"exact: {name}: block {rows[name]['block']:.3f}, full {rows[name]['full']:.3f}, {seconds:.1f} CPU s")
        return rows[name]

    add("exact full matrix", small.scores["full"], 0.0)
    add("identity", small.scores["identity"], 0.0)
    base = AttributionCard(damping=setting.damping, curvature_examples=0)
    for curvature in ("cosine", "fisher", "datainf"):
        add(curvature, *_ours(model, small, replace(base, curvature=curvature), setting))
    for copies in COPIES:
        card = replace(base, curvature="ekfac")
        add(_ekfac(copies), *_ours(model, small, card, setting, copies=copies))
    cheapest = None
    for one in sorted(lissa, key=lambda s: s.depth * s.repeats * s.batch):
        card = replace(base, curvature="lissa", depth=one.depth, repeats=one.repeats, lissa_batch=one.batch)
        name = f"lissa, depth {one.depth}, repeats {one.repeats}, batch {one.batch}"
        if add(name, *_ours(model, small, card, setting))["full"] >= FLOOR:
            cheapest = {**asdict(one), "name": name}
            break
    for peer in PEERS if python else ():
        try:
            done = run_peer(python, peer, model, small.folder / "adapter", small.pairs, small.queries, threads=where.threads)
            add(peer, done.scores, done.cpu_seconds)
        except UsageError as error:
            report(f"exact: {peer}: {error}")
    best = max((_ekfac(c) for c in COPIES), key=lambda n: rows[n]["block"])
    return {
        "correlations": rows,
        "ekfac": {"name": best, "block": rows[best]["block"], "floor": FLOOR},
        "lissa": cheapest,
        "parameters": size_of(small.adapter),
        "passes": small.passes,
        "matrix_error": max(small.errors),
        "setting": asdict(setting),
    }


def _ekfac(copies: int) -> str:
    return f"ekfac, {copies} draw{'s' * (copies > 1)} of labels an example"


def _ours(
    model: Any, small: Small, card: AttributionCard, setting: SmallSetting, *, copies: int = 1
) -> tuple[NDArray[np.float32], float]:
    """Scores and seconds. Examples that are given several times get as many draws of labels, and the same scores."""
    begun = time.process_time()
    scores = scores_at(model, small.adapter, small.pairs * copies, small.queries, card, setting.lora, seed=0, progress=silent)
    return scores[: len(small.pairs)], time.process_time() - begun


def table(result: dict[str, Any]) -> str:
    """`result` for a reader."""
    s = result["setting"]
    lines = [
        f"{result['parameters']} parameters (rank {s['lora']['rank']}, {', '.join(s['lora']['targets'])}), "
        f"{s['pairs']} pairs of at most {s['longest']} tokens, {s['queries']} queries, "
        f"damping {s['damping']} x mean eigenvalue",
        f"exact matrix: {result['passes']} backward passes, error on random vectors {result['matrix_error']:.1e}",
        "",
        f"{'Spearman over pairs, mean over queries':48} {'block':>7} {'full':>7} {'CPU s':>8}",
    ]
    lines += [f"{n:48} {r['block']:7.3f} {r['full']:7.3f} {r['cpu_seconds']:8.1f}" for n, r in result["correlations"].items()]
    e, li = result["ekfac"], result["lissa"]
    lines += ["", f"ekfac against the block-diagonal matrix: {e['block']:.3f} ({e['name']}); floor {e['floor']}"]
    lines += [f"lissa against the full matrix: first to reach {FLOOR}: {li['name'] if li else 'none that was tried'}"]
    return "\n".join(lines)
