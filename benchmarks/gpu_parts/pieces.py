"""The pieces of benchmarks/gpu_session.py; each gives one row of figures or several."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from gpu_parts.setting import Setting, free
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.cards.training import LoraCard
from spa_bench.mini.data import MODEL, instructions, problems
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, initial_down, write_adapter
from spa_bench.samplers.mixture import build
from spa_bench.spa.adapt import train_adapters
from spa_bench.spa.attribution import gradients
from spa_bench.spa.attribution.gradients import Batch, Point, batch_of, over_batches
from spa_bench.spa.batches import Encoded
from spa_bench.spa.stages import Stages
from spa_bench.spa.training_data import load_data
from spa_bench.types import Completion, Decoding, Key, Member, Prompt, Request

ROOT = Path(__file__).resolve().parents[2]
VOCABULARIES = (32_000, 152_000)
K = 8


class Lines:
    """A console for the stages, which keeps their seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def note(self, text: str) -> None:
        """One line for the user."""
        print(text, file=sys.stderr)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Time a named piece of work."""
        began = time.perf_counter()
        yield lambda done, total: None
        self.seconds[name] = round(time.perf_counter() - began, 2)


def run_tests(setting: Setting) -> dict[str, Any]:
    """`pytest -m gpu`; on tiny shapes the tests are collected alone."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    command += ["--collect-only", "tests/gpu"] if setting.small else ["tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "harness"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit code": done.returncode, "summary": lines[-1] if lines else "", "failed": "; ".join(failed)}


def mini_code(setting: Setting) -> dict[str, Any]:
    """The embedded model in bfloat16: attribution, parts, four adapters, answers to mini-code; seconds a stage."""
    settings: dict[str, Any] = {"lora": {"steps": 1}, "data": {"share": 0.05}} if setting.small else {}
    card = load_sampler_card("spa-influence", settings)
    model = HFModel(str(MODEL), HFOptions(device=setting.device, dtype="bfloat16"), name="embedded")
    console = Lines()
    with tempfile.TemporaryDirectory() as folder:
        adapters = Stages(card, load_data(card, model, 0), model, seed=0, cache=Path(folder), console=console).adapters()
        found, _ = problems(load_task_card("mini-code", {}))
        prompts = [
            Prompt(problem_id=p.id, text=p.prompt, max_new_tokens=64, stop=()) for p in found[: 2 if setting.small else None]
        ]
        with console.stage("generation"):
            texts = list(build(card, adapters).sample(model, prompts, 4, 0, task="mini-code"))
    failed = sum(bool(t.failure) for t in texts)
    return {"answers": len(texts), "failed": failed, "distinct": len({t.text for t in texts}), **console.seconds}


def rows_of(tokens: int, width: int, vocabulary: int) -> list[Encoded]:
    """Rows of random tokens, `tokens` in all, half of each counted."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, vocabulary, min(width, tokens)) for _ in range(max(1, tokens // width))]
    return [Encoded(tuple(map(int, row)), len(row) // 2) for row in rows]


def point_of(model: HFModel) -> Point:
    """LoRA's start."""
    lora = LoraCard(rank=16, alpha=32.0)
    return Point(model, model.lora_layers(lora.targets), None, lora)


def attribution(setting: Setting) -> list[dict[str, Any]]:
    """Gradient passes of 256 to 2,048 tokens at two sizes of the vocabulary: seconds, peak, tokens a second."""
    found = []
    for vocabulary in VOCABULARIES:
        model = setting.model(vocabulary)
        point, words = point_of(model), words_of(model)
        for tokens in (64, 128) if setting.small else (256, 512, 1024, 2048):
            taken = _passed(setting, point, rows_of(tokens, 256, words))
            found.append({"V": words, "tokens": tokens, **taken, "tokens a second": round(tokens / taken["seconds"])})
        del model, point
        free()
    return found


def _passed(setting: Setting, point: Point, encoded: list[Encoded]) -> dict[str, float]:
    batch = batch_of(encoded, list(range(len(encoded))), point.device)
    point.catch(batch, _drop)  # warm
    return setting.timed(lambda: point.catch(batch, _drop))


def words_of(model: HFModel) -> int:
    """The size of the network's vocabulary."""
    config: Any = model.network.config
    return int(config.vocab_size)


def _drop(path: str, x: torch.Tensor, delta: torch.Tensor) -> None:
    """A sink for gradients that nobody needs."""


