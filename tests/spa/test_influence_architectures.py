"""Influence on architectures of the hub: tiny seeded ones, against gradients of their weights taken one example at a time."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles import ignore
from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import initial_down
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Example

PAIRS = [Example("def f(x):\n", f"    return x + {i}\n" * i) for i in (1, 2, 3, 4)]
LORA = LoraCard(rank=2, alpha=4.0)
SHARED = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0, "max_position_embeddings": 128, "num_hidden_layers": 2}
WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}


def opt(vocabulary: int) -> Any:
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=vocabulary, hidden_size=32, ffn_dim=64, num_attention_heads=4, word_embed_proj_dim=32, **SHARED
    )
    return OPTForCausalLM(config)


def gpt_neox(vocabulary: int) -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=vocabulary, **WIDTH, **SHARED))


def qwen2(vocabulary: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, num_key_value_heads=2, **WIDTH, **SHARED))


def gemma2(vocabulary: int) -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(vocab_size=vocabulary, num_key_value_heads=2, head_dim=8, **WIDTH, **SHARED))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", [opt, gpt_neox, qwen2, gemma2])
def test_scores_are_products_of_single_gradients(
    architecture: Callable[[int], Any], dtype: str, tiny_folder: Path, tmp_path: Path
):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / file, tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture(1024).save_pretrained(str(tmp_path))
    model = HFModel(str(tmp_path), HFOptions(device="cpu", threads=1, dtype=dtype))
    card = AttributionCard(curvature="identity")
    found = scores_at(model, None, PAIRS, queries=PAIRS[:2], card=card, lora=LORA, seed=1, progress=ignore)

    generator, downs = torch.Generator().manual_seed(1), {}
    for path, layer in model.lora_layers("all-linear").items():
        downs[path] = initial_down(layer.base.in_features, LORA.rank, generator)
    single = HFModel(str(tmp_path), HFOptions(device="cpu", threads=1, dtype="float32"))
    rows = []
    for pair in PAIRS:
        head, tail = single.encode_pair(pair.prompt, pair.completion)
        weights = [single.network.get_submodule(path).weight.requires_grad_() for path in downs]
        loss = single.network(input_ids=torch.tensor([head + tail]), labels=torch.tensor([[-100] * len(head) + tail])).loss
        gradients = torch.autograd.grad(loss, weights)
        rows.append(torch.cat([(2 * g @ low.T).ravel() for g, low in zip(gradients, downs.values(), strict=True)]).numpy())
    expected = np.stack(rows) @ np.stack(rows[:2]).T
    tolerance = 1e-3 if dtype == "float32" else 0.1
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * abs(expected).max())
