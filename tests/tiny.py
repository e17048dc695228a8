"""The tiny transformer of the tests, and adapters of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

ROOT = Path(__file__).resolve().parents[1]
CONTEXT = 1024  # tokens: real HumanEval prompts fit


def save_tiny(folder: Path, *, layers: int = 2) -> Path:
    """Writes a seeded random Llama with the embedded tokenizer into `folder`; two layers are 0.3 M parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = ROOT / "harness" / "spa_bench" / "mini" / "model"
    shutil.copy(source / "tokenizer.json", folder)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = LlamaConfig(
        vocab_size=len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        initializer_range=0.15,  # wide, so that texts differ between prompts and end at different lengths
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LlamaForCausalLM(config)
        network.lm_head.weight.data[0] *= 1.6  # the end token wins now and then
    network.save_pretrained(str(folder))
    return folder


def random_adapter(
    network: nn.Module,
    folder: Path,
    generator: torch.Generator,
    *,
    rank: int,
    scale: float,
    targets: str | Sequence[str] = "all-linear",
) -> Path:
    """Writes an adapter of `network` with random factors, alpha twice the rank, into `folder`; `scale` is that of B."""
    import torch

    from spa_bench.models.hf.stacked_lora import Adapter, target_modules, write_adapter

    factors = {}
    for path in target_modules(network, targets):
        layer: Any = network.get_submodule(path)
        down = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
        factors[path] = down, scale * torch.randn(layer.out_features, rank, generator=generator)
    write_adapter(Adapter(factors, rank, 2.0 * rank), folder, base_model="tiny")
    return folder
