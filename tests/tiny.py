"""The tiny transformer of the tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

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
