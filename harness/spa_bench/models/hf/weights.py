"""Where the weights of a model of transformers lie, and in how many bits: the options of the engine hf.

`placement = "layers"` is for a model that does not fit one GPU: accelerate puts whole layers on the GPUs there are, and what
does not fit them in main memory or on disk, from where each layer comes when it computes. `quantize` is for a base of fewer
bits (bitsandbytes: LLM.int8(), Dettmers et al. 2022, arXiv 2208.07339; NF4 of QLoRA, Dettmers et al. 2023, arXiv 2305.14314).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from spa_bench.errors import UsageError

if TYPE_CHECKING:
    import torch

PLACEMENTS = ("one", "layers")
BITS = ("none", "8bit", "4bit")
_ROOM = re.compile(r"(\d+|cpu|disk)=(\d+(?:\.\d+)?)(GiB|MiB|GB|MB)")
_BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "GB": 10**9, "MB": 10**6}


@dataclass(frozen=True, kw_only=True)
class WeightOptions:
    """The options of the engine hf, as engine.KEY on the command line."""

    placement: str = "one"  # one: all weights on one device; layers: layer by layer over all GPUs, main memory and disk
    quantize: str = "none"  # none; 8bit, 4bit: the linear layers but the output layer, by bitsandbytes
    max_memory: str = ""  # room for weights with placement "layers", as "0=20GiB,1=20GiB,cpu=60GiB"; "": accelerate's choice

    def __post_init__(self) -> None:
        """Raises ValueError for a word or a size that is none."""
        for key, value, words in (("placement", self.placement, PLACEMENTS), ("quantize", self.quantize, BITS)):
            if value not in words:
                raise ValueError(f"{key} is {value!r}; it must be {', '.join(words[:-1])} or {words[-1]}")
        if self.max_memory:
            if self.placement != "layers":
                raise ValueError('max_memory has no effect without placement = "layers"')
            self.rooms()

    def rooms(self) -> dict[int | str, int]:
        """Bytes of each device in `max_memory`. Raises ValueError for a part that is none."""
        found: dict[int | str, int] = {}
        for part in filter(None, (p.strip() for p in self.max_memory.split(","))):
            match = _ROOM.fullmatch(part)
            if match is None:
                raise ValueError(f"max_memory has {part!r}; give DEVICE=SIZE with a GPU's number, cpu or disk, such as 0=20GiB")
            name, size, unit = match.groups()
            found[int(name) if name.isdigit() else name] = int(float(size) * _BYTES[unit])
        return found

    def check(self, device: str) -> None:
        """Raise UsageError where a package is missing, or `device`, as the user names it, is one GPU of several."""
        if self.placement == "layers":
            if find_spec("accelerate") is None:
                raise UsageError("engine.placement=layers needs accelerate, which is not installed: pip install accelerate")
            if device.startswith("cuda:"):
                raise UsageError(
                    f"engine.placement=layers uses every GPU, and --device {device} names one; leave --device out, or choose "
                    "GPUs by CUDA_VISIBLE_DEVICES"
                )
        if self.quantize != "none" and find_spec("bitsandbytes") is None:
            raise UsageError(
                f"engine.quantize={self.quantize} needs bitsandbytes, which is not installed: pip install 'spa-bench[quantize]'"
            )

    def check_loaded(self, weights: str) -> None:
        """Raise UsageError where a network has other quantised `weights`, see placed.weights_said, than were asked for."""
        if self.quantize != "none" and weights and not weights.startswith(self.quantize):
            raise UsageError(
                f"engine.quantize={self.quantize} was asked for, and the model's files are quantised already, as {weights}; "
                "leave it out, or give the model with plain weights"
            )

    def loading(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Further arguments of from_pretrained; {} for weights as they are, on one device. See `check`."""
        more: dict[str, Any] = {}
        if self.placement == "layers":
            logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # the numerics say what lies elsewhere
            rooms = self.rooms()
            if device.type == "cpu":  # no GPU, even where there are some
                rooms = {name: size for name, size in rooms.items() if isinstance(name, str)} or {"cpu": 1 << 50}
            more = {"device_map": "auto", "max_memory": rooms or None}
        if self.quantize != "none":
            more = {"device_map": {"": device}, **more, "quantization_config": _config(self.quantize, dtype)}
        return more


def _config(bits: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    # it says at each product that 8 bits go through float16, which docs/reference/models.md says
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
