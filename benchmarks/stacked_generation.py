"""Throughput of greedy generation with K stacked LoRA adapters, beside PEFT, a merged adapter and the bare base.

All contenders turn the same texts into texts, in one batch of the same size, and draw the same number of tokens: end
tokens are taken for ordinary ones. They take turns in a rotated order; a ratio is the median over rounds of seconds of
the peer / seconds of ours, so above 1 ours is faster. The adapters are random, which changes what is written but not
what it costs.

    python benchmarks/stacked_generation.py [--model PATH] [--threads 1] [--json]

`base` is the limit of stacking: the same rows through the same decoding loop, without adapters. An adapter merged into
the base runs through that loop at exactly this cost; `merged` decodes it by transformers' generate() instead. Exit
code 1 when a row of ours differs from PEFT's mixed batch in float32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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

from spa_bench.cards.task import TaskCard
from spa_bench.errors import UsageError
from spa_bench.mini.data import MODEL, problems
from spa_bench.models.hf.model import HFModel, HFOptions

Generate = Callable[[], list[list[int]]]
"""Generates all rows, text to text, and returns the new tokens of each."""

ROWS = 64  # of a batch, or more where the members need them
PEERS = {
    "peft_single": "PEFT, one adapter on all rows, generate()",
    "peft_mixed": "PEFT, mixed batch, generate(adapter_names=...)",
    "base": "bare base, our decoding loop",
    "merged": "one adapter merged into the base, generate()",
}


@dataclass(frozen=True)
class Settings:
    """What is measured, and how."""

    model: str
    rows: int  # rows of the batch, the same for every contender
    members: int  # adapters; each has rows / members rows
    prompts: int  # distinct prompts, from mini-code
    new_tokens: int  # every row draws exactly so many
    rounds: int  # each contender runs once a round; a warm-up round before them is not counted
    rank: int
    seed: int  # of the adapters
    threads: int
    device: str
    dtype: str


def run(settings: Settings) -> dict[str, Any]:
    """One measurement: ratios, tokens per second, equal rows, seconds of every round, settings and versions."""
    with tempfile.TemporaryDirectory(prefix="spa-bench-") as folder:
        return _run(settings, Path(folder))


def _run(settings: Settings, folder: Path) -> dict[str, Any]:
    options = HFOptions(device=settings.device, dtype=settings.dtype, batch_size=settings.rows, threads=settings.threads)
    ours, base = FixedLength(settings.model, options), FixedLength(settings.model, options)
    adapters = write_random_adapters(
        ours.network, folder, members=settings.members, rank=settings.rank, seed=settings.seed, model=settings.model
    )
    texts = _prompts(settings, ours)
    tokenizer, networks = _peers(settings, adapters)
    others = {name: Peer(network, tokenizer, settings.new_tokens) for name, network in networks.items()}
    names = [f"m{row * settings.members // settings.rows}" for row in range(settings.rows)]
    contenders: dict[str, Generate] = {
        "ours": lambda: ours.answer(texts, adapters, settings.new_tokens),
        "peft_single": lambda: others["peft_single"].generate(texts),
        "peft_mixed": lambda: others["peft_mixed"].generate(texts, adapter_names=names),
        "base": lambda: base.answer(texts, [None], settings.new_tokens),
        "merged": lambda: others["merged"].generate(texts),
    }
    rows = {name: generate() for name, generate in contenders.items()}  # the warm-up
    for name, drawn in rows.items():
        if any(len(row) != settings.new_tokens for row in drawn):
            raise AssertionError(f"{name} drew {sorted({len(row) for row in drawn})} tokens, not {settings.new_tokens}")
    seconds = interleave(contenders, settings.rounds)
    ratios = {f"vs_{peer}": median_ratio(seconds[peer], seconds["ours"]) for peer in PEERS}
    unequal = [i for i, (a, b) in enumerate(zip(rows["ours"], rows["peft_mixed"], strict=True)) if a != b]
    tokens = settings.rows * settings.new_tokens
    return {
        **ratios,
        "rows_equal": settings.rows - len(unequal),
        "rows": settings.rows,
        "rows_unlike_base": sum(a != b for a, b in zip(rows["ours"], rows["base"], strict=True)),
        "flips": [_flip(i, rows["ours"][i], rows["peft_mixed"][i], texts[i], names[i], others["peft_mixed"]) for i in unequal],
        "tokens_per_second": {name: tokens / statistics.median(times) for name, times in seconds.items()},
        "seconds": seconds,
        "settings": asdict(settings),
        "versions": versions("torch", "transformers", "peft", "spa-bench"),
        "numerics": ours.numerics(),
    }


def _quotient(a: float, b: float) -> float:
    return a / b


def _prompts(settings: Settings, model: HFModel) -> list[str]:
    """The text of each row: every member answers the same prompts, repeated when it has more rows than prompts."""
    found = [p.prompt for p in problems(TaskCard(name="mini-code", description=""))[0]]
    # problems are ordered by difficulty; a stride takes short and long prompts alike
    chosen = found[:: max(1, len(found) // settings.prompts)][: settings.prompts]
    longest = max(len(model.codec.prompt(text)) for text in chosen)
    if longest + settings.new_tokens > model.context:
        raise UsageError(
            f"--new-tokens {settings.new_tokens} behind {longest} of a prompt do not fit the context of {model.context}"
        )
    return [chosen[i % len(chosen)] for i in range(settings.rows // settings.members)] * settings.members


def _peers(settings: Settings, adapters: Sequence[Path]) -> tuple[Any, dict[str, Any]]:
    """The tokenizer, padding on the left, and a network for each peer that generate() drives."""
    tokenizer, load = peers(settings.model, dtype=settings.dtype, device=settings.device)
    return tokenizer, {
        "peft_single": load(adapters[:1]),
        "peft_mixed": load(adapters),
        "merged": load(adapters[:1]).merge_and_unload(),
    }


@torch.inference_mode()
def _flip(row: int, ours: list[int], theirs: list[int], text: str, adapter: str, peer: Peer) -> dict[str, Any]:
    """Where a row first differs, and PEFT's logit of its token minus its logit of ours there: rounding, or an error."""
    place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    peer.network.set_adapter(adapter)
    ids = peer._tokenizer(text, return_tensors="pt")["input_ids"]
    ids = torch.cat([ids, torch.tensor([ours[:place]], dtype=ids.dtype)], -1).to(peer.network.device)
    logits = peer.network(input_ids=ids).logits[0, -1].float()
    return {"row": row, "token": place, "logit_gap": float(logits[theirs[place]] - logits[ours[place]])}


