"""The cost half of (c): seconds and memory beside the libraries, growth with N and M, and lissa extrapolated."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attribution_parts.part_lds import start_of
from attribution_parts.peers import PEERS, Timed, recalled, run_ours, run_peer
from attribution_parts.setting import RECIPE, Where, query_pairs, training_pairs
from attribution_parts.small import trained_adapter
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import UsageError
from spa_bench.models.hf.stacked_lora import write_adapter
from spa_bench.support import provenance

FLOOR_LIBRARY, FLOOR_LISSA = 3.0, 10.0
PAPER = {"depth": 120, "repeats": 500, "batch": 16}  # the paper does not state a batch
FASTER = PEERS[:1]
"""The faster of the libraries at every size that both were run at; dattri keeps all gradients in memory, gigabytes of them."""
Report = Callable[[str], None]
Timer = Callable[[str, int, Callable[[], Timed]], Timed]


@dataclass(frozen=True)
class SpeedSetting:
    """What is timed."""

    lora: LoraCard = RECIPE
    examples: int = 1536
    queries: int = 48
    rounds: int = 2
    grid_examples: tuple[int, ...] = (192, 384, 768, 1536)  # at all queries
    grid_queries: tuple[int, ...] = (1, 12, 24, 48)  # at half of the examples
    trained_on: int = 256


def run_speed(
    where: Where,
    model: Any,
    setting: SpeedSetting,
    report: Report,
    *,
    python: str = "",
    lissa: Mapping[str, Any] | None = None,
    peers: Sequence[str] = FASTER,
) -> dict[str, Any]:
    """CPU seconds and megabytes of each contender in each round; curves; lissa's cost from measured products.

    Ratios are of CPU seconds: on a machine with other work they move less than the clock's. All start in turn, a round each.
    """
    pairs, queries = training_pairs(setting.examples), query_pairs(setting.queries)
    places = _adapters(where, model, setting)
    card = AttributionCard()
    default = [None] if set(card.checkpoints) == {0} else [places["trained"] if step else None for step in card.checkpoints]

    def ours(card: AttributionCard, at: Sequence[Path | None], n: int, m: int) -> Callable[[], Timed]:
        return lambda: run_ours(model, at, pairs[:n], queries[:m], card, setting.lora, threads=where.threads)

    def library(peer: str, count: int) -> Callable[[], Timed]:
        at = places["trained"]
        return lambda: run_peer(python, peer, model, at, pairs, queries, threads=where.threads, curvature_examples=count)

    whole = (setting.examples, setting.queries)
    contenders = {"default": ours(card, default, *whole)}
    contenders["ekfac, trained adapter"] = ours(AttributionCard(curvature="ekfac"), [places["trained"]], *whole)
    for peer in peers if python else ():
        for count in (0, card.curvature_examples):
            contenders[f"{peer}, curvature of {count or 'all'} examples"] = library(peer, count)
    kept, code = where.folder("speed-times", setting), provenance.source_hash("models", "spa")

    def timed(name: str, turn: int, work: Callable[[], Timed]) -> Timed:
        key = {"name": name, "turn": turn, "setting": asdict(setting), "card": asdict(card), "code": code}
        done = recalled(kept, key, work)
        report(f"speed: {name}: {done.cpu_seconds:.1f} CPU s, {done.seconds:.1f} s, {done.megabytes:.0f} MB")
        return done

    times = _rounds(contenders, setting.rounds, timed, report)
    seconds = {name: [t.cpu_seconds for t in found] for name, found in times.items() if found}
    curve_n = {n: timed(f"N = {n}", 0, ours(card, default, n, setting.queries)) for n in setting.grid_examples}
    curve_m = {m: timed(f"M = {m}", 0, ours(card, default, setting.examples // 2, m)) for m in setting.grid_queries}
    result: dict[str, Any] = {
        "cpu_seconds": seconds,
        "seconds": {name: [t.seconds for t in found] for name, found in times.items() if found},
        "megabytes": {name: max(t.megabytes for t in found) for name, found in times.items() if found},
        "curve_n": {n: t.cpu_seconds for n, t in curve_n.items()},
        "curve_m": {m: t.cpu_seconds for m, t in curve_m.items()},
        "setting": asdict(setting),
        "default": asdict(card),
    }
    result["lissa"] = _lissa(ours, timed, places["trained"], setting, lissa, statistics.median(seconds["default"]))
    result["ratios"] = ratios(seconds)
    return result


def _rounds(contenders: Mapping[str, Callable[[], Timed]], rounds: int, timed: Timer, report: Report) -> dict[str, list[Timed]]:
    """What each contender took in each round; every round begins with the next contender."""
    times: dict[str, list[Timed]] = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(rounds):
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            try:
                times[name].append(timed(name, turn, contenders[name]))
            except UsageError as error:
                report(f"speed: {name}: {error}")
    return times


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median over rounds of a contender's seconds over the default's: above 1 the default is faster."""
    mine = seconds["default"]
    return {
        name: statistics.median(t / d for t, d in zip(found, mine, strict=False))
        for name, found in seconds.items()
        if name != "default"
    }


