"""What it costs to train K adapters: in one stacked pass, in turn, and with PEFT one after another; and what each setting adds.

    python benchmarks/training.py [--steps 4] [--rounds 3] [--json]

The embedded model and its pairs, float32, one thread, four adapters on quarters of the data. CPU seconds of this process, so
that other work on the machine counts little; contenders in turn, the median of the rounds' ratios. PEFT's adapters begin where
ours begin and read the same batches, with AdamW, clipping and schedule in a plain loop; how far they end from ours is
printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from spa_bench.cards.training import LoraCard
from spa_bench.mini.data import MODEL, instructions
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, initial_down
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.batches import encode, pad
from spa_bench.spa.schedule import learning_rate, order

K = 4
SETTINGS: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.1},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "packing": {"packing": True},
    "bfloat16": {"precision": "bfloat16"},
}


def peft(model: HFModel, parts: list[list[Any]], card: LoraCard, seeds: list[int]) -> list[dict[str, torch.Tensor]]:
    """B of each layer for each part, trained one adapter after another."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    found = []
    for part, seed in zip(parts, seeds, strict=True):
        network = AutoModelForCausalLM.from_pretrained(str(MODEL), dtype=torch.float32)
        layers = model.lora_layers("all-linear")
        names = sorted({path.rsplit(".", 1)[-1] for path in layers})
        wrapped = get_peft_model(network, LoraConfig(r=card.rank, lora_alpha=card.alpha, target_modules=names))
        wrapped.eval()  # no dropout in either; the base has none
        modules, generator = dict(wrapped.base_model.model.named_modules()), torch.Generator().manual_seed(seed)
        for path, layer in layers.items():
            modules[path].lora_A["default"].weight.data.copy_(initial_down(layer.base.in_features, card.rank, generator))
        parameters = [p for p in wrapped.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=card.learning_rate, weight_decay=card.weight_decay)
        rows = encode(model, part, "example")
        for step, batch in enumerate(order([len(r.ids) for r in rows], card, seed)):
            ids, labels = pad([rows[i] for i in batch])
            logits = wrapped(input_ids=ids, use_cache=False).logits[:, :-1].transpose(1, 2)
            losses = torch.nn.functional.cross_entropy(logits, labels[:, 1:], ignore_index=-100, reduction="none")
            (losses.sum(1) / (labels[:, 1:] != -100).sum(1)).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, card.clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(card, step, card.steps)
            optimizer.step()
            optimizer.zero_grad()
        found.append({path: modules[path].lora_B["default"].weight.detach().clone() for path in layers})
    return found


def apart(ours: list[Adapter], theirs: list[dict[str, torch.Tensor]]) -> float:
    """The length of the difference of all B by that of theirs."""
    pairs = [(a.factors[path][1], b) for a, other in zip(ours, theirs, strict=True) for path, b in other.items()]
    return float(sum((x - y).square().sum() for x, y in pairs) ** 0.5 / sum(y.square().sum() for _, y in pairs) ** 0.5)


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = act()
    return time.process_time() - began, result


def measure(steps: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    model, pairs = HFModel(str(MODEL), HFOptions(device="cpu", threads=1)), instructions()
    parts, seeds = [pairs[k::K] for k in range(K)], list(range(K))
    card = LoraCard(steps=steps, warmup=1)

    def ours(**changes: Any) -> list[Adapter]:
        return train_adapters(model, parts, replace(card, **changes), seeds, progress=lambda *_: None)

    contenders: dict[str, Callable[[], Any]] = {"stacked": ours, "in turn": lambda: ours(together=1)}
    contenders["peft"] = lambda: peft(model, parts, card, seeds)
    contenders |= {name: (lambda changes=changes: ours(**changes)) for name, changes in SETTINGS.items()}
    ours(steps=1)  # warm
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for _ in range(rounds):
        for name, act in contenders.items():
            seconds, results[name] = timed(act)
            times[name].append(seconds)
    ratios = {name: statistics.median(t / s for t, s in zip(times[name], times["stacked"], strict=True)) for name in contenders}
    return {
        "steps": steps,
        "cpu_seconds": {name: round(statistics.median(t), 2) for name, t in times.items()},
        "against_stacked": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "relative_difference_to_peft": apart(results["stacked"], results["peft"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    found = measure(a.steps, a.rounds)
    if a.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{K} adapters, {a.steps} steps of 16 pairs each; CPU seconds, and how many times those of the stacked pass")
    for name, seconds in found["cpu_seconds"].items():
        print(f"{name:24} {seconds:8.1f} {found['against_stacked'][name]:6.2f}")
    print(f"relative difference to PEFT's B: {found['relative_difference_to_peft']:.1e}")


if __name__ == "__main__":
    main()
