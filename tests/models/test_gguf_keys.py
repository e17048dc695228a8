"""What a GGUF file states and is not read so: refused in one line, with nothing left in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Lfm2Config, MambaConfig, MistralConfig, Qwen2MoeConfig, Starcoder2Config

import gguf_files
from spa_bench.errors import ModelError
from spa_bench.models.hf.gguf import from_file
from spa_bench.models.hf.gguf_keys import check_config
from spa_bench.models.hf.loading import load_network
from spa_bench.support.cache import model_cache
from spa_bench.support.console import Reporter

QUIET = Reporter(quiet=True)

STARCODER = {
    "starcoder2.attention.layer_norm_rms_epsilon": None,
    "starcoder2.attention.layer_norm_epsilon": 1e-5,
    "starcoder2.rope.freq_base": 10000.0,
}
REFUSED = [
    ({"pre": "smolm"}, "names the pre-tokenizer 'smolm'; did you mean 'smollm'?"),
    ({"pre": None}, "names no pre-tokenizer"),
    ({"pre": "default"}, "names the pre-tokenizer 'default'"),
    ({"kind": "rwkv"}, "its tokenizer is of kind 'rwkv'"),
    ({"arch": "clip"}, "architecture 'clip'"),
    ({"stated": {"llama.rope.scaling.type": "yarn"}}, "states llama.rope.scaling.type = yarn"),
    ({"arch": "starcoder2", "stated": STARCODER}, "it lacks 'model.layers.0.input_layernorm.bias'"),
    ({"stated": {"llama.attention.sliding_window": 64}}, "states llama.attention.sliding_window = 64, which is not read here"),
    ({"stated": {"llama.logit_scale": 0.5}}, "states llama.logit_scale = 0.5"),
    ({"extra": {"rope_freqs.weight": np.ones(4, dtype=np.float32)}}, "the scaled positions of Llama 3"),
    (
        {"kind": "llama", "pre": None, "stated": {"tokenizer.ggml.remove_extra_whitespaces": True}},
        "removes spaces",
    ),
]


KEYS = [  # of the architecture, each with what the line says of it
    ({"attention.sliding_window": [16, 16]}, "states llama.attention.sliding_window = [16, 16], which is not read here"),
    ({"attention.sliding_window_pattern": [True, False]}, "sliding_window_pattern = [True, False], which is not read here"),
    ({"rope.scaling.factors": [1.0, 2.0]}, "states llama.rope.scaling.factors = [1.0, 2.0], which is not read here"),
    ({"attention.causal": False}, "states llama.attention.causal = False, and transformers would read True"),
    ({"attention.key_length": 16}, "states llama.attention.key_length = 16, and transformers would read 8"),
    ({"attention.value_length": 16}, "states llama.attention.value_length = 16, and transformers would read 8"),
    ({"attention.scale": 0.5}, "states llama.attention.scale = 0.5, and transformers would read 0.35355"),
    ({"rope.scaling.factor": 2.0}, "states llama.rope.scaling.factor = 2.0, and transformers would read 1.0"),
    ({"expert_count": 4, "expert_used_count": 2}, "states llama.expert_count = 4, which is not read here"),
    ({"no_such_key": 0}, "states llama.no_such_key = 0, which is not read here"),
    ({"attention.layer_norm_rms_epsilon": None}, "states no llama.attention.layer_norm_rms_epsilon, and transformers would"),
    ({"context_length": None}, "states no llama.context_length, and transformers would take a default"),
    ({"block_count": None}, "states no llama.block_count"),
    ({"block_count": 1 << 30}, "states llama.block_count = 1073741824 and holds tensors of 2 blocks"),
    ({"context_length": 0}, "states llama.context_length = 0; get the file again"),
    ({"attention.head_count_kv": [2, 2]}, "states llama.attention.head_count_kv by layer, as [2, 2], and transformers"),
    ({"feed_forward_length": [64, 64]}, "states llama.feed_forward_length by layer, as [64, 64], and transformers"),
    (
        {"feed_forward_length": 128},
        "its tensor blk.0.ffn_gate.weight has the shape [64, 32], and by what the file",
    ),
    ({"embedding_length": 64}, "it must be [264, 64] (model.embed_tokens.weight)"),
    ({"block_count": 1}, "some would be left out"),
]
TOKENIZERS = [
    ({"stated": {"tokenizer.ggml.model": ["gpt2", "llama"]}}, "its tokenizer is of kind ['gpt2', 'llama'], which cannot be"),
    ({"stated": {"tokenizer.ggml.pre": ["smollm", "qwen2"]}}, "names the pre-tokenizer ['smollm', 'qwen2']"),
    ({"lost": ["q"]}, "its vocabulary has no token for the byte 0x71 ('q')"),
    ({"lost": ["<0x0A>"], "kind": "llama", "pre": None}, "its vocabulary has no token for the byte 0x0A"),
    ({"lost": ["ĠĠ"]}, "its merge 'Ġ Ġ' needs the token 'ĠĠ', which it lacks"),
    ({"lost": ["merges"]}, "has no list of words in tokenizer.ggml.merges"),
    ({"lost": ["scores"], "kind": "llama", "pre": None}, "in tokenizer.ggml.scores, no list"),
    ({"lost": ["token_type"]}, "states 264 tokens and, in tokenizer.ggml.token_type, no list"),
    ({"stated": {"tokenizer.ggml.eos_token_id": 99999}}, "states tokenizer.ggml.eos_token_id = 99999, and it has 264 tokens"),
    ({"stated": {"tokenizer.ggml.eot_token_id": 264}}, "states tokenizer.ggml.eot_token_id = 264, and it has 264 tokens"),
    ({"stated": {"tokenizer.ggml.eos_token_id": None}}, "states no end token"),
    ({"added": {"    ": 1}}, "its token '    ' is marked as normal and is not spelled in bytes"),
    ({"added": {"é!": 4}}, "the user-defined token 264, 'é!', would be written as '\ufffd!'"),  # é is the letter of a byte
    ({"added": {"▁▁▁": 4}, "kind": "llama", "pre": None}, "the user-defined token 268, '   ', would be read as"),
    ({"stated": {"llama.vocab_size": 200}}, "its tensor token_embd.weight has the shape [264, 32]"),
    (
        {"stated": {"split.count": 2, "split.no": 0}},
        "is part 1 of 2 of a split GGUF; merge all of them (llama-gguf-split",
    ),
    ({"arch": "phi3"}, "cannot load"),
    ({"changed": {"blk.1.ffn_down.weight": np.ones((32, 32), "f4")}}, "blk.1.ffn_down.weight has the shape [32, 32]"),
    ({"changed": {"blk.1.attn_q.weight": np.ones((8, 32), "f4")}}, "blk.1.attn_q.weight has the shape [8, 32]"),
    ({"changed": {"blk.1.ffn_down.weight": np.ones((64, 32), "f4")}}, "blk.1.ffn_down.weight has the shape [64, 32]"),
]


@pytest.mark.parametrize(
    ("given", "said"),
    [*REFUSED, *(({"stated": {f"llama.{k}": v for k, v in keys.items()}}, said) for keys, said in KEYS), *TOKENIZERS],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_would_be_read_wrongly_is_refused_in_one_line(tmp_path: Path, given: dict[str, Any], said: str):
    gguf_files.write(tmp_path / "m.gguf", **given)
    with pytest.raises(ModelError) as error:
        from_file(tmp_path / "m.gguf", QUIET)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(model_cache().glob("*gguf-*"))


def test_keys_that_say_what_is_read_pass(tmp_path: Path):
    same = {
        "attention.key_length": 8, "attention.value_length": 8, "attention.causal": True, "attention.scale": 8**-0.5,
        "rope.scaling.factor": 1.0, "rope.scaling.type": "none", "expert_count": 0, "expert_used_count": 0,
        "attention.sliding_window": 0, "tensor_data_layout": "Meta AI original pth",
    }  # fmt: skip
    written = gguf_files.write(tmp_path / "m.gguf", stated={f"llama.{key}": value for key, value in same.items()})
    folder = str(from_file(tmp_path / "m.gguf", QUIET).folder)
    network, *_ = load_network(folder, torch.float32, revision=None, trust_remote_code=False)
    row = torch.tensor([[5, 9, 200, 31]])
    assert torch.equal(network(row).logits, written(row).logits)


def test_what_transformers_leaves_at_its_default_is_refused_where_the_file_states_another_value():
    config = Starcoder2Config(rope_theta=10000.0)
    check_config("starcoder2", {"rope.freq_base": 10000.0}, config, "m.gguf")
    with pytest.raises(ModelError, match=r"m.gguf states starcoder2.rope.freq_base = 999999.4, and .* would read 10000"):
        check_config("starcoder2", {"rope.freq_base": 999999.4}, config, "m.gguf")
    mistral = MistralConfig(sliding_window=4096)
    with pytest.raises(ModelError, match=r"states no mistral.attention.sliding_window, which stands for 0, and .* read 4096"):
        check_config("mistral", {}, mistral, "m.gguf")
    check_config("mistral", {"attention.sliding_window": 4096}, mistral, "m.gguf")
    check_config("mistral", {"attention.sliding_window": [4096, 4096]}, mistral, "m.gguf")  # one for each layer
    with pytest.raises(ModelError, match=r"states no mistral.attention.head_count_kv, which stands for 32, and .* read 8"):
        check_config("mistral", {"attention.sliding_window": 4096, "attention.head_count": 32}, mistral, "m.gguf")
    with pytest.raises(ModelError, match=r"states no mistral.rope.freq_base, which stands for 10000.0, and .* read 1000000"):
        check_config("mistral", {}, MistralConfig(sliding_window=None, rope_theta=1e6), "m.gguf")
    with pytest.raises(ModelError, match=r"states qwen2moe.expert_count = 8, and transformers would read 60"):
        check_config("qwen2moe", {"expert_count": 8}, Qwen2MoeConfig(num_experts=60), "m.gguf")


def test_keys_of_architectures_whose_layers_differ():
    """As llama.cpp's converter writes them: short convolutions, linear attention, windows in some layers."""
    lfm2 = Lfm2Config(num_hidden_layers=3, num_key_value_heads=8, layer_types=["conv", "conv", "full_attention"])
    check_config("lfm2", {"attention.head_count_kv": [0, 0, 8], "rope.freq_base": 1e6}, lfm2, "m.gguf")
    with pytest.raises(ModelError, match=r"states lfm2.attention.head_count_kv = \[0, 8, 8\], and .* read \[0, 0, 8\]"):
        check_config("lfm2", {"attention.head_count_kv": [0, 8, 8], "rope.freq_base": 1e6}, lfm2, "m.gguf")
    kinds = ["sliding_attention", "full_attention"] * 2
    gemma = Gemma2Config(num_hidden_layers=4, sliding_window=64, layer_types=kinds, head_dim=256, query_pre_attn_scalar=256)
    stated = {"attention.sliding_window": 64, "attention.key_length": 256, "attention.scale": 1 / 16}
    check_config("gemma2", {**stated, "attention.sliding_window_pattern": [True, False] * 2}, gemma, "m.gguf")
    with pytest.raises(ModelError, match=r"states gemma2.attention.sliding_window_pattern = \[True, True, True, False\]"):
        check_config("gemma2", {**stated, "attention.sliding_window_pattern": [True] * 3 + [False]}, gemma, "m.gguf")
    mamba = {"ssm.conv_kernel": 4, "ssm.inner_size": 1536, "ssm.dt_b_c_rms": False, "feed_forward_length": 0}
    check_config("mamba", mamba, MambaConfig(intermediate_size=1536), "m.gguf")
    with pytest.raises(ModelError, match=r"states mamba.ssm.dt_b_c_rms = True, which is not read here"):
        check_config("mamba", {**mamba, "ssm.dt_b_c_rms": True}, MambaConfig(intermediate_size=1536), "m.gguf")