def table(result: Mapping[str, Any]) -> str:
    """`result` for a reader."""
    settings, seconds = result["settings"], result["seconds"]
    lines = [
        f"{settings['rows']} rows, {settings['members']} members, {settings['new_tokens']} new tokens a row, greedy, "
        f"{settings['dtype']} on {settings['device']}, {settings['threads']} threads, {settings['rounds']} rounds",
        f"model {settings['model']}",
        "",
        f"{'':50} {'tokens/s':>9}  {'ours / it':>9}  lowest and highest round",
    ]
    for name, label in {"ours": f"ours: {settings['members']} adapters stacked", **PEERS}.items():
        line = f"{label:50} {result['tokens_per_second'][name]:9.0f}"
        if name in PEERS:
            ratios = list(map(_quotient, seconds[name], seconds["ours"]))
            line += f"  {result[f'vs_{name}']:9.2f}  {min(ratios):.2f} {max(ratios):.2f}"
        lines.append(line)
    lines += ["", f"rows equal to PEFT's mixed batch, token for token: {result['rows_equal']} of {result['rows']}"]
    lines += [f"rows that the adapters changed: {result['rows_unlike_base']}"]
    lines += [f"  row {f['row']} differs from token {f['token']} on; logit gap {f['logit_gap']:.2e}" for f in result["flips"]]
    return "\n".join(lines)


def _settings(argv: Sequence[str] | None) -> tuple[Settings, bool]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default=str(MODEL), help="folder or hub name; default: the embedded model")
    add_rows(parser, ROWS)
    parser.add_argument("--members", type=int, default=8, help="adapters, each on rows / members rows (default: %(default)s)")
    parser.add_argument("--prompts", type=int, help="distinct prompts; default: as many as a member has rows")
    parser.add_argument("--new-tokens", type=int, default=64, help="tokens every row draws (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, one turn a contender (default: %(default)s)")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapters (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the adapters (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads; default: the cores at hand"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = vars(parser.parse_args(argv))
    as_json = options.pop("json")
    check_counts(parser, options, ("new_tokens", "rounds", "rank", "threads"), usual=ROWS)
    rows, members = options["rows"], options["members"]
    if options["prompts"] is None:
        options["prompts"] = rows // members
    if not 1 <= options["prompts"] <= rows // members:
        parser.error(f"--prompts {options['prompts']} must lie between 1 and the {rows // members} rows a member has")
    return Settings(**options), as_json


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 when rows differ in float32, 2 on bad input."""
    settings, as_json = _settings(argv)
    result = reported(lambda: run(settings), None if as_json else table)
    return 2 if result is None else int(result["rows_equal"] < result["rows"] and settings.dtype == "float32")


if __name__ == "__main__":
    sys.exit(main())
