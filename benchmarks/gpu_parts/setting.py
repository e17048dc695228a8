"""Networks with random weights, made on the device, behind the harness' own model."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from spa_bench.mini.data import MODEL
from spa_bench.models.hf import model as hf_model
from spa_bench.models.hf.loading import Loaded
from spa_bench.models.hf.model import HFModel, HFOptions

LARGE = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclass(frozen=True)
class Setting:
    """Where the pieces run, and how large they are."""

    device: str
    small: bool

    def model(self, vocabulary: int, *, batch: int | None = None) -> HFModel:
        """A Llama of 7B shape (or tiny) with random weights in bfloat16 (float32 on a CPU) and the embedded tokenizer.

        The tokenizer decodes tokens beyond its own words to nothing.
        """
        config = LlamaConfig(
            vocab_size=1024 if self.small else vocabulary,
            max_position_embeddings=512 if self.small else 4096,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
            **(TINY if self.small else LARGE),
        )
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        with torch.random.fork_rng(), torch.device(self.device):
            torch.manual_seed(0)
            network = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        tokenizer = AutoTokenizer.from_pretrained(str(MODEL))
        options = HFOptions(device=self.device, dtype=str(dtype).removeprefix("torch."), batch_size=batch)
        with mock.patch.object(hf_model, "load_network", return_value=Loaded(network, tokenizer, ())):
            return HFModel(str(MODEL), options, name="random")

    def timed(self, act: Callable[[], Any]) -> dict[str, float]:
        """Seconds of `act`, and GB at the peak: of the device, or of the process on a CPU."""
        cuda = self.device == "cuda"
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        act()
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        return {"seconds": round(seconds, 4), "peak GB": round(peak / 1e9, 2)}

    def bandwidth(self) -> float:
        """Bytes a second that a copy reads and writes: what decoding is held against."""
        source = torch.empty(1 << (20 if self.small else 30), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        target.copy_(source)
        best = min(self.timed(lambda: target.copy_(source))["seconds"] for _ in range(5))
        return 2 * source.numel() / max(best, 1e-6)


def free() -> None:
    """Give back what a piece has taken."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
