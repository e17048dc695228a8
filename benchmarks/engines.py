"""Tokens a CPU second of every engine that draws with K adapters on this machine, in one run.

    python benchmarks/engines.py [--model FOLDER] [--rows R] [--members 4] [--new-tokens 48] [--rounds 3] [--parts NAME ...]
        [--task humaneval]

Every contender continues the same prompts of a task of code greedily by the same number of tokens, end tokens taken for
ordinary ones: `stacked` (the hf engine, K adapters over one base), `peft-single` and `peft-mixed` (PEFT's generate(), one
adapter or K in a batch), `vllm` (K adapters in one batch) and `vllm-base`, and `base` (the hf engine without adapters).
Contenders take turns; a figure is the median over rounds. CPU seconds are those of this process and of vLLM's. On a GPU
(--device cuda) seconds are the clock's. vLLM runs by the interpreter in SPA_BENCH_VLLM_PYTHON; where there is none, its parts
are left out and said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
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
from spa_bench.models.engine import Draw, LoraAdapter
from spa_bench.models.hf.model import HFOptions
from spa_bench.models.vllm.engine import VllmEngine
from spa_bench.models.vllm.offline import Offline
from spa_bench.models.vllm.options import ModelFacts, VllmOptions
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import made_of
from spa_bench.types import Decoding, Key

ROWS = 32  # of a batch, or more where the members need them
PARTS = {
    "stacked": "hf, K adapters stacked over one base",
    "peft-single": "PEFT, one adapter on all rows, generate()",
    "peft-mixed": "PEFT, K adapters in a batch, generate()",
    "vllm": "vLLM, K adapters in one batch",
    "vllm-base": "vLLM, no adapter, loaded for K",
    "base": "hf, the bare base",
}
Rows = list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how."""

    model: str
    rows: int
    members: int
    new_tokens: int
    rounds: int
    rank: int
    threads: int
    device: str
    task: str
    parts: tuple[str, ...]


def run(settings: Settings) -> dict[str, Any]:
    """Tokens a second of each part, ratios to `stacked`, rows that equal PEFT's mixed batch, settings and versions."""
    torch.set_num_threads(settings.threads)
    if made := made_of(settings.model):  # smollm2, or a GGUF file
        settings = replace(settings, model=str(made.folder))
    left_out = {}
    if not shutil.which(os.environ.get("SPA_BENCH_VLLM_PYTHON", "")):
        left_out = {p: "SPA_BENCH_VLLM_PYTHON names no interpreter" for p in settings.parts if p.startswith("vllm")}
    with tempfile.TemporaryDirectory(prefix="spa-bench-") as folder, ExitStack() as stack:
        return {**_run(settings, Path(folder), stack, left_out), "left_out": left_out}


def _run(settings: Settings, folder: Path, stack: ExitStack, left_out: Mapping[str, str]) -> dict[str, Any]:
    dtype = "float32" if settings.device == "cpu" else "bfloat16"
    options = HFOptions(device=settings.device, dtype=dtype, batch_size=settings.rows, threads=settings.threads)
    ours = FixedLength(settings.model, options)
    texts = _texts(settings, ours)
    prompts = [ours.codec.prompt(text) for text in texts]
    adapters = write_random_adapters(
        ours.network, folder, members=settings.members, rank=settings.rank, seed=0, model=settings.model
    )
    parts = [p for p in settings.parts if p not in left_out]
    tokenizer, load = peers(settings.model, dtype=dtype, device=settings.device)
    names = [f"m{row * settings.members // settings.rows}" for row in range(settings.rows)]
    contenders: dict[str, Callable[[], Rows]] = {}
    if "stacked" in parts:
        contenders["stacked"] = lambda: ours.answer(texts, adapters, settings.new_tokens)
    if "peft-single" in parts:
        single = Peer(load(adapters[:1]), tokenizer, settings.new_tokens)
        contenders["peft-single"] = lambda: single.generate(texts)
    if "peft-mixed" in parts:
        mixed = Peer(load(adapters), tokenizer, settings.new_tokens)
        contenders["peft-mixed"] = lambda: mixed.generate(texts, adapter_names=names)
    if "base" in parts:
        base = FixedLength(settings.model, options)  # without wrapped layers
        contenders["base"] = lambda: base.answer(texts, [None], settings.new_tokens)
    pid, told = None, {}
    if any(p.startswith("vllm") for p in parts):
        engine, backend, known = stack.enter_context(_vllm(settings, ours, adapters, dtype, max(map(len, prompts))))
        pid, told = backend.pid, engine.fingerprint()
        if "vllm" in parts:
            contenders["vllm"] = lambda: _drawn(engine, prompts, known, settings)
        if "vllm-base" in parts:
            contenders["vllm-base"] = lambda: _drawn(engine, prompts, [None], settings)
    rows = {name: generate() for name, generate in contenders.items()}  # the warm-up
    for name, drawn in rows.items():
        if any(len(row) != settings.new_tokens for row in drawn):
            raise AssertionError(f"{name} drew {sorted({len(row) for row in drawn})} tokens, not {settings.new_tokens}")
    seconds = interleave(contenders, settings.rounds, _clock(settings.device, pid))
    tokens = settings.rows * settings.new_tokens
    return {
        "tokens_per_second": {name: tokens / statistics.median(times) for name, times in seconds.items()},
        "vs_stacked": {n: median_ratio(seconds["stacked"], t) for n, t in seconds.items()} if "stacked" in seconds else {},
        "rows_equal_to_peft_mixed": {
            name: sum(a == b for a, b in zip(drawn, rows["peft-mixed"], strict=True))
            for name, drawn in rows.items()
            if "peft-mixed" in rows and name in ("stacked", "vllm")
        },
        "seconds": seconds,
        "settings": asdict(settings),
        "versions": versions("torch", "transformers", "peft", "spa-bench"),
        "vllm": told,
    }


