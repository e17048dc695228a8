"""What a soft prompt learns on the embedded model, and what a step costs: the numbers of docs/explanation/softsrv.md.

`python benchmarks/softsrv.py [--forms nsp mpk mc] [--rate 0.2] [--steps 200]` trains each form on 128 pairs of one task family,
pipelines of two steps written as while-loops, on one thread. It prints the held-out loss at each look, CPU seconds a step
(looks and encoding included), and how many of a round's drafts are pairs, parse, and repeat a target.
"""

from __future__ import annotations

import argparse
import ast
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.mini.data import MODEL
from spa_bench.mini.world import draw_pipeline
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.spa.synthesize.base import Draft, Setting
from spa_bench.spa.synthesize.softsrv import KIND
from spa_bench.spa.synthesize.softsrv.options import FORMS, SoftSRVOptions
from spa_bench.types import Example

STYLE = "while-loop"


def family(count: int) -> list[Example]:
    """Pairs of one task family."""
    rng, pairs = random.Random("soft"), list[Example]()
    while len(pairs) < count:
        task = draw_pipeline(rng, level=2)
        if STYLE in task.styles():
            pairs.append(Example(task.prompt, task.solution(STYLE, rng)))
    return pairs


def parses(draft: Draft) -> bool:
    """Whether a draft is a pair and a program."""
    try:
        ast.parse(draft.text)
    except (SyntaxError, ValueError):
        return False
    return draft.example is not None


def measure(model: HFModel, options: SoftSRVOptions) -> None:
    """Train one soft prompt, draw a round, and print a few lines."""
    targets = family(128)
    setting = Setting(card=SynthesisCard(method="softsrv", options=options), model=model, targets=targets, seed=0)
    made = KIND.build(setting)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        facts: dict[str, Any] = made.prepare(progress=lambda done, total: None, kept=Path(folder))
    trained = time.process_time() - begun
    looks = ", ".join(f"{look['step']}: {look['held_out']:.3f}" for look in facts["looks"])
    plain = facts["nats_per_token"]["model"]
    print(f"{options.form}: {facts['parameters']} numbers; held-out nats a token: model {plain:.3f}; {looks}")
    print(f"  {trained:.0f} CPU seconds, {trained / facts['steps']:.2f} a step")
    begun = time.process_time()
    drafts = list(made.round(0, []))
    known = {e.prompt + e.completion for e in targets}
    pairs = [draft for draft in drafts if draft.example]
    print(
        f"  {len(drafts)} drafts in {time.process_time() - begun:.0f} CPU seconds: {len(pairs)} pairs, "
        f"{sum(map(parses, drafts))} parse, {sum(d.text in known for d in pairs)} repeat a target",
        flush=True,
    )


def main() -> None:
    """Measure the forms that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--rate", type=float, default=SoftSRVOptions().learning_rate)
    parser.add_argument("--steps", type=int, default=SoftSRVOptions().steps)
    given = parser.parse_args()
    model = HFModel(str(MODEL), HFOptions(device="cpu", threads=1), name="embedded")
    for form in given.forms:
        measure(model, SoftSRVOptions(form=form, learning_rate=given.rate, steps=given.steps))


if __name__ == "__main__":
    main()
