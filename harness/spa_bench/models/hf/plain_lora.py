"""Which adapters of PEFT are plain LoRA: the base's own weights plus s B A, and nothing else that their config asks for."""

from __future__ import annotations

from collections.abc import Mapping

_MORE = (  # keys of PEFT's LoraConfig under which an adapter is more, or other, than its factors
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "fan_in_fan_out",
    "lora_bias",
    "alora_invocation_tokens",  # it acts behind certain tokens alone
    "layer_replication",  # it is of other layers than the model has
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
# beginnings that take their product out of the base's weights; PEFT does so again where it reads such an adapter
_OUT_OF_THE_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")


def not_plain(config: Mapping[str, object]) -> str:
    """What makes an adapter with this adapter_config.json more than plain LoRA, for a message; "" where it is plain."""
    if config.get("peft_type") != "LORA":
        return str(config.get("peft_type"))[:40]
    odd = [key for key in _MORE if config.get(key)]
    if config.get("bias", "none") != "none":
        odd.append(f"bias = {str(config['bias'])[:40]!a}")
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_OUT_OF_THE_BASE):
        odd.append(f"init_lora_weights = {begun[:40]!a}, which changes the base's own weights; PEFT can save it as plain LoRA")
    return ", ".join(odd)
