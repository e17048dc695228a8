"""Train the embedded base model: `python -m spa_bench.mini.train --out DIR [--minutes 9]`.

Seeded and resumable: batch i depends on (seed, i) alone, the optimiser's state is kept in DIR/state.pt, and a call ends after
`--minutes`; the same command resumes it. The last call exports the model in bfloat16 safetensors (without the tied output
matrix) beside its tokenizer, settings and loss curve (`training.json`, and as a model card in README.md). Recipe: AdamW,
warm-up, flat, then cosine; loss weight 1 on the completion, 4 on a question's answer in it, 0.1 on the prompt. The corpus is a
mixture of both worlds (`corpus.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spa_bench.mini.corpus import TEXT, draw_pair
from spa_bench.mini.tokenizer import CONTEXT, VOCABULARY, train_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

POOL = 16  # batches drawn together, so that a batch holds sequences of similar length


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the weights, besides the world itself."""

    seed: int = 0
    steps: int = 3000  # 4500 on code alone saturate mini-code (greedy pass@1 0.98): no room to tell samplers apart
    batch: int = 32  # sequences a step
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    feed_forward: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    warmup: int = 150
    flat: float = 0.3  # share of the steps before the cosine starts
    floor: float = 0.02  # the cosine's end, as a share of the learning rate
    prompt_weight: float = 0.1
    answer_weight: float = 4.0  # of a question's answer, which is short; code has none, and weighs 1 like explanations
    text: float = TEXT  # share of the text world among the pairs


def build_model(settings: Settings) -> LlamaForCausalLM:
    """A randomly initialised Llama of the embedded size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=settings.hidden,
        intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        attention_dropout=0.0,
    )
    return LlamaForCausalLM(config)


def pool(tokenizer: PreTrainedTokenizerFast, settings: Settings, index: int) -> list[tuple[Tensor, Tensor]]:
    """The `index`-th pool of batches: (token ids, loss weights), each (batch, length), padded to 16."""
    rng = random.Random(f"corpus-{settings.seed}-{index}")
    pairs = [draw_pair(rng, text=settings.text) for _ in range(POOL * settings.batch)]
    prompts, answers, rests = (tokenizer(list(texts))["input_ids"] for texts in zip(*map(astuple, pairs), strict=True))
    rows = [
        (head + answer + rest + [tokenizer.eos_token_id], len(head), len(head) + len(answer))
        for head, answer, rest in zip(prompts, answers, rests, strict=True)
    ]
    rows = sorted((r for r in rows if len(r[0]) <= CONTEXT), key=lambda r: len(r[0]))
    batches = []
    for start in range(0, len(rows) - settings.batch + 1, settings.batch):
        part = rows[start : start + settings.batch]
        length = math.ceil(max(len(ids) for ids, *_ in part) / 16) * 16
        ids = torch.zeros(len(part), length, dtype=torch.long)
        weights = torch.zeros(len(part), length)
        for i, (row, head, answered) in enumerate(part):
            ids[i, : len(row)] = torch.tensor(row)
            weights[i, :head] = settings.prompt_weight
            weights[i, head:answered] = settings.answer_weight
            weights[i, answered : len(row)] = 1.0
        batches.append((ids, weights))
    rng.shuffle(batches)
    return batches


def batches(tokenizer: PreTrainedTokenizerFast, settings: Settings, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches from step `start` on, without end. Every pool counts as POOL steps; rows that are too long shorten it evenly."""
    index, offset = divmod(start, POOL)
    while True:
        rows = pool(tokenizer, settings, index)
        for i in range(offset, POOL):
            yield rows[i % len(rows)]
        index, offset = index + 1, 0


