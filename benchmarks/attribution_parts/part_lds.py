"""(b) and the quality half of (c): the linear datamodelling score of our variants and of the libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attribution_parts.peers import PEERS, Timed, recalled, run_ours, run_peer
from attribution_parts.ranks import Interval, bootstrap_lds, reliability, split_half
from attribution_parts.retrain import Outputs, Retraining, retrain
from attribution_parts.setting import Where, query_pairs, silent, training_pairs
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import UsageError
from spa_bench.models.hf.stacked_lora import Adapter, initial_down, write_adapter
from spa_bench.spa.adapt import adapters_at
from spa_bench.support import provenance
from spa_bench.support.seeds import derive_seed

FLOOR = -0.05
DEFAULT = "default"
Report = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One of our settings; `steps` of training before the gradients are taken, 0: LoRA's start; several are averaged."""

    card: AttributionCard
    steps: tuple[int, ...] = (0,)


def variants(last: int) -> dict[str, Variant]:
    """What is compared; `last` is the number of steps of the whole training."""
    default = AttributionCard()
    found = {DEFAULT: Variant(default, default.checkpoints)}
    for where, steps in {"start": (0,), f"after {last} steps": (last,)}.items():
        for curvature in ("identity", "cosine", "fisher", "datainf", "ekfac"):
            found[f"{curvature}, {where}"] = Variant(AttributionCard(curvature=curvature), steps)
    found["fisher, core 16, start"] = Variant(AttributionCard(curvature="fisher", features="core"))
    found["ekfac, core 16, start"] = Variant(AttributionCard(curvature="ekfac", features="core"))
    found["fisher, projection 4096, start"] = Variant(AttributionCard(curvature="fisher", features="projection"))
    found[f"fisher, mean of start and {last // 2} and {last} steps"] = Variant(
        AttributionCard(curvature="fisher"), (0, last // 2, last)
    )
    return found


def run_lds(
    where: Where,
    model: Any,
    retraining: Retraining,
    report: Report,
    *,
    python: str = "",
    chosen: Mapping[str, Variant] | None = None,
) -> dict[str, Any]:
    """LDS with intervals, the ceiling, and the default minus the best library."""
    outputs = retrain(where, model, retraining, report)
    pairs, queries = training_pairs(retraining.examples), query_pairs(retraining.queries)
    folder = where.folder("scores", {"recipe": retraining.recipe, "examples": retraining.examples, "queries": len(queries)})
    made = Adapters(folder, model, retraining)
    timed: dict[str, Timed] = {}
    for name, variant in (chosen or variants(retraining.recipe.steps)).items():
        places = [made.at(step) if step else None for step in variant.steps]
        key: dict[str, object] = {"card": asdict(variant.card), "steps": variant.steps}
        key["code"] = provenance.source_hash("models", "spa")
        timed[name] = recalled(
            folder,
            key,
            lambda v=variant, p=places: run_ours(
                model, p, pairs, queries, v.card, retraining.recipe, threads=where.threads, seed=derive_seed("lds", 0)
            ),
        )
        report(f"lds: {name}: scored")
    libraries = []
    for peer in PEERS if python else ():
        for place, steps, factors in (
            ("start", 0, "B"),
            (f"after {retraining.recipe.steps} steps", retraining.recipe.steps, "AB"),
        ):
            name = f"{peer}, {place}"
            key = {"peer": peer, "steps": steps, "torch": torch.__version__}

            def work(peer: str = peer, steps: int = steps, factors: str = factors) -> Timed:
                return run_peer(python, peer, model, made.at(steps), pairs, queries, threads=where.threads, factors=factors)

            try:
                timed[name] = recalled(folder, key, work)
                libraries.append(name)
                report(f"lds: {name}: scored")
            except UsageError as error:
                report(f"lds: {name}: {error}")
    return summary(outputs, timed, libraries, retraining)


def summary(outputs: Outputs, timed: Mapping[str, Timed], libraries: Sequence[str], retraining: Retraining) -> dict[str, Any]:
    """What run_lds returns, from scores and outputs."""
    scores = {name: t.scores.astype(np.float64) for name, t in timed.items()}
    single, pairs = bootstrap_lds(scores, outputs)
    best = max(libraries, key=lambda n: single[n].value, default=None)
    return {
        "lds": {
            n: asdict(i) | {"cpu_seconds": timed[n].cpu_seconds, "megabytes": timed[n].megabytes} for n, i in single.items()
        },
        "ceiling": split_half(outputs),
        "reliability": reliability(outputs),
        "library": best,
        "difference": asdict(pairs[DEFAULT, best]) if best and DEFAULT in single else None,
        "floor": FLOOR,
        "training_seconds": outputs.seconds,
        "setting": asdict(retraining),
        "default": asdict(AttributionCard()),
    }


class Adapters:
    """Adapters on the way of one training on all pairs, in PEFT's format."""

    def __init__(self, folder: Path, model: Any, retraining: Retraining):
        self._folder, self._model, self._retraining = folder, model, retraining

    def at(self, step: int) -> Path:
        """The folder of the adapter after `step` steps; 0: LoRA's start, A as scores_at draws it and B = 0."""
        found = self._folder / f"adapter-{step}"
        if (found / "adapter_model.safetensors").exists():
            return found
        recipe = self._retraining.recipe
        if step == 0:
            adapter = start_of(self._model, recipe, derive_seed("lds", 0))
        else:
            pairs = training_pairs(self._retraining.examples)
            [(_, [adapter])] = adapters_at(self._model, [pairs], recipe, [derive_seed("lds", 0)], [step], progress=silent)
        write_adapter(adapter, found, base_model="embedded")
        return found


def start_of(model: Any, lora: LoraCard, seed: int) -> Adapter:
    """LoRA's start as an adapter."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for path, layer in model.lora_layers(lora.targets).items():
        low = initial_down(layer.base.in_features, lora.rank, generator)
        factors[path] = (low, torch.zeros(layer.base.out_features, lora.rank))
    return Adapter(factors, lora.rank, lora.alpha)


def table(result: Mapping[str, Any]) -> str:
    """`result` for a reader."""
    s = result["setting"]
    lines = [
        f"{s['halves']} random halves of {s['examples']} pairs, {s['seeds']} seeds each, {s['queries']} queries; "
        f"{result['training_seconds']:.0f} s of training",
        f"ceiling: {result['ceiling']:.3f} (square root of the split-half reliability {result['reliability']:.3f})",
        "",
        f"{'':44} {'LDS':>6}  95 % interval      CPU s    MB",
    ]
    for name, row in sorted(result["lds"].items(), key=lambda item: -item[1]["value"]):
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(f"{name:44} {row['value']:6.3f}  {interval:16} {row['cpu_seconds']:7.1f} {row['megabytes']:5.0f}")
    if result["difference"]:
        d = Interval(**result["difference"])
        lines += ["", f"default minus {result['library']}: {d}; floor of the lower end: {result['floor']}"]
    else:
        lines += ["", "libraries: skipped (no --peers-python)"]
    return "\n".join(lines)
