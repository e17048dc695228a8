"""(a): rank correlation with the exact damped inverse of the Gauss-Newton matrix."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution_parts.peers import SMALL_PEERS, Timed, recalled, run_peer
from attribution_parts.plain import gradients, size_of
from attribution_parts.ranks import rank_correlation
from attribution_parts.search import Lissa, cheapest
from attribution_parts.setting import Where, silent
from attribution_parts.small import Small, SmallSetting, make_small, single_matrices
from spa_bench.cards.training import AttributionCard
from spa_bench.errors import UsageError
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.support import provenance

FLOOR = 0.95
EKFAC = {
    1: (("tokens", 1), ("tokens", 16), ("gradients", 16), ("gradients", 64), ("gradients", 256)),
    2: (("tokens", 1), ("tokens", 16), ("gradients", 16), ("gradients", 64)),
}
"""By rank: what the Kronecker factors are the moments of, and how many draws of labels of each example there are."""
GRID = {"batches": (8, 16, 32), "repeats": (1, 2), "depths": (60, 120, 180, 250, 350, 500, 700, 1000)}
SLACK = 0.005
"""By how much a setting of lissa has to clear the floor in dense algebra: its batches are drawn again in the real run."""
Report = Callable[[str], None]
Rows = dict[str, dict[str, float]]


def run_exact(
    where: Where,
    model: Any,
    blocks: Mapping[int, SmallSetting],
    whole: SmallSetting,
    report: Report,
    *,
    python: str = "",
    ekfac: Mapping[int, Sequence[tuple[str, int]]] = EKFAC,
    grid: Mapping[str, Sequence[int]] = GRID,
) -> dict[str, Any]:
    """Correlations with the exact scores: `blocks` by rank, where methods have blocks, and `whole`, where lissa runs."""
    result: dict[str, Any] = {"blocks": {}, "floor": FLOOR}
    for rank, setting in blocks.items():
        small = make_small(where, model, setting, report)
        rows = _block_rows(where, model, small, setting, ekfac.get(rank, ()), python, report)
        result["blocks"][rank] = _about(small, setting) | {"correlations": rows}
    small = make_small(where, model, whole, report)
    result["whole"] = _about(small, whole) | _whole(where, model, small, whole, grid, report)
    names = {(rank, name): row["block"] for rank, b in result["blocks"].items() for name, row in b["correlations"].items()}
    best = max((key for key in names if key[1].startswith("ekfac")), key=lambda key: names[key])
    result["ekfac"] = {"rank": best[0], "name": best[1], "value": names[best]}
    return result


def _about(small: Small, setting: SmallSetting) -> dict[str, Any]:
    return {
        "parameters": size_of(small.adapter),
        "passes": small.passes,
        "matrix_error": max(small.errors),
        "setting": asdict(setting),
    }


def _row(rows: Rows, small: Small, name: str, scores: NDArray[Any], seconds: float, report: Report) -> None:
    found = np.asarray(scores, np.float64)
    rows[name] = {k: rank_correlation(found, small.scores[k]) for k in ("block", "full")} | {"cpu_seconds": seconds}
    report(f"exact: {name}: block {rows[name]['block']:.3f}, full {rows[name]['full']:.3f}, {seconds:.1f} CPU s")


def _block_rows(
    where: Where,
    model: Any,
    small: Small,
    setting: SmallSetting,
    ekfac: Sequence[tuple[str, int]],
    python: str,
    report: Report,
) -> Rows:
    rows: Rows = {}
    _row(rows, small, "exact, the full matrix", small.scores["full"], 0.0, report)
    _row(rows, small, "identity", small.scores["identity"], 0.0, report)
    base = AttributionCard(damping=setting.damping, curvature_examples=0)
    for curvature in ("cosine", "fisher", "datainf"):
        _row(rows, small, curvature, *_ours(model, small, replace(base, curvature=curvature), setting), report)
    for factors, draws in ekfac:
        card = replace(base, curvature="ekfac", factors=factors, draws=draws)
        name = f"ekfac, factors of {factors}, {draws} draw{'s' * (draws > 1)} of labels"
        _row(rows, small, name, *_ours(model, small, card, setting), report)
    for peer in SMALL_PEERS if python else ():
        # the library draws labels once for each row that it is given
        for count in sorted({1, *(draws for _, draws in ekfac[1:2])}) if peer == "kronfluence-ekfac" else (1,):
            key = {"peer": peer, "copies": count, "torch": torch.__version__}

            def work(peer: str = peer, count: int = count) -> Timed:
                folder, pairs = small.folder / "adapter", small.pairs * count
                return run_peer(
                    python, peer, model, folder, pairs, small.queries, threads=where.threads, damping=setting.damping
                )

            try:
                done = recalled(small.folder, key, work)
            except UsageError as error:
                report(f"exact: {peer}: {error}")
                continue
            name = f"{peer}, {count} draws of labels" if count > 1 else peer
            _row(rows, small, name, done.scores[: len(small.pairs)], done.cpu_seconds, report)
    return rows


def _whole(
    where: Where, model: Any, small: Small, setting: SmallSetting, grid: Mapping[str, Sequence[int]], report: Report
) -> dict[str, Any]:
    rows: Rows = {}
    _row(rows, small, "identity", small.scores["identity"], 0.0, report)
    found = cheapest(
        torch.from_numpy(single_matrices(model, small, report)),
        gradients(model, small.adapter, small.pairs),
        gradients(model, small.adapter, small.queries),
        small.scores["full"],
        damping=setting.damping,
        floor=FLOOR + SLACK,
        batches=grid["batches"],
        repeats=grid["repeats"],
        depths=grid["depths"],
    )
    if found is None:
        return {"correlations": rows, "lissa": None}
    report(f"exact: lissa: in dense algebra the cheapest that reaches {FLOOR} is {found}")
    _row(rows, small, _named(found), *_lissa(where, model, small, setting, found), report)
    return {"correlations": rows, "lissa": asdict(found) | {"name": _named(found), "value": rows[_named(found)]["full"]}}


def _named(one: Lissa) -> str:
    return f"lissa, depth {one.depth}, repeats {one.repeats}, batch {one.batch}"


def _lissa(where: Where, model: Any, small: Small, setting: SmallSetting, one: Lissa) -> tuple[NDArray[np.float32], float]:
    card = AttributionCard(
        curvature="lissa",
        damping=setting.damping,
        curvature_examples=0,
        depth=one.depth,
        repeats=one.repeats,
        lissa_batch=one.batch,
    )
    return _ours(model, small, card, setting)


def _ours(model: Any, small: Small, card: AttributionCard, setting: SmallSetting) -> tuple[NDArray[np.float32], float]:
    """Scores and CPU seconds, from the disk where this code has made them before."""
    key = {"card": asdict(card), "code": provenance.source_hash("models", "spa")}

    def work() -> Timed:
        wall, begun = time.perf_counter(), time.process_time()
        scores = scores_at(
            model, small.adapter, small.pairs, queries=small.queries, card=card, lora=setting.lora, seed=0, progress=silent
        )
        return Timed(scores, time.perf_counter() - wall, time.process_time() - begun, 0.0, 0.0)

    done = recalled(small.folder, key, work)
    return done.scores, done.cpu_seconds


def table(result: Mapping[str, Any]) -> str:
    """`result` for a reader."""
    lines: list[str] = []
    for part in (*result["blocks"].values(), result["whole"]):
        s = part["setting"]
        modules = ", ".join(s["kept"] or s["lora"]["targets"])
        lines += [
            f"rank {s['lora']['rank']}, {modules}: {part['parameters']} parameters; {s['pairs']} pairs of at most "
            f"{s['longest']} tokens, {s['queries']} queries, damping {s['damping']} x mean eigenvalue",
            f"exact matrix: {part['passes']} backward passes, error on random vectors {part['matrix_error']:.1e}",
            f"{'Spearman over pairs, mean over queries':52} {'block':>7} {'full':>7} {'CPU s':>8}",
        ]
        for name, row in part["correlations"].items():
            lines.append(f"{name:52} {row['block']:7.3f} {row['full']:7.3f} {row['cpu_seconds']:8.1f}")
        lines.append("")
    e, one = result["ekfac"], result["whole"]["lissa"]
    lines.append(f"ekfac against the block-diagonal matrix: {e['value']:.3f} (rank {e['rank']}, {e['name']}); floor {FLOOR}")
    said = f"{one['value']:.3f} ({one['name']})" if one else "no setting of the grid reached it"
    lines.append(f"lissa against the full matrix: {said}; floor {FLOOR}")
    return "\n".join(lines)
