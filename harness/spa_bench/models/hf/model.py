"""Any causal language model of transformers, which can be trained; its engine is in `engine`, its tokenizer in `codec`.

This module loads a model and gives each part what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spa_bench.errors import UsageError
from spa_bench.models.answers import completed
from spa_bench.models.base import Batches, Beams
from spa_bench.models.beams import BeamSearch
from spa_bench.models.engine import STAGES, adapters_of
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.context import context_of
from spa_bench.models.hf.engine import HFEngine, HFParts
from spa_bench.models.hf.failures import refusals
from spa_bench.models.hf.gguf import Origin
from spa_bench.models.hf.loading import (
    device_of,
    dtype_of,
    embedding_rows,
    end_tokens,
    hash_here,
    hub_commit,
    load_network,
    settled,
)
from spa_bench.models.hf.placed import input_device, placement_said, weights_said
from spa_bench.models.hf.probe import known_probe
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.stacked_lora import StackedLinear
from spa_bench.models.hf.token_sums import fused_for
from spa_bench.models.hf.weights import WeightOptions
from spa_bench.models.text import TextModel
from spa_bench.support.provenance import versions
from spa_bench.types import Member, Messages, Request


@dataclass(frozen=True, kw_only=True)
class HFOptions(WeightOptions):
    """The options of the transformers backend, beside those of the weights."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str = "auto"  # auto: float32 on CPU, bfloat16 on CUDA
    batch_size: int | None = None  # rows decoded together; None: as many as memory holds, 128 at most on a CPU, 256 on CUDA
    threads: int | None = None  # CPU threads; None: the cores this process may use
    trust_remote_code: bool = False  # run code shipped with the model: off unless the user says so
    revision: str | None = None  # branch, tag or commit on the hub
    context: int | None = None  # the most tokens of prompt and answer together; None: as many as the model has positions