def _adapters(where: Where, model: Any, setting: SpeedSetting) -> dict[Any, Path]:
    folder = where.folder("speed", {"lora": setting.lora, "trained_on": setting.trained_on})
    trained_adapter(folder / "trained", model, setting.lora, setting.trained_on)
    if not (folder / "start").exists():
        write_adapter(start_of(model, setting.lora, 0), folder / "start", base_model="embedded")
    return {"trained": folder / "trained", "start": folder / "start"}


def _lissa(
    ours: Callable[..., Callable[[], Timed]],
    timed: Timer,
    adapter: Path,
    setting: SpeedSetting,
    cheapest: Mapping[str, Any] | None,
    default_seconds: float,
) -> dict[str, Any]:
    """Seconds of a product of all queries, from two depths, and what settings of the estimator cost with them."""
    found: dict[str, Any] = {}
    settings = {"the paper's": PAPER} | ({"cheapest at the floor": cheapest} if cheapest else {})
    # a scale so large that nothing is measured and nothing diverges: products cost the same whatever they give
    card = AttributionCard(curvature="lissa", curvature_examples=64, scale=1e9, damping=1.0, damping_kind="absolute")
    for name, one in settings.items():
        few, many = (
            timed(
                f"lissa, {d} products of batch {one['batch']}",
                0,
                ours(replace(card, depth=d, lissa_batch=one["batch"]), [adapter], 64, setting.queries),
            ).cpu_seconds
            for d in (1, 4)
        )
        product = max((many - few) / 3, 1e-9)
        total = product * one["depth"] * one["repeats"]
        found[name] = {**one, "product_cpu_seconds": product, "cpu_seconds": total, "ratio": total / default_seconds}
    return found


def table(result: Mapping[str, Any]) -> str:
    """`result` for a reader."""
    s = result["setting"]
    lines = [
        f"N = {s['examples']}, M = {s['queries']}, rank {s['lora']['rank']}; each contender in a fresh process, in turn, "
        f"{s['rounds']} rounds",
        "",
        f"{'':56} {'CPU s':>8} {'MB':>6}  {'it / default':>12}",
    ]
    for name, found in result["cpu_seconds"].items():
        line = f"{name:56} {statistics.median(found):8.1f} {result['megabytes'][name]:6.0f}"
        lines.append(line if name == "default" else f"{line}  {result['ratios'][name]:12.2f}")
    for name, one in result["lissa"].items():
        what = f"lissa, {name}: depth {one['depth']} x {one['repeats']}, batch {one['batch']} (extrapolated)"
        lines.append(f"{what:56} {one['cpu_seconds']:8.0f} {'':6}  {one['ratio']:12.1f}")
    lines += ["", "CPU seconds against N: " + ", ".join(f"{n}: {t:.1f}" for n, t in result["curve_n"].items())]
    lines += ["CPU seconds against M: " + ", ".join(f"{m}: {t:.1f}" for m, t in result["curve_m"].items())]
    return "\n".join(lines)
