"""What a GGUF file states of its architecture, against the config and the shapes that transformers makes of it.

Every key that the file states must agree with the config. One that nobody reads is refused, unless it is known to change no
text; one that the file lacks stands for what llama.cpp takes in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spa_bench.errors import ModelError
from spa_bench.models.hf.gguf_header import Header

AS_FOLDER = "use the model's folder with safetensors"

# the key of a file -> the attributes of a config of transformers, or of _derived, that hold it, the first that there is
_KNOWN: dict[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "vocab_size": ("vocab_size",),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("heads_by_layer", "num_key_value_heads", "num_attention_heads", "n_head"),
    "attention.key_length": ("head_size",),
    "attention.value_length": ("v_head_dim", "head_size"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "norm_epsilon", "layer_norm_epsilon", "norm_eps"),
    "attention.sliding_window": ("sliding_window",),
    "attention.sliding_window_pattern": ("windows",),
    "attention.scale": ("attention_scale",),
    "attention.causal": ("causal",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "logit_scale": ("logit_scale",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_weights_norm": ("norm_topk_prob",),
    "use_parallel_residual": ("use_parallel_residual", "parallel_attn"),
    "full_attention_interval": ("full_attention_interval",),
    "rope.freq_base": ("rope_theta",),
    "rope.freq_base_swa": ("rope_theta_local",),
    "rope.dimension_count": ("rotary_dimensions",),
    "rope.scaling.type": ("rope_type",),
    "rope.scaling.factor": ("rope_factor",),
    "rope.scale_linear": ("rope_factor",),
    "rope.scaling.attn_factor": ("rope_attention_factor",),
    # without an attribute: one that is 0 or False has no part
    **dict.fromkeys(
        ("attention.clamp_kqv", "attention.max_alibi_bias", "embedding_scale", "nextn_predict_layers", "residual_scale"), ()
    ),
    "ssm.dt_b_c_rms": (),
    "expert_weights_scale": ("routed_scaling_factor",),
    "ssm.conv_kernel": ("conv_kernel", "linear_conv_kernel_dim"),
    "ssm.state_size": ("state_size", "linear_key_head_dim"),
    "ssm.time_step_rank": ("time_step_rank", "linear_num_value_heads"),
    "ssm.group_count": ("linear_num_key_heads",),
    "ssm.inner_size": ("linear_values", "intermediate_size"),
}
# what no text depends on where the weights fit: sizes that shapes show, and notes
_HARMLESS = {
    "feed_forward_length",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_shared_count",
    "tensor_data_layout",
    "rope.scaling.original_context_length",  # read with the types of scaling that are refused, or with tensors that are
    "rope.scaling.finetuned",
    "rope.dimension_sections",  # of pictures
    "shortconv.l_cache",
}
_IN_SHAPES = {"context_length", "vocab_size", "block_count", "embedding_length"}  # a config need not hold them
_NEEDED = ("context_length", "block_count", "embedding_length", "attention.head_count")
_BLOCK = re.compile(r"blk\.(\d+)\.")  # the beginning of the names of a block's tensors
# what llama.cpp takes where a file is silent
_SILENT: dict[str, object] = {"attention.sliding_window": 0, "expert_count": 0, "rope.freq_base": 10000.0}


def check_sizes(header: Header, where: str) -> None:
    """Raise ModelError where a file states a size of 0, or more blocks than it has tensors of.

    A network is made by these sizes before its tensors are looked for, so that a number that is off would take hours or memory.
    """
    stated, name = header.own, header.architecture
    for key in _NEEDED:
        if stated.get(key) == 0 and key != "attention.head_count":  # which is 0 where there is no attention
            raise ModelError(f"{where} states {name}.{key} = 0; get the file again, or {AS_FOLDER}")
    blocks = {int(found[1]) for tensor in header.shapes if (found := _BLOCK.match(tensor))}
    count = stated.get("block_count")
    if isinstance(count, int) and count > max(blocks, default=-1) + 1:
        raise ModelError(
            f"{where} states {name}.block_count = {count} and holds tensors of {len(blocks)} blocks; get the file again, or "
            f"{AS_FOLDER}"
        )


def check_needed(architecture: str, stated: Mapping[str, object], config: Any, where: str) -> None:
    """Raise ModelError where a file lacks a key for which the config has a default of some other model."""
    said = config.to_dict()
    rms = "attention.layer_norm_rms_epsilon"
    norms = [rms] if "rms_norm_eps" in said else [rms, "attention.layer_norm_epsilon"]
    lacking = [key for key in _NEEDED if key not in stated]
    lacking += [" or ".join(norms)] if not any(norm in stated for norm in norms) else []
    if lacking:
        raise ModelError(f"{where} states no {architecture}.{lacking[0]}, and transformers would take a default; {AS_FOLDER}")


def check_config(architecture: str, stated: Mapping[str, object], config: Any, where: str) -> None:
    """Raise ModelError where a config of transformers differs from what a file states of its architecture.

    `stated` has the keys after the name of the architecture. A key that neither this module nor transformers knows is refused.
    """
    said = config.to_dict()
    said |= _derived(said)
    silent = {**_SILENT, "attention.head_count_kv": stated.get("attention.head_count")}
    for key, value in ({key: value for key, value in silent.items() if value is not None} | dict(stated)).items():
        if key in _HARMLESS:
            continue
        name = next((n for n in _attributes(architecture, key, config) if said.get(n) is not None), None)
        full = f"{architecture}.{key}"
        if name is None:
            if key in stated and key not in _IN_SHAPES and (value or not _is_known(architecture, key, config)):
                raise ModelError(f"{where} states {full} = {_short(value)}, which is not read here; {AS_FOLDER}")
        elif not _same(value, said[name]):
            told = f"states {full} = {_short(value)}" if key in stated else f"states no {full}, which stands for {value}"
            raise ModelError(f"{where} {told}, and transformers would read {_short(said[name])}; {AS_FOLDER}")


def check_lists(header: Header, where: str) -> None:
    """Raise ModelError for a size that a file states layer by layer: for a file of which transformers made no config."""
    for key, value in header.own.items():
        if isinstance(value, list) and (key in _KNOWN or key in _HARMLESS):
            full = f"{header.architecture}.{key}"
            raise ModelError(
                f"{where} states {full} by layer, as {_short(value)}, and transformers reads one value; {AS_FOLDER}"
            )


def check_shapes(header: Header, config: Any, where: str) -> None:
    """Raise ModelError for a tensor whose shape is not the one that the config gives it; those without a match are left out.

    Dimensions of size 1 are not looked at, as transformers adds some; layers of the kind Conv1D hold their weight turned.
    """
    import gguf
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    kind = next((kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == header.architecture), None)
    if kind is None:
        return
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for ours, tensor in network.state_dict().items():
        stem, _, end = ours.rpartition(".")
        theirs = f"{names.get_name(stem)}.{end}"
        found = header.shapes.get(theirs)
        wanted = tuple(tensor.shape)
        if isinstance(network.get_submodule(stem), Conv1D):
            wanted = wanted[::-1]
        if found is not None and _bare(found) != _bare(wanted):
            raise ModelError(
                f"{where}: its tensor {theirs} has the shape {list(found)}, and by what the file states of "
                f"{header.architecture} it must be {list(wanted)} ({ours}); get the file again, or {AS_FOLDER}"
            )


def _bare(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _attributes(architecture: str, key: str, config: Any) -> tuple[str, ...]:
    """The attributes that may hold a key: those known here, else the one that transformers writes it to."""
    if key in _KNOWN:
        return _KNOWN[key]
    name = _read_by_transformers(architecture, config).get(key)
    return (name,) if name else ()


def _is_known(architecture: str, key: str, config: Any) -> bool:
    return key in _KNOWN or key in _read_by_transformers(architecture, config)


def _read_by_transformers(architecture: str, config: Any) -> Mapping[str, str | None]:
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

    by_kind: Mapping[str, Mapping[str, str | None]] = GGUF_TO_TRANSFORMERS_MAPPING["config"]
    return by_kind.get(architecture) or by_kind.get(config.model_type) or {}


def _derived(said: Mapping[str, Any]) -> dict[str, object]:
    """What a config says without an attribute of its own: sizes of heads, rotary settings, kinds of layers."""
    heads = said.get("num_attention_heads") or said.get("n_head") or 0
    width = said.get("hidden_size") or said.get("n_embd") or 0
    size = said.get("head_dim") or (width // heads if heads else 0)
    found: dict[str, object] = {"causal": True, **_positions(said, size)}
    if size:
        found |= {"head_size": size, "attention_scale": (said.get("query_pre_attn_scalar") or size) ** -0.5}
    kinds = said.get("layer_types") or []
    if "conv" in kinds:  # a layer without attention has no heads
        found["heads_by_layer"] = [said["num_key_value_heads"] if kind == "full_attention" else 0 for kind in kinds]
    if "sliding_attention" in kinds:
        found["windows"] = [kind == "sliding_attention" for kind in kinds]
    if "linear_attention" in kinds and "full_attention" in kinds:
        interval = kinds.index("full_attention") + 1
        regular = all((kind == "full_attention") is ((i + 1) % interval == 0) for i, kind in enumerate(kinds))
        found["full_attention_interval"] = interval if regular else -1
    if "linear_value_head_dim" in said:
        found["linear_values"] = said["linear_value_head_dim"] * said["linear_num_value_heads"]
    return found


def _positions(said: Mapping[str, Any], size: int) -> dict[str, object]:
    """The rotary settings of a config, those of full attention where kinds of layers differ; `size` is that of a head."""
    by_kind = said.get("rope_parameters") or {}
    rope = by_kind.get("full_attention", by_kind)
    found: dict[str, object] = {}
    if rope:
        found |= {"rope_type": rope.get("rope_type", "default"), "rope_factor": rope.get("factor", 1.0)}
        found["rope_attention_factor"] = rope.get("attention_factor", 1.0)
        share = rope.get("partial_rotary_factor") or said.get("partial_rotary_factor") or 1.0
        if size:
            found["rotary_dimensions"] = int(size * share)
    if "rope_theta" in rope:
        found["rope_theta"] = rope["rope_theta"]
    if "rope_theta" in by_kind.get("sliding_attention", {}):
        found["rope_theta_local"] = by_kind["sliding_attention"]["rope_theta"]
    return found


def _same(stated: object, read: object) -> bool:
    """Whether a stated value is the one that was read; one value stands for those of all layers."""
    if isinstance(stated, list) and isinstance(read, list):
        return len(stated) == len(read) and all(map(_same, stated, read))
    if isinstance(stated, list):
        return bool(stated) and all(_same(one, read) for one in stated)
    if isinstance(read, list):
        return bool(read) and all(_same(stated, one) for one in read)
    if isinstance(stated, float) and isinstance(read, int | float):
        return abs(stated - read) <= 1e-6 * max(abs(stated), abs(read))  # files hold float32
    return stated == read or (stated == "none" and read == "default")


def _short(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
