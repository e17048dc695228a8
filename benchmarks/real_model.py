"""Decoding on a real model beside transformers and PEFT, with the limit of the machine, in CPU seconds of one thread.

    python benchmarks/real_model.py [--model FOLDER] [--rows R] [--tokens 48] [--rounds 3] [--json]

Every contender continues the same HumanEval prompts greedily by the same number of tokens, end tokens taken for ordinary
ones; with K adapters each member has its own part of the prompts. Contenders take turns; a figure is the median over rounds.
The limit is what no decoder can beat that reads every weight once a step and multiplies as fast as this machine multiplies
large matrices of the same shapes. Exit code 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contest import (
    FixedLength,
    Peer,
    add_rows,
    check_counts,
    interleave,
    median_ratio,
    peers,
    reported,
    versions,
    write_random_adapters,
)

from spa_bench.cards.task import load_task_card
from spa_bench.errors import UsageError
from spa_bench.models.hf.model import HFOptions
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import made_of
from spa_bench.types import Decoding, Member, Request

ROWS = 16  # of a batch, or more where the members need them
DRAWS = 8  # of one prompt, in the measurement of prefill


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how."""

    model: str
    rows: int
    tokens: int
    members: int
    rank: int
    rounds: int


@dataclass(frozen=True)
class Floor:
    """A ratio and the least, or with `most` the largest, that it may be."""

    what: str
    found: float
    bound: float
    most: bool = False

    @property
    def held(self) -> bool:
        """Whether the ratio is on the right side."""
        return self.found <= self.bound if self.most else self.found >= self.bound


def run(settings: Settings) -> dict[str, Any]:
    """Tokens a CPU second of each contender, the limit, the ratios and the floors."""
    torch.set_num_threads(1)
    if made := made_of(settings.model):  # smollm2, or a GGUF file
        settings = replace(settings, model=str(made.folder))
    with tempfile.TemporaryDirectory(prefix="spa-bench-") as folder:
        return _run(settings, Path(folder))


def _run(settings: Settings, folder: Path) -> dict[str, Any]:
    options = HFOptions(device="cpu", dtype="float32", batch_size=settings.rows, threads=1)
    ours = FixedLength(settings.model, options)
    texts = _texts(settings.rows)
    adapters = write_random_adapters(
        ours.network, folder, members=settings.members, rank=settings.rank, seed=0, model=settings.model
    )
    tokenizer, load = peers(settings.model)
    others = {
        name: Peer(load(some), tokenizer, settings.tokens)
        for name, some in (("transformers", []), ("peft_single", adapters[:1]), ("peft_mixed", adapters))
    }
    names = [f"m{row * settings.members // settings.rows}" for row in range(settings.rows)]
    contenders: dict[str, Callable[[], object]] = {
        "transformers": lambda: others["transformers"].generate(texts),
        "base": lambda: ours.answer(texts, [None], settings.tokens),
        "peft_single": lambda: others["peft_single"].generate(texts),
        "peft_mixed": lambda: others["peft_mixed"].generate(texts, adapter_names=names),
        "members": lambda: ours.answer(texts, adapters, settings.tokens),
        "one_draw": lambda: _first_tokens(ours, texts[0], 1),
        "eight_draws": lambda: _first_tokens(ours, texts[0], DRAWS),
    }
    rows = {name: contender() for name, contender in contenders.items()}  # the warm-up
    seconds = interleave(contenders, settings.rounds, time.process_time)
    count = settings.rows * settings.tokens
    speed = {name: count / statistics.median(seconds[name]) for name in list(contenders)[:5]}
    lengths = [len(ours.codec.prompt(text)) for text in texts]
    limit = count / _least_seconds(ours.network, settings, sum(lengths))

    def ratio(peer: str, mine: str) -> float:
        return median_ratio(seconds[peer], seconds[mine])

    floors = [
        Floor("base / transformers", ratio("transformers", "base"), 1.3),
        Floor("members / PEFT, one adapter", ratio("peft_single", "members"), 1.2),
        Floor("members / PEFT, mixed batch", ratio("peft_mixed", "members"), 1.6),
        Floor("members / base", ratio("base", "members"), 0.92),
        Floor(f"reading a prompt for {DRAWS} draws / for one", ratio("eight_draws", "one_draw"), 1.5, most=True),
    ]
    of_limit = speed["base"] / limit
    if of_limit >= 0.9:  # the other way to hold the first floor
        floors[0] = Floor("base / limit", of_limit, 0.9)
    return {
        "tokens_per_cpu_second": speed,
        "limit": limit,
        "base_of_limit": of_limit,
        "floors": [{**asdict(floor), "held": floor.held} for floor in floors],
        "rows_equal_transformers": _equal(rows["base"], rows["transformers"]),
        "rows_equal_peft_mixed": _equal(rows["members"], rows["peft_mixed"]),
        "seconds": seconds,
        "prompt_tokens": sum(lengths),
        "settings": asdict(settings),
        "versions": versions("torch", "transformers", "peft", "spa-bench"),
        "numerics": ours.numerics(),
    }