def training(setting: Setting) -> dict[str, Any]:
    """One optimiser step of eight members of four pairs each."""
    model, pairs = setting.model(VOCABULARIES[0]), instructions()[: 4 * K]
    card = LoraCard(rank=16, alpha=32.0, steps=1, batch=4, warmup=0, learning_rate=1e-4)
    parts = [pairs[k::K] for k in range(K)]
    trained: list[Adapter] = []
    taken = setting.timed(lambda: trained.extend(train_adapters(model, parts, card, range(K), progress=lambda *_: None)))
    finite = all(bool(high.isfinite().all()) for a in trained for _, high in a.factors.values())
    return {"members": K, "pairs": len(pairs), **taken, "finite": finite}


def memory(setting: Setting) -> dict[str, Any]:
    """Gradients with so little memory that passes are halved, against those with all of it.

    On a GPU the memory is taken by a tensor that leaves a third of what the largest pass needs; on a CPU the lack is simulated.
    """
    model = setting.model(VOCABULARIES[0])
    point, words = point_of(model), words_of(model)
    encoded = rows_of(512 if setting.small else 8192, 64 if setting.small else 512, words)

    def norms() -> tuple[torch.Tensor, int]:
        found, sizes = torch.zeros(len(encoded)), []

        def act(batch: Batch) -> None:
            total = torch.zeros(len(batch.indices), device=point.device)

            def sink(path: str, x: torch.Tensor, delta: torch.Tensor) -> None:
                total.add_(delta.float().square().sum((1, 2)))

            point.catch(batch, sink)
            found[batch.indices] = total.cpu()
            sizes.append(len(batch.indices))

        over_batches(encoded, point.device, act)
        return found, min(sizes)

    with mock.patch.object(gradients, "TOKENS", {setting.device: 1 << 20}):
        before = torch.cuda.memory_allocated() if setting.device == "cuda" else 0
        taken = setting.timed(norms)
        whole, rows = norms()
        with _scarce(setting, int(taken["peak GB"] * 1e9) - before):
            halved, fewer = norms()
    return {
        "rows a pass": rows,
        "with little memory": fewer,
        "largest relative difference": float(((halved - whole).abs() / whole).max()),
        "real": setting.device == "cuda",
    }