def rate(settings: Settings, step: int) -> float:
    """Learning rate at `step`: linear warm-up, flat, cosine to `floor`."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    begin = settings.flat * settings.steps
    if step < begin:
        return settings.learning_rate
    done = (step - begin) / max(1.0, settings.steps - begin)
    return settings.learning_rate * (settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * done)))


def loss_of(model: nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the next token; `weights` (batch, length) belongs to the predicted token."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    flat = weights[:, 1:].flatten()
    return (losses * flat).sum() / flat.sum()


def export(model: LlamaForCausalLM, folder: Path) -> None:
    """Write `model` to `folder` in bfloat16, without the tied output matrix, readable by every user."""
    from safetensors.torch import save_file

    weights = {
        k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"
    }
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string(use_diff=True))
    config.update({"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"})
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)


@dataclass(kw_only=True)
class Training:
    """The state of a training: what `state.pt` holds, and what is needed to resume from it."""

    settings: Settings
    model: LlamaForCausalLM
    optimizer: torch.optim.Optimizer
    curve: list[list[float]]  # [step, mean loss of the last 100 steps]
    running: list[float]  # losses since the last mean
    step: int = 0
    seconds: float = 0.0  # spent so far, over all calls

    def save(self, file: Path) -> None:
        """Write the state, so that a later call can resume from it."""
        state = {
            "settings": asdict(self.settings), "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "curve": self.curve, "running": self.running, "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    def restore(self, file: Path, device: str) -> None:
        """Resume from the state in `file`. Raises SystemExit with a message when its settings are others."""
        state = torch.load(file, weights_only=True, map_location=device)
        if state["settings"] != asdict(self.settings):
            raise SystemExit(f"{file} was made with other settings: {state['settings']}; use another --out")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve, self.running, self.step, self.seconds = (state[k] for k in ("curve", "running", "step", "seconds"))


def begin(settings: Settings, device: str) -> Training:
    """A fresh model and its optimiser; only matrices are decayed."""
    model = build_model(settings).to(device)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    return Training(settings=settings, model=model, optimizer=optimizer, curve=[], running=[])


def take_step(training: Training, ids: Tensor, weights: Tensor, device: str) -> None:
    """One optimiser step on a batch."""
    for group in training.optimizer.param_groups:
        group["lr"] = rate(training.settings, training.step)
    with torch.autocast(device, torch.bfloat16):
        loss = loss_of(training.model, ids.to(device), weights.to(device))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(training.model.parameters(), training.settings.clip)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    training.step += 1
    training.running.append(float(loss.detach()))
    if training.step % 100 == 0:
        training.curve.append([training.step, round(sum(training.running) / len(training.running), 4)])
        training.running = []


def train(folder: Path, settings: Settings, *, minutes: float, device: str, threads: int) -> bool:
    """Train for at most `minutes`; True once all steps are done and the model is exported."""
    from transformers import PreTrainedTokenizerFast

    torch.set_num_threads(threads)
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(folder, seed=settings.seed, text=settings.text)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    training, file = begin(settings, device), folder / "state.pt"
    if file.exists():
        training.restore(file, device)
    began, spent = time.monotonic(), training.seconds
    for ids, weights in batches(tokenizer, settings, training.step):
        if training.step >= settings.steps or time.monotonic() - began > minutes * 60:
            break
        take_step(training, ids, weights, device)
        training.seconds = spent + time.monotonic() - began
        if training.step % 100 == 0:
            print(
                f"step {training.step}/{settings.steps}  loss {training.curve[-1][1]:.4f}  {training.seconds:.0f} s", flush=True
            )
        if training.step % 500 == 0:
            training.save(file)
    training.save(file)
    if training.step < settings.steps:
        print(f"stopped at step {training.step}; the same command resumes")
        return False
    write_result(training, folder, device)
    return True


def write_result(training: Training, folder: Path, device: str) -> None:
    """Write the exported model, its card and the record of its training."""
    export(training.model, folder)
    record = {
        "settings": asdict(training.settings), "parameters": sum(p.numel() for p in training.model.parameters()),
        "device": device, "loss_curve": training.curve, "torch": torch.__version__,
    }  # fmt: skip
    (folder / "README.md").write_text(model_card(record), encoding="utf-8")
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def model_card(record: dict[str, Any]) -> str:
    """The text of the model card: what the model is, how it was made, the settings and the loss curve."""
    settings = "\n".join(f"| {name} | {value} |" for name, value in record["settings"].items())
    curve = "\n".join(f"| {step} | {loss} |" for step, loss in record["loss_curve"])
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# The embedded model of spa-bench

A Llama of {record["parameters"]:,} parameters with a byte-level BPE tokenizer of {VOCABULARY:,} entries and a context of
{CONTEXT} tokens, stored in bfloat16. It completes the generated Python functions of `spa_bench.mini` and answers the generated
questions of `spa_bench.mini.text`, and nothing else: it is a test world for samplers, small enough for a laptop. It never saw
one in five sequences of two and more steps, nor any pipeline of four steps, nor one in five of the combinations that
questions ask for. Its greedy pass@1 on mini-code, and its accuracy on mini-nlu:
`spa-bench run --sampler base --set decoding.temperature=0 --n 1 --task mini-code`, and the same with `--task mini-nlu`.

Made by `python -m spa_bench.mini.train --out DIR` (seeded, on {record["device"]}, torch {record["torch"]}).

| setting | value |
|---|---|
{settings}

Training loss (weight 1 on the completion, {record["settings"]["answer_weight"]} on a question's answer,
{record["settings"]["prompt_weight"]} on the prompt), mean over 100 steps:

| step | loss |
|---|---|
{curve}
"""


def main() -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Train the embedded base model, in resumable pieces.")
    parser.add_argument("--out", type=Path, required=True, help="folder for tokenizer, state and the exported model")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop after this long; the same command resumes")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="two threads on a contended machine are slower than one")
    arguments = parser.parse_args()
    settings = replace(Settings(), steps=arguments.steps, seed=arguments.seed)
    train(arguments.out, settings, minutes=arguments.minutes, device=arguments.device, threads=arguments.threads)


if __name__ == "__main__":
    main()
