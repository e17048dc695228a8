"""The architectures of the sweep: a tiny seeded network of each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "harness" / "spa_bench" / "mini" / "model"
VOCABULARY, CONTEXT = 1024, 384

# What a config may take, with a small value; a config gets those that it knows.
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": CONTEXT,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
WINDOW: dict[str, Any] = {"sliding_window": 32}
GPT2: dict[str, Any] = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 6,
    "long_factor": [4.0] * 6,
    "original_max_position_embeddings": 128,
}


@dataclass(frozen=True)
class Architecture:
    """One line of the table: a model type of transformers and the settings of its tiny config beside SMALL."""

    name: str
    kind: str
    settings: dict[str, Any]


def _of(kind: str, name: str = "", **settings: Any) -> Architecture:
    return Architecture(name or kind, kind, settings)


_MLA: dict[str, Any] = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 12,
    "head_dim": 4, "num_key_value_heads": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}  # fmt: skip
_LINEAR: dict[str, Any] = {"num_hidden_layers": 4, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8}  # fmt: skip
_GEMMA: dict[str, Any] = {"num_hidden_layers": 4, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY, **WINDOW}  # fmt: skip
ARCHITECTURES = (
    _of("llama"),
    _of("llama", "llama, dynamic NTK rope", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
    _of("llama", "llama, llama3 rope", rope_parameters={"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
    _of("llama", "llama, YaRN rope", rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
        "original_max_position_embeddings": 96}),
    _of("llama", "llama, longrope", rope_parameters={**LONGROPE, "rope_theta": 1e4, "factor": 6.0}),
    _of("llama4_text", attention_chunk_size=32, intermediate_size_mlp=64),
    _of("qwen2"),
    _of("qwen2", "qwen2, sliding windows", use_sliding_window=True, max_window_layers=1, **WINDOW),
    _of("qwen2_moe"),
    _of("qwen3"),
    _of("qwen3_moe"),
    _of("qwen3_next", **_LINEAR),
    _of("qwen3_5_text", **_LINEAR),
    _of("qwen3_5_moe_text", **_LINEAR),
    _of("mistral", **WINDOW),
    _of("mistral", "mistral, without a window", sliding_window=None),
    _of("ministral", **WINDOW),
    _of("ministral3"),
    _of("mixtral"),
    _of("gemma"),
    _of("gemma2", **WINDOW),
    _of("gemma3_text", **WINDOW),
    _of("gemma3n_text", activation_sparsity_pattern=[0.0] * 4, laurel_rank=8, **_GEMMA),
    _of("gemma4_text", global_head_dim=12, **_GEMMA),
    _of("vaultgemma", **WINDOW),
    _of("phi"),
    _of("phi3"),
    _of("phi3", "phi3, longrope", rope_parameters={**LONGROPE, "rope_theta": 1e4}, original_max_position_embeddings=128),
    _of("phimoe"),
    _of("gpt_neox"),
    _of("gpt_neox_japanese"),
    _of("starcoder2"),
    _of("starcoder2", "starcoder2, sliding window", **WINDOW),
    _of("opt", ffn_dim=64, word_embed_proj_dim=48),
    _of("gpt2", **GPT2),
    _of("gpt_bigcode", **GPT2),
    _of("gpt_neo", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=32),
    _of("gptj", n_embd=48, n_layer=2, n_head=4, rotary_dim=4, n_positions=CONTEXT),
    _of("codegen", n_embd=64, n_layer=2, n_head=4, rotary_dim=4, n_positions=CONTEXT, n_ctx=CONTEXT),
    _of("openai-gpt", **GPT2),
    _of("ctrl", n_embd=48, n_layer=2, n_head=4, dff=64, n_positions=CONTEXT),
    _of("bloom", n_layer=2, n_head=4),
    _of("mpt", d_model=48, n_heads=4, n_layers=2, max_seq_len=CONTEXT),
    _of("falcon"),
    _of("falcon", "falcon, ALiBi", alibi=True),
    _of("stablelm", partial_rotary_factor=0.5, head_dim=12, num_key_value_heads=4),
    _of("cohere"),
    _of("cohere2", **WINDOW),
    _of("olmo"),
    _of("olmo2"),
    _of("olmo3", **WINDOW),
    _of("olmoe"),
    _of("granite"),
    _of("granitemoe"),
    _of("smollm3"),
    _of("glm"),
    _of("glm4"),
    _of("helium"),
    _of("nemotron"),
    _of("persimmon"),
    _of("biogpt"),
    _of("xglm", d_model=48, num_layers=2, attention_heads=4, ffn_dim=64),
    _of("deepseek_v2", **_MLA),
    _of("deepseek_v3", **_MLA),
    _of("glm4_moe"),
    _of("ernie4_5_moe"),
    _of("hunyuan_v1_moe"),
    _of("flex_olmo"),
    _of("minimax"),
    _of("arcee"),
    _of("apertus"),
    _of("gpt_oss", **WINDOW),
    _of("exaone4", **WINDOW),
    _of("seed_oss"),
    _of("ernie4_5"),
    _of("hunyuan_v1_dense"),
    _of("jetmoe"),
    _of("diffllama"),
    _of("lfm2", full_attn_idxs=[1]),
    _of("jamba", num_hidden_layers=4, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, mamba_d_state=4,
        mamba_dt_rank=4),
    _of("bamba", mamba_n_heads=6, mamba_d_head=16, mamba_d_state=8, attn_layer_indices=[1], mamba_n_groups=1,
        mamba_chunk_size=16),
    _of("falcon_h1", mamba_d_ssm=48, mamba_n_heads=4, mamba_d_head=12, mamba_d_state=8, mamba_chunk_size=16),
    _of("mamba"),
    _of("mamba2", num_heads=6, head_dim=16, state_size=8, n_groups=1, chunk_size=16),
    _of("falcon_mamba"),
    _of("recurrent_gemma", num_hidden_layers=3, attention_window_size=32, lru_width=48),
    _of("rwkv", attention_hidden_size=48, context_length=CONTEXT),
    _of("xlnet", d_model=48, n_layer=2, n_head=4, d_head=12, d_inner=64),
    _of("bert"),
)  # fmt: skip


def small_network(architecture: Architecture) -> Any:
    """The tiny network of `architecture`, seeded, with weights wide enough for texts to differ."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    made = CONFIG_MAPPING[architecture.kind]
    known = set(made().to_dict()) | set(made.attribute_map)
    settings = architecture.settings
    small = {name: v for name, v in SMALL.items() if name in known and made.attribute_map.get(name) not in settings}
    config = made(**small | settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.6 / parameter.shape[-1] ** 0.5 if parameter.shape[-1] > 8 else 0.2)
    return network


def save(architecture: Architecture, folder: Path) -> None:
    """Write the tiny network with the embedded model's tokenizer into `folder`."""
    network = small_network(architecture)
    network.generation_config.eos_token_id = 0
    network.save_pretrained(str(folder))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)
