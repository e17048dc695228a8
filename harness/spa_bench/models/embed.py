"""Texts become vectors: the mean of a transformers model's last hidden states over a text's tokens.

Texts go through the model one by one, so that a vector depends on its text alone: there is no padding, no other text and no
mask. That costs speed on a GPU, where a batch would be several times faster. Text behind the model's limit of tokens is
ignored. It is meant for encoders; decoders work too, encoder-decoders do not. No remote code runs, and weights are
safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spa_bench.errors import ModelError
from spa_bench.models.hf.hub import only_here
from spa_bench.models.hf.loading import check_folder, device_of, hash_here, hub_commit, load_tokenizer, loads
from spa_bench.models.hf.weight_files import check_merged
from spa_bench.support.memory import is_out_of_memory
from spa_bench.support.text import utf8

_LONGEST = 8192  # tokens, where neither tokenizer nor config names a limit


class HFEmbedder:
    """See spa_bench.runs.embeddings.Embedder; `path` is a local folder or a name on the hub. Always float32."""

    def __init__(self, path: str, *, device: str = "auto", name: str | None = None):
        self.name, self._path = name or path, path
        self._device = device_of(device)
        network, self._tokenizer = _load(path)
        self._commit = hub_commit(path, None)
        self._network = network.to(self._device).eval().requires_grad_(False)
        self.limit = min(_positions(network), self._tokenizer.model_max_length, _LONGEST)
        # not an end token, which is often the padding token too, whose embedding is zero and has no direction
        self._nothing: list[int] = self._tokenizer("\n")["input_ids"] or [0]

    def describe(self) -> dict[str, object]:
        """The model's part of a spec: name, hash of weights and tokenizer files, and the limit of tokens."""
        return {"name": self.name, "hash": self._hash, "tokens": self.limit}

    def numerics(self) -> dict[str, object]:
        """Device, threads and CPU capability: everything that can change the last digits of a vector."""
        if self._device.type == "cpu":
            return {"device": "cpu", "threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability()}
        return {"device": self._device.type, "gpu": torch.cuda.get_device_name(self._device)}

    @cached_property
    def _hash(self) -> str:
        return hash_here(self._network, self._tokenizer, self._path, commit=self._commit, code=False)

    def embed(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """A vector (d,) for each text, in order. Raises ModelError when the model gives none, or not a finite one."""
        for text in texts:
            yield self._vector(text)

    @torch.inference_mode()
    def _vector(self, text: str) -> NDArray[np.float32]:
        """The mean over tokens, special ones included; no tokens count as a line end, half a surrogate pair as U+FFFD."""
        ids = self._tokenizer(utf8(text), truncation=True, max_length=self.limit)["input_ids"] or self._nothing
        rows = torch.tensor([ids], device=self._device)
        try:
            states = self._network(input_ids=rows, attention_mask=torch.ones_like(rows)).last_hidden_state
        except (IndexError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            first = str(error).strip().split("\n", 1)[0]
            raise ModelError(f"model {self.name!r} gives no embedding of a text of {len(ids)} tokens: {first}") from error
        vector = cast("NDArray[np.float32]", states[0].mean(0).float().cpu().numpy())
        if not np.isfinite(vector).all() or not vector.any():
            raise ModelError(
                f"the embedding that {self.name!r} gives of {text[:40]!r} is zero or not finite; use another model"
            )
        return vector


def _positions(network: nn.Module) -> int:
    """The number of tokens for which the network has positions. RoBERTa's begin behind the position of padding."""
    tables = [m for name, m in network.named_modules() if name.endswith("position_embeddings") and isinstance(m, nn.Embedding)]
    if tables:
        return min(int(t.num_embeddings) - (0 if t.padding_idx is None else int(t.padding_idx) + 1) for t in tables)
    config = cast(Any, network).config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or _LONGEST)


def _load(path: str) -> tuple[Any, Any]:
    """(network, tokenizer), weights on the CPU in float32. Raises ModelError on one line."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    check_folder(path)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    common = {"trust_remote_code": False, **({"local_files_only": True} if only_here(path, None) else {})}
    tokenizer = load_tokenizer(AutoTokenizer, path, **common)
    try:
        with loads:
            network, loading = AutoModel.from_pretrained(
                path, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **common
            )
    except Exception as error:  # a config can hold anything, and the class of its architecture trips over it
        if is_out_of_memory(error):
            raise ModelError(f"out of memory while the embedding model {path!r} is loaded; give a smaller one") from error
        first = str(error).strip().split("\n", 1)[0]
        raise ModelError(
            f"cannot load the embedding model {path!r}: {first}; give a folder or a hub name with safetensors weights"
        ) from error
    check_merged(loading, path)
    lacking = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))  # a head that is not used
    if lacking:
        raise ModelError(f"cannot load the embedding model {path!r}: it lacks {lacking[0]!r} ({len(lacking)} weights missing)")
    return network, tokenizer
