"""Which adapters of PEFT are plain LoRA: the base's own weights plus s B A, and nothing else that their config asks for."""

from __future__ import annotations

from collections.abc import Mapping

_PLAIN = """
peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode r lora_alpha use_rslora
lora_dropout target_modules exclude_modules layers_to_transform layers_pattern megatron_config megatron_core
eva_config velora_config loftq_config corda_config lora_ga_config qalora_group_size runtime_config ensure_weight_tying
"""
_KNOWN = frozenset(_PLAIN.split()) | {"bias", "init_lora_weights"}
"""Keys of PEFT's LoraConfig that leave an adapter what its factors say, and two that are looked at.

Any other may make it more, as use_dora and layer_replication do, and those of kinds that PEFT will have.
"""

# beginnings that leave the base's weights as they are; others take their product out of these, also where PEFT reads them
_BEGINNINGS = ("gaussian", "orthogonal", "eva", "mica")


def not_plain(config: Mapping[str, object]) -> str:
    """What makes an adapter with this adapter_config.json more than plain LoRA, for a message; "" where it is plain."""
    if config.get("peft_type") != "LORA":
        return str(config.get("peft_type"))[:40]
    odd = [str(key)[:40] for key, value in config.items() if value and key not in _KNOWN]
    if config.get("bias", "none") != "none":
        odd.append(f"bias = {str(config['bias'])[:40]!a}")
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower() not in _BEGINNINGS:
        odd.append(f"init_lora_weights = {begun[:40]!a}, which changes the base's own weights; PEFT can save it as plain LoRA")
    return ", ".join(odd)