def _texts(rows: int) -> list[str]:
    """The prompts of `rows` HumanEval problems, spread over the set."""
    task: Any = load_task(load_task_card("humaneval"))
    prompts = [p.text for p in task.prompts(None)]
    if rows > len(prompts):
        raise UsageError(f"--rows {rows} is more than the {len(prompts)} problems of HumanEval")
    return prompts[:: len(prompts) // rows][:rows]


def _first_tokens(model: FixedLength, text: str, draws: int) -> None:
    """One token of each of `draws` draws of one prompt, decoded together."""
    decoding = Decoding(temperature=0.8, max_new_tokens=1)
    requests = [
        Request(problem_id="p", member=0, draw=d, kind="generate", prompt=text, decoding=decoding, seed=d) for d in range(draws)
    ]
    for _ in model.generate(requests, [Member("base", None, decoding)]):
        pass


def _least_seconds(network: torch.nn.Module, settings: Settings, prompt_tokens: int) -> float:
    """CPU seconds to read all weights once a step and to multiply everything once, both at this machine's best."""
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    head: Any = network.get_output_embeddings()
    weights = sum(m.weight.numel() for m in linear)
    steps = settings.rows * settings.tokens
    products = (weights - head.weight.numel()) * (prompt_tokens + steps) + head.weight.numel() * steps
    big = torch.zeros(1 << 26)  # 256 MiB, more than any cache
    reading = _best(lambda: big.sum()) / big.nbytes
    shapes = {tuple(m.weight.shape): m.weight for m in linear if m is not head}
    with torch.inference_mode():
        x = {wide: torch.randn(512, wide) for wide in {inputs for _, inputs in shapes}}
        speeds = []
        for (outputs, inputs), weight in shapes.items():
            packed = torch.ops.mkldnn._reorder_linear_weight(weight)
            taken = _best(partial(torch.ops.mkldnn._linear_pointwise.default, x[inputs], packed, None, "none", [], ""))
            speeds.append((512 * outputs * inputs, taken))
    a_product = sum(taken for _, taken in speeds) / sum(size for size, _ in speeds)
    return settings.tokens * 4 * weights * reading + products * a_product


def _best(act: Callable[[], object]) -> float:
    """The least CPU seconds of seven calls."""
    seconds = []
    for _ in range(7):
        start = time.process_time()
        act()
        seconds.append(time.process_time() - start)
    return min(seconds)


def _equal(ours: Any, theirs: Any) -> int:
    return sum(a == b for a, b in zip(ours, theirs, strict=True))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    s = result["settings"]
    lines = [f"{s['rows']} HumanEval prompts ({result['prompt_tokens']} tokens) × {s['tokens']} tokens, tokens a CPU second:"]
    lines += [f"  {name:14} {speed:6.1f}" for name, speed in result["tokens_per_cpu_second"].items()]
    lines += [f"  {'limit':14} {result['limit']:6.1f}   (base: {result['base_of_limit']:.2f} of it)"]
    for floor in result["floors"]:
        sign = "at most" if floor["most"] else "at least"
        lines.append(
            f"{'PASS' if floor['held'] else 'FAIL'}  {floor['what']}: {floor['found']:.2f} ({sign} {floor['bound']:g})"
        )
    lines.append(
        f"rows equal to transformers {result['rows_equal_transformers']}, to PEFT's mixed batch "
        f"{result['rows_equal_peft_mixed']}, of {s['rows']}"
    )
    return "\n".join(lines)


def _settings(argv: Sequence[str] | None) -> tuple[Settings, bool]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="smollm2", help="name or folder of a model (default: %(default)s)")
    add_rows(parser, ROWS)
    parser.add_argument("--tokens", type=int, default=48, help="tokens that every row draws (default: %(default)s)")
    parser.add_argument("--members", type=int, default=4, help="adapters (default: %(default)s)")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapters (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds behind a warm-up (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = vars(parser.parse_args(argv))
    as_json = options.pop("json")
    check_counts(parser, options, ("tokens", "rank", "rounds"), usual=ROWS)
    return Settings(**options), as_json


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 when a floor is missed, 2 on bad input."""
    settings, as_json = _settings(argv)
    result = reported(lambda: run(settings), None if as_json else table)
    return 2 if result is None else int(not all(floor["held"] for floor in result["floors"]))


if __name__ == "__main__":
    sys.exit(main())
