"""What a soft prompt learns on the embedded model, and what a step costs: the numbers of docs/explanation/softsrv.md.

`python benchmarks/softsrv.py` trains each form with the defaults on 128 pairs of one task family, pipelines of two steps
written as while-loops, then `nsp` at half the default rate and `mc` at one and a half times it, on one thread: about 10 CPU
minutes. A row of its table has the held-out loss of the model as it is, at the start, after 60 steps and at the best look; CPU
seconds a step (looks and encoding included); and how many of a round's drafts are pairs, parse, and repeat a target.
`--forms`, `--rates` and `--steps` take others.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tabulate import tabulate

from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.mini.data import MODEL
from spa_bench.mini.world import draw_pipeline
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.spa.synthesize.base import Draft, Setting
from spa_bench.spa.synthesize.softsrv import KIND
from spa_bench.spa.synthesize.softsrv.options import FORMS, SoftSRVOptions
from spa_bench.types import Example

STYLE = "while-loop"
EARLY = 60  # steps after which a look is shown
HEAD = (
    "form",
    "rate",
    "numbers",
    "model",
    "start",
    f"{EARLY} steps",
    "best",
    "at step",
    "s a step",
    "drafts",
    "pairs",
    "parse",
    "repeat",
)


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


def measure(model: HFModel, options: SoftSRVOptions) -> list[object]:
    """Train one soft prompt and draw a round: the row of HEAD."""
    targets = family(128)
    setting = Setting(card=SynthesisCard(method="softsrv", options=options), model=model, targets=targets, seed=0)
    made = KIND.build(setting)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        ready = made.prepare(progress=lambda done, total: None, kept=Path(folder))
    trained = time.process_time() - begun
    facts: dict[str, Any] = ready.facts
    looks = {look["step"]: look["held_out"] for look in facts["looks"]}
    drafts = list(ready.round(0, []))
    known = {e.prompt + e.completion for e in targets}
    pairs = [draft for draft in drafts if draft.example]
    losses = [facts["nats_per_token"]["model"], looks[0], looks.get(EARLY), facts["nats_per_token"]["trained"]]
    return [
        options.form,
        f"{options.learning_rate:g}",
        facts["parameters"],
        *("-" if loss is None else f"{loss:.3f}" for loss in losses),
        f"{facts['best_step']} of {facts['steps']}",
        f"{trained / facts['steps']:.2f}",
        len(drafts),
        len(pairs),
        sum(map(parses, drafts)),
        sum(d.text in known for d in pairs),
    ]


def main() -> None:
    """Measure the forms at the rates that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forms", nargs="+", choices=FORMS)
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--steps", type=int, default=SoftSRVOptions().steps)
    given = parser.parse_args()
    rate = SoftSRVOptions().learning_rate
    wanted = [(form, one) for one in given.rates or [rate] for form in given.forms or FORMS]
    if not given.forms and not given.rates:
        wanted += [("nsp", 0.5 * rate), ("mc", 1.5 * rate)]
    model = HFModel(str(MODEL), HFOptions(device="cpu", threads=1), name="embedded")
    rows = []
    begun = time.process_time()
    for form, one in wanted:
        rows.append(measure(model, SoftSRVOptions(form=form, learning_rate=one, steps=given.steps)))
        print(f"{form} at {one:g}: {time.process_time() - begun:.0f} CPU seconds so far", file=sys.stderr, flush=True)
        print(tabulate(rows[-1:], tablefmt="github", disable_numparse=True), file=sys.stderr, flush=True)
    print(tabulate(rows, headers=HEAD, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