class HFModel(TextModel):
    """See spa_bench.models.base.Model; `path` is a local folder or a name on the hub. It trains and measures by itself."""

    codec: Codec

    def __init__(self, path: str, options: HFOptions | None = None, *, name: str | None = None, origin: Origin | None = None):
        self._origin = origin  # of a folder that was made of a GGUF file
        self.path = path
        self.options = options = options or HFOptions()
        self._device = device_of(options.device)
        self._dtype = dtype_of(options.dtype, self._device)
        self._threads = options.threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(self._threads)
        options.check(options.device)
        if origin is not None and options.quantize != "none":
            raise UsageError(
                f"engine.quantize={options.quantize} takes a model in safetensors: the weights of {name or path} were a GGUF "
                "file's, whose few bits are multiplied out already; leave it out, or give the model that the file was made of"
            )
        network, self._tokenizer, said = load_network(
            path,
            self._dtype,
            revision=options.revision,
            trust_remote_code=options.trust_remote_code,
            more=options.loading(self._device, self._dtype),
        )
        self._commit = hub_commit(path, options.revision)
        self._network: nn.Module = settled(network, self._device, path)
        self._device, self._weights = input_device(self._network), weights_said(self._network)
        options.check_loaded(self._weights)
        self.vocabulary = vocabulary = int(network.config.get_text_config().vocab_size)
        context, unknown = context_of(self._network, self._tokenizer, options.context)
        found = known_probe(
            self._network,
            lambda: [self._hash, self.training_numerics(), versions()],
            vocabulary=vocabulary,
            context=context,
            device=self._device,
        )
        way = found.way
        context = min(context, way.context or context)
        positions, _ = context_of(self._network, self._tokenizer, None)
        self.positions = min(positions, way.context or positions)  # the most tokens that it reads
        codec = Codec(self._tokenizer, name or path, end_tokens(self._tokenizer, network), embedding_rows(network))
        parts = HFParts(
            reads=Readable(self._network, way, context=context),
            codec=codec,
            dtype=self._dtype,
            device=self._device,
            vocabulary=vocabulary,
            batch=options.batch_size,
        )
        self.hf = HFEngine(parts, self.training_numerics)
        super().__init__(
            name=name or path,
            codec=codec,
            context=context,
            engines=dict.fromkeys(STAGES, self.hf),
            notes=[note for note in (*said, codec.note, unknown, *found.notes) if note],
            exclusive=self._device.type != "cpu",
        )

    # what it is ------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        """Name, revision as it was asked for, and the hash of weights, tokenizer and configs: see loading.hash_here."""
        said = {"name": self.name, "revision": self.options.revision, "hash": self._hash, "context": self.context}
        return said | (self._origin.describe() if self._origin else {})

    @property
    def commit(self) -> str | None:
        """See HubModel.commit."""
        return self._commit

    def training_numerics(self) -> dict[str, object]:
        """See StageModel.training_numerics.

        Device and dtype; of the weights their bits and places, where these are not as usual; threads and capability of a CPU;
        name, attention and precision of float32 products of a GPU.
        """
        device: dict[str, object] = {"device": self._device.type, "dtype": str(self._dtype).removeprefix("torch.")}
        device |= {"weights": self._weights} if self._weights else {}
        device |= {"placement": placement_said(self._network)} if self.options.placement == "layers" else {}
        if self._device.type == "cpu":
            return {**device, "threads": self._threads, "cpu": torch.backends.cpu.get_cpu_capability()}
        attention = str(self._network.config._attn_implementation)  # type: ignore[union-attr]
        precision = torch.get_float32_matmul_precision()
        return {**device, "gpu": torch.cuda.get_device_name(self._device), "attention": attention, "matmul": precision}

    def numerics(self) -> dict[str, object]:
        """See Model.numerics; `sums`: numba, where it adds up divergences, which differs from torch by some 1e-7."""
        fused = fused_for(self._device, self.vocabulary) is not None
        return super().numerics() | ({"sums": "numba"} if fused else {})

    def close(self) -> None:
        """See Model.close: other engines free what they hold. The weights go with the last reference to this object."""
        with ExitStack() as stack:
            for engine in dict.fromkeys(self._engines.values()):
                if engine is not self.hf:  # whose own close would move the weights to the memory of the CPU first
                    stack.callback(engine.close)

    def batches(self) -> Batches:
        """See Model.batches."""
        return Batches(self.options.batch_size, refusals(), self.hf.together)

    @cached_property
    def _hash(self) -> str:
        if self._origin is not None:
            return self._origin.hash
        return hash_here(self._network, self._tokenizer, self.path, commit=self._commit, code=self.options.trust_remote_code)

    @property
    def network(self) -> nn.Module:
        """See LoraTrainable.network: it is on its device, whatever engine had that before."""
        self.turn_to(self.hf)
        self.hf.open(())
        return self._network

    # acts ------------------------------------------------------------------------------------------------------

    def diverse_beams(self, requests: Sequence[Request], member: Member, search: BeamSearch) -> Iterator[Beams]:
        """See BeamModel.diverse_beams. The search is by transformers' network, whatever engine draws."""
        by_key = {request.key: request for request in requests}
        [adapter] = adapters_of([member])
        draws, skipped = self.draws_of(requests, lambda _: adapter)
        yield from (Beams(by_key[completion.key], ((completion,),), 0) for completion in skipped)
        for found in self.hf.beams(draws, adapter, search):
            request = by_key[found.draw.key]
            groups = tuple(tuple(completed(self.codec, request, drawn) for drawn in group) for group in found.groups)
            yield Beams(request, groups, found.drawn)

    def lora_layers(self, targets: str | Sequence[str]) -> dict[str, StackedLinear]:
        """The layers that LoRA changes, wrapped for stacking; see stacked_lora.target_modules for `targets`."""
        return self.hf.adapters.layers(targets)

    def lora_note(self, targets: str | Sequence[str]) -> str:
        """See LoraTrainable.lora_note."""
        return self.hf.adapters.left_out(targets)

    def peft_differs(self, folder: Path) -> str:
        """See StageModel.peft_differs."""
        return self.hf.adapters.peft_differs(folder)

    def next_token_logprobs(
        self, contexts: Sequence[tuple[str | Messages, str]], members: Sequence[Member]
    ) -> Iterator[NDArray[np.float32] | None]:
        """For each context of `divergence`: log-probabilities (K, T, V) of every next token, natural logarithm, on the host."""
        pairs, fits = self.forced_pairs(contexts)
        answers = self.hf.logprobs(pairs, adapters_of(members))
        for fit in fits:
            yield next(answers) if fit else None