@contextmanager
def _vllm(
    settings: Settings, ours: FixedLength, adapters: Sequence[Path], dtype: str, longest: int
) -> Iterator[tuple[VllmEngine, Offline, list[LoraAdapter]]]:
    """vLLM, open with the adapters. Its canary has nothing to compare with here: rows are compared with PEFT's."""
    facts = ModelFacts(
        path=settings.model,
        name="model",
        vocabulary=int(ours.network.config.get_text_config().vocab_size),
        ends=lambda _: frozenset(),
        context=min(ours.context, longest + settings.new_tokens + 1),
        dtype=dtype,
        threads=settings.threads,
    )
    # prompts would be read once for all rounds: the other contenders read them in each
    options = VllmOptions(
        max_num_seqs=settings.rows, prefix_caching=False, kv_cache_gib=2.0 if settings.device == "cpu" else None
    )
    backend = Offline(facts, options)
    engine = VllmEngine(facts, backend, reference=None)
    known = [LoraAdapter.at(folder) for folder in adapters]
    engine.open(known)
    try:
        yield engine, backend, known
    finally:
        engine.close()


def _drawn(engine: VllmEngine, prompts: Sequence[Sequence[int]], adapters: Sequence[LoraAdapter | None], s: Settings) -> Rows:
    draws = [
        Draw(
            key=Key(f"row-{i}", 0, 0),
            prompt=tuple(prompt),
            adapter=adapters[i * len(adapters) // len(prompts)],
            decoding=Decoding(),
            seed=i,
            limit=s.new_tokens,
        )
        for i, prompt in enumerate(prompts)
    ]
    found = {d.key: list(d.tokens) for d in engine.draw(draws)}
    return [found[d.key] for d in draws]


def _clock(device: str, pid: int | None) -> Callable[[], float]:
    """CPU seconds of this process and of the process `pid`; on a GPU those of the clock."""
    if device != "cpu":
        return time.perf_counter
    ticks = os.sysconf("SC_CLK_TCK")

    def seconds() -> float:
        if pid is None:
            return time.process_time()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return time.process_time() + (int(fields[11]) + int(fields[12])) / ticks

    return seconds


def _texts(settings: Settings, model: FixedLength) -> list[str]:
    """Prompts of the task that leave room for the answers, spread over the set: every member answers the same ones."""
    task: Any = load_task(load_task_card(settings.task))
    found = [p.text for p in task.prompts(None)]
    found = [text for text in found if len(model.codec.prompt(text)) + settings.new_tokens < model.context]
    each = settings.rows // settings.members
    if len(found) < each:
        raise UsageError(f"--rows {settings.rows} needs {each} prompts a member; {len(found)} of {settings.task} fit the model")
    return found[:: len(found) // each][:each] * settings.members


def table(result: Mapping[str, Any]) -> str:
    """`result` for a reader."""
    s, vs = result["settings"], result["vs_stacked"]
    unit = "CPU s" if s["device"] == "cpu" else "s"
    lines = [
        f"{s['rows']} rows, {s['members']} members, {s['new_tokens']} new tokens a row, greedy, {s['threads']} threads, "
        f"{s['rounds']} rounds, model {s['model']}",
        "",
        f"{'':45} {'tokens / ' + unit:>14}  {'× stacked':>9}  lowest and highest round",
    ]
    tokens = s["rows"] * s["new_tokens"]
    for name, rate in result["tokens_per_second"].items():
        times = result["seconds"][name]
        lines.append(
            f"{PARTS[name]:45} {rate:14.1f}  {vs.get(name, float('nan')):9.2f}  "
            f"{tokens / max(times):.1f} {tokens / min(times):.1f}"
        )
    lines += [f"{PARTS[name]:45} not measured: {why}" for name, why in result["left_out"].items()]
    equal = result["rows_equal_to_peft_mixed"]
    lines += ["", *(f"rows of {name} equal to PEFT's mixed batch: {n} of {s['rows']}" for name, n in equal.items())]
    return "\n".join(lines)


def _settings(argv: Sequence[str] | None) -> tuple[Settings, bool]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="smollm2", help="folder, GGUF file or name (default: %(default)s)")
    for name, value, what in (
        ("members", 4, "adapters, each on rows / members rows"),
        ("new-tokens", 48, "tokens every row draws"),
        ("rounds", 3, "timed rounds, one turn a contender"),
        ("rank", 8, "rank of the adapters"),
        ("threads", 1, "CPU threads"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{what} (default: %(default)s)")
    add_rows(parser, ROWS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--task", default="humaneval", help="a task of code, whose prompts are taken (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="contenders (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = vars(parser.parse_args(argv))
    as_json = options.pop("json")
    check_counts(parser, options, ("new_tokens", "rounds", "rank", "threads"), usual=ROWS)
    return Settings(**{**options, "parts": tuple(options["parts"])}), as_json


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 2 on bad input."""
    settings, as_json = _settings(argv)
    return 0 if reported(lambda: run(settings), None if as_json else table) else 2


if __name__ == "__main__":
    sys.exit(main())
