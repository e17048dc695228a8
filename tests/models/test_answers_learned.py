"""What an adapter is trained on is what generation writes, whatever the tokenizer: greedy answers equal the completions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from doubles import Call, InProcessJudge, ignore
from spa_bench.cards.training import LoraCard
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import write_adapter
from spa_bench.spa.adapt import train_adapters
from spa_bench.types import Decoding, Example, Member, Request
from tiny_tokenizers import EXACT, around, fast

PAIRS = [Example(f"# exercise {i}: write f, which adds one\n", "def f(x):\n    return x + 1\n") for i in range(3)]
CARD = LoraCard(rank=16, alpha=32.0, targets="all-linear", steps=60, batch=6, learning_rate=0.02, warmup=4)
TWINS = ["byte-level", "bpe always", "bpe legacy", "unigram first"]


def folder_of(kind: str, folder: Path) -> Path:
    """A tiny seeded Llama with a tokenizer of that kind."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = fast(around(EXACT[kind](), front=True, behind=True))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("kind", TWINS)
def test_greedy_answers_are_the_completions_that_an_adapter_learned(kind: str, tmp_path: Path):
    model = HFModel(str(folder_of(kind, tmp_path / "model")), HFOptions(device="cpu", threads=1))
    [adapter] = train_adapters(model, [PAIRS], CARD, [0], progress=ignore)
    write_adapter(adapter, tmp_path / "adapter", base_model="tiny")
    decoding = Decoding(max_new_tokens=60)
    asked = [
        Request(problem_id=str(i), member=0, draw=0, kind="generate", prompt=e.prompt, decoding=decoding, seed=0)
        for i, e in enumerate(PAIRS)
    ]
    member = Member("single", tmp_path / "adapter", decoding)
    found = {c.key.problem: c for c in model.generate(asked, [member])}
    assert [found[r.problem_id].text for r in asked] == [e.completion for e in PAIRS]
    assert {c.finish for c in found.values()} == {"stop"}
    # scored and teacher-forced, the same tokens are the likeliest
    scored = [
        replace(r, kind="loglikelihood", continuation=e.completion, apart=True) for r, e in zip(asked, PAIRS, strict=True)
    ]
    assert all(greedy for _, _, greedy in model.loglikelihood(scored, [member]))
    for pair, logprobs in zip(
        PAIRS, model.next_token_logprobs([(e.prompt, e.completion) for e in PAIRS], [member]), strict=True
    ):
        assert logprobs is not None
        assert logprobs[0].argmax(-1).tolist() == model.encode_pair(pair.prompt, pair.completion)[1]


@pytest.mark.parametrize("kind", TWINS[:2])
def test_a_run_passes_what_its_adapter_was_taught(kind: str, tmp_path: Path, call: Call, sandbox: InProcessJudge):
    rows = [
        {
            "task_id": f"one/{i}",
            "prompt": e.prompt,
            "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(1) == 2\n",
            "canonical_solution": e.completion,
        }
        for i, e in enumerate(PAIRS)
    ]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [json.dumps({"prompt": e.prompt, "completion": e.completion}) + "\n" for e in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("".join(pairs))
    (tmp_path / "task.toml").write_text(
        'description = "a function"\nfile = "problems.jsonl"\nversion = "1"\nmax_new_tokens = 60\nstop = ["\\n#"]\n'
    )
    training = {"rank": 16, "alpha": 32, "steps": 60, "batch": 6, "learning_rate": 0.02}
    options = [part for key, value in training.items() for part in ("--set", f"lora.{key}={value}")]
    done = call(
        "run", "--sampler", "single", "--task", tmp_path / "task.toml", "--model", folder_of(kind, tmp_path / "model"),
        "--data", tmp_path / "pairs.jsonl", "--set", "decoding.temperature=0", "--n", 1, "--threads", 1, "--noise-floor", "no",
        "--out", tmp_path / "runs", "--json", *options,
    )  # fmt: skip
    assert done.code == 0, done.err
    [run] = (tmp_path / "runs").iterdir()
    assert json.loads((run / "metrics.json").read_text())["values"]["pass@1"] == [1.0] * 3
