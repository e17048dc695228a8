"""GGUF files for tests: tiny seeded Llamas, written as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ENDING = len(ENDS)
MERGES = ("Ġ Ġ", "ĠĠ ĠĠ", "Ġ 1", "1 2", "a b")
PIECES = (
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{byte:02X}>" for byte in range(256)),
    "▁",
    "▁▁",
    "▁▁▁▁",
    "x",
    "▁x",
    "=",
    "1",
    "2",
    "12",
)


def vocabulary() -> list[str]:
    """End tokens, all bytes, and what the merges make."""
    return [*ENDS, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]


def network(vocabulary_size: int) -> LlamaForCausalLM:
    """A seeded random Llama; layers have 32 columns, a block of the usual quantisations."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=5000.0, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write(
    path: Path,
    *,
    kind: str = "gpt2",
    pre: str | None = "smollm",
    quantised: GGMLQuantizationType = GGMLQuantizationType.F32,
    arch: str = "llama",
    stated: Mapping[str, Any] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    added: Mapping[str, int] | None = None,
    lost: Sequence[str] = (),
    changed: Mapping[str, np.ndarray] | None = None,
) -> LlamaForCausalLM:
    """Write a GGUF file, and return the network whose (quantised) weights it holds.

    `stated`: further keys; one that is None takes a usual key away. `extra`: tensors that a Llama does not have. `added`:
    tokens behind the usual ones, with their types. `lost`: tokens, or keys of the tokenizer's lists, that are left out.
    `changed`: tensors in place of the usual ones.
    """
    usual = vocabulary() if kind == "gpt2" else list(PIECES)
    types = {token: 3 if i < ENDING else 6 if kind == "llama" and i < ENDING + 256 else 1 for i, token in enumerate(usual)}
    types = {token: its for token, its in {**types, **(added or {})}.items() if token not in lost}
    tokens = list(types)
    made = network(len(tokens))
    writer = GGUFWriter(path, arch)
    given = {f"{arch}.vocab_size": len(tokens), **(stated or {})}
    for key, value in {**_usual(arch, kind, pre), **given}.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
    writer.add_token_list(tokens)
    if "token_type" not in lost:
        writer.add_token_types(list(types.values()))
    if kind == "gpt2" and "merges" not in lost:
        writer.add_token_merges(list(MERGES))
    if kind != "gpt2" and "scores" not in lost:
        writer.add_token_scores([-float(i) if its == 1 else 0.0 for i, its in enumerate(types.values())])
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if name == "lm_head.weight":  # tied
                continue
            values = tensor.numpy()
            if _name(name) in (changed or {}):
                continue
            heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
            if heads:  # llama.cpp turns pairs of rotary dimensions the other way round
                values = values.reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(values.shape)
            whole = values.ndim == 1 or quantised is GGMLQuantizationType.F32
            kept = values if whole else gguf.quants.quantize(values, quantised)
            writer.add_tensor(_name(name), kept, raw_dtype=None if whole else quantised)
            if not whole:
                back = gguf.quants.dequantize(kept, quantised)
                if heads:
                    back = back.reshape(heads, 4, 2, 32).swapaxes(1, 2).reshape(values.shape)
                tensor.copy_(torch.from_numpy(back))
    for name, values in {**(extra or {}), **(changed or {})}.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _usual(arch: str, kind: str, pre: str | None) -> dict[str, Any]:
    sizes = {
        "context_length": 128, "block_count": 2, "embedding_length": 32, "feed_forward_length": 64, "attention.head_count": 4,
        "attention.head_count_kv": 2, "rope.freq_base": 5000.0, "rope.dimension_count": 8,
        "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size": len(vocabulary() if kind == "gpt2" else PIECES),
    }  # fmt: skip
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    words = {"model": kind, **({"pre": pre} if pre else {}), **ids}
    return {f"{arch}.{key}": value for key, value in sizes.items()} | {f"tokenizer.ggml.{k}": v for k, v in words.items()}


def _name(name: str) -> str:
    """A weight's name as llama.cpp has it."""
    parts = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers": "blk", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for ours, theirs in parts.items():
        name = name.replace(ours, theirs)
    return name