@contextmanager
def _scarce(setting: Setting, needed: int) -> Iterator[None]:
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        available, _ = torch.cuda.mem_get_info()
        ballast = torch.empty(max(0, available - needed // 3), dtype=torch.uint8, device="cuda")
        try:
            yield
        finally:
            del ballast
            torch.cuda.empty_cache()
        return
    plain = Point.catch

    def catch(point: Point, batch: Batch, sink: Any, **more: Any) -> None:
        if len(batch.indices) > 2:
            raise MemoryError
        plain(point, batch, sink, **more)

    with mock.patch.object(Point, "catch", catch):
        yield


def random_adapter(model: HFModel, folder: Path, seed: int) -> Path:
    """The folder of an adapter with small random factors."""
    generator = torch.Generator().manual_seed(seed)
    factors = {
        path: (
            initial_down(layer.base.in_features, 8, generator),
            torch.randn(layer.base.out_features, 8, generator=generator) * 0.01,
        )
        for path, layer in model.lora_layers("all-linear").items()
    }
    write_adapter(Adapter(factors, 8, 16.0), folder, base_model="random")
    return folder


def requests_of(rows: int, members: int, tokens: int, temperature: float = 1.0) -> list[Request]:
    """`rows` requests over `members`, each with its own prompt."""
    pairs = instructions()
    return [
        Request(
            problem_id=f"p{i}",
            member=i % members,
            draw=0,
            kind="generate",
            prompt=pairs[i % len(pairs)].prompt,
            decoding=Decoding(temperature=temperature, max_new_tokens=tokens),
            seed=i,
        )
        for i in range(rows)
    ]


def decoding(setting: Setting) -> list[dict[str, Any]]:
    """Tokens a second at 32, 128 and 256 rows, bare and with eight adapters, and the share of the bandwidth that they use."""
    bandwidth, found = setting.bandwidth(), []
    with tempfile.TemporaryDirectory() as folder:
        for rows in (8, 16) if setting.small else (32, 128, 256):
            model = setting.model(VOCABULARIES[0], batch=rows)
            paths = [random_adapter(model, Path(folder) / str(k), k) for k in range(K)]
            several = [Member(f"m{k}", path, Decoding()) for k, path in enumerate(paths)]
            for name, members in (("base", [Member("base", None, Decoding())]), (f"{K} adapters", several)):
                drawn = _decoded(setting, model, rows, members, bandwidth)
                found.append({"rows": rows, "members": name, **drawn})
            del model
            free()
    return found


def _decoded(setting: Setting, model: HFModel, rows: int, members: Sequence[Member], bandwidth: float) -> dict[str, Any]:
    asked = requests_of(rows, len(members), 4 if setting.small else 64)
    out: list[Completion] = []
    taken = setting.timed(lambda: out.extend(model.generate(asked, members)))
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    read = max(c.tokens for c in out) * weights  # each step reads the weights once
    return {
        **taken,
        "tokens a second": round(sum(c.tokens for c in out) / taken["seconds"], 1),
        "share of the bandwidth": round(read / taken["seconds"] / bandwidth, 3),
    }


def engines(setting: Setting) -> list[dict[str, Any]]:
    """benchmarks/engines.py with this network: hf bare and stacked, PEFT single and mixed, vLLM where there is one."""
    import engines as contest

    with tempfile.TemporaryDirectory() as name:
        model = setting.model(VOCABULARIES[0])
        model.network.save_pretrained(name)
        shutil.copy(MODEL / "tokenizer.json", name)
        shutil.copy(MODEL / "tokenizer_config.json", name)
        del model
        free()
        settings = contest.Settings(
            model=name,
            rows=8 if setting.small else 64,
            members=4,
            new_tokens=4 if setting.small else 48,
            rounds=2 if setting.small else 3,
            rank=8,
            threads=torch.get_num_threads(),
            device=setting.device,
            task="mini-code",
            parts=tuple(contest.PARTS),
        )
        found = contest.run(settings)
    rates, ratios = found["tokens_per_second"], found["vs_stacked"]
    rows = [{"engine": contest.PARTS[p], "tokens a second": rates[p], "x stacked": ratios[p]} for p in rates]
    missing = found["left_out"]
    return rows + [{"engine": contest.PARTS[p], "tokens a second": missing[p], "x stacked": "-"} for p in missing]


def batch_sizes(setting: Setting) -> dict[str, Any]:
    """Greedy texts at two batch sizes, and of a run that is killed and resumed: the share that is the same."""
    sizes, tokens = ((4, 8), 6) if setting.small else ((16, 64), 64)
    member = [Member("base", None, Decoding(temperature=0.0))]
    asked = requests_of(2 * sizes[1], 1, tokens, temperature=0.0)

    def texts(batch: int, given: Sequence[Request], most: int | None = None) -> dict[Key, str]:
        model = setting.model(VOCABULARIES[0], batch=batch)
        found: dict[Key, str] = {}
        answers: Iterator[Completion] = model.generate(given, member)
        for answer in answers:
            found[answer.key] = answer.text
            if most is not None and len(found) >= most:
                break
        free()
        return found

    few, many = (texts(size, asked) for size in sizes)
    first = texts(sizes[1], asked, len(asked) // 2)
    resumed = {**first, **texts(sizes[1], [r for r in asked if r.key not in first])}
    return {
        "texts": len(asked),
        f"the same at {sizes[0]} and {sizes[1]} rows": sum(few[k] == many[k] for k in many) / len(many),
        "the same when killed and resumed": sum(resumed[k] == many[k] for k in many) / len(many),
    }


def kl_of_itself(setting: Setting) -> dict[str, Any]:
    """KL of a member against itself in another group of rows: zero but for numerics."""
    model = setting.model(VOCABULARIES[0])
    pairs = [(p.prompt, p.completion) for p in instructions()[: 2 if setting.small else 16]]
    with tempfile.TemporaryDirectory() as folder:
        path = random_adapter(model, Path(folder), 0)
        twice = [Member(n, path, Decoding()) for n in ("a", "b")]
        sums = [one for one in model.divergence(pairs, twice, base=False, top=10) if one is not None]
    kl = [float(one.cross[0, 0] - one.cross[0, 1]) / one.tokens for one in sums]
    return {"places": sum(one.tokens for one in sums), "mean KL": float(np.mean(kl)), "largest KL": float(np.abs(kl).max())}
