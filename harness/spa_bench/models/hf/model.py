"""Any causal language model of transformers, with K stacked LoRA adapters over one copy of the weights.

The parts: `codec` (text and tokens), `draw` (answers), `scorer` (options and likelihoods), `divergence` (distributions of
every next token, as sums), `adapters`. This module loads a model and gives each part what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spa_bench.models.base import Batches, Beams, OptionScores
from spa_bench.models.beams import BeamSearch
from spa_bench.models.hf.adapters import Adapters
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.context import context_of
from spa_bench.models.hf.divergence import Forced, Wanted
from spa_bench.models.hf.draw import Drawer
from spa_bench.models.hf.failures import refusals
from spa_bench.models.hf.gguf import Origin
from spa_bench.models.hf.loading import device_of, dtype_of, embedding_rows, end_tokens, hash_state, load_network
from spa_bench.models.hf.probe import known_probe
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.rows import BLOCK
from spa_bench.models.hf.rows import MIN_ROWS as MIN_ROWS
from spa_bench.models.hf.scorer import Scorer
from spa_bench.models.hf.stacked_lora import StackedLinear
from spa_bench.models.options import OptionEncoder
from spa_bench.models.rolling import windows
from spa_bench.support.provenance import hash_folder, versions
from spa_bench.types import Asked, Completion, DivergenceSums, Member, Messages, Request

_ONE_PIECE = 512  # columns that a CPU's attention adds in one piece; it splits more of them where the padding begins


@dataclass(frozen=True, kw_only=True)
class HFOptions:
    """The options of the transformers backend."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str = "auto"  # auto: float32 on CPU, bfloat16 on CUDA
    batch_size: int | None = None  # rows decoded together; None: as many as memory holds, 128 at most on a CPU, 256 on CUDA
    threads: int | None = None  # CPU threads; None: the cores this process may use
    trust_remote_code: bool = False  # run code shipped with the model: off unless the user says so
    revision: str | None = None  # branch, tag or commit on the hub
    context: int | None = None  # the most tokens of prompt and answer together; None: as many as the model has positions


class HFModel:
    """See spa_bench.models.base.Model; `path` is a local folder or a name on the hub."""

    def __init__(self, path: str, options: HFOptions | None = None, *, name: str | None = None, origin: Origin | None = None):
        self.name = name or path
        self._origin = origin  # of a folder that was made of a GGUF file
        self._path = path
        self._options = options = options or HFOptions()
        self._device = device_of(options.device)
        self._dtype = dtype_of(options.dtype, self._device)
        self._threads = options.threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(self._threads)
        network, self._tokenizer = load_network(
            path, self._dtype, revision=options.revision, trust_remote_code=options.trust_remote_code
        )
        self.network: nn.Module = network.to(self._device).eval().requires_grad_(False)
        vocabulary = int(network.config.get_text_config().vocab_size)
        self.context, unknown = context_of(self.network, self._tokenizer, options.context)
        found = known_probe(
            self.network,
            lambda: [self._hash, self.numerics(), versions()],
            vocabulary=vocabulary,
            context=self.context,
            device=self._device,
        )
        self._way, self._vocabulary = found.way, vocabulary
        way = found.way
        self.context = min(self.context, way.context or self.context)
        self.notes = tuple(note for note in (unknown, *found.notes) if note)
        reads = Readable(self.network, way, context=self.context)
        self.codec = Codec(self._tokenizer, self.name, end_tokens(self._tokenizer, network), embedding_rows(network))
        self._adapters = Adapters(self.network, self._dtype, self._device, vocabulary=vocabulary)
        self._forced = Forced(reads, self._adapters.use, vocabulary=vocabulary, device=self._device)
        self._drawer = Drawer(
            reads,
            self.codec,
            self._adapters,
            context=self.context,
            vocabulary=vocabulary,
            device=self._device,
            batch=options.batch_size,
        )
        self._scorer = Scorer(
            reads,
            OptionEncoder(self.codec, self.context),
            self._adapters.use,
            context=self.context,
            vocabulary=vocabulary,
            device=self._device,
            batch=options.batch_size,
        )

    # what it is ------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        """Name, revision and hashes of weights and tokenizer files; for a hub model the files in the local cache."""
        said = {"name": self.name, "revision": self._options.revision, "hash": self._hash, "context": self.context}
        return said | (self._origin.describe() if self._origin else {})

    def numerics(self) -> dict[str, object]:
        """Device and dtype; threads and capability of a CPU; name, attention and precision of float32 products of a GPU."""
        device: dict[str, object] = {"device": self._device.type, "dtype": str(self._dtype).removeprefix("torch.")}
        if self._device.type == "cpu":
            return {**device, "threads": self._threads, "cpu": torch.backends.cpu.get_cpu_capability()}
        attention = str(self.network.config._attn_implementation)  # type: ignore[union-attr]
        precision = torch.get_float32_matmul_precision()
        return {**device, "gpu": torch.cuda.get_device_name(self._device), "attention": attention, "matmul": precision}

    def batches(self) -> Batches:
        """See Model.batches."""
        return Batches(self._options.batch_size, refusals(), self._drawer.together)

    @cached_property
    def _hash(self) -> str:
        if self._origin is not None:
            return self._origin.hash
        if Path(self._path).is_dir():
            return hash_folder(Path(self._path))
        return hash_state(self.network, self._tokenizer)

    # acts ------------------------------------------------------------------------------------------------------

    def encode_pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """See PairEncoder.encode_pair."""
        return self.codec.pair(prompt, completion)

    def check_chat(self) -> None:
        """See ChatModel.check_chat."""
        self.codec.check_chat()

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """See ChatTrainable.as_chat."""
        return self.codec.as_chat(messages)

    def encode_chat(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """See ChatTrainable.encode_chat."""
        return self.codec.chat_pair(prompt, completion, ending)

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """See Model.batch_free: where the probe found it, on a CPU in float32, as long as its attention adds in one piece."""
        if self._device.type != "cpu" or self._dtype is not torch.float32 or not self._way.same_bytes:
            return False
        columns = (min(len(self.codec.prompt(text)) + new, self.context) for text, new in prompts)
        return all(n + 2 * BLOCK <= _ONE_PIECE for n in columns)

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate and spa_bench.models.hf.draw."""
        return self._drawer.generate(requests, members)

    def diverse_beams(self, requests: Sequence[Request], member: Member, search: BeamSearch) -> Iterator[Beams]:
        """See BeamModel.diverse_beams."""
        return self._drawer.diverse_beams(requests, member, search)

    def lora_layers(self, targets: str | Sequence[str]) -> dict[str, StackedLinear]:
        """The layers that LoRA changes, wrapped for stacking; see stacked_lora.target_modules for `targets`."""
        return self._adapters.layers(targets)

    def lora_note(self, targets: str | Sequence[str]) -> str:
        """See LoraTrainable.lora_note."""
        return self._adapters.left_out(targets)

    def peft_differs(self, folder: Path) -> str:
        """See StageModel.peft_differs."""
        return self._adapters.peft_differs(folder)

    def divergence(
        self,
        contexts: Sequence[tuple[str | Messages, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums | None]:
        """See Model.divergence."""
        pairs, fits = self._forced_pairs(contexts)
        adapters = [*(m.adapter for m in members), *([None] if base else [])]
        twice = {sum(fits[:place]) for place in again if fits[place]}
        wanted = Wanted(adapters=adapters, members=len(members), top=min(top, self._vocabulary), again=twice)
        answers = self._forced.sums(pairs, wanted)
        for fit in fits:
            yield next(answers) if fit else None

    def next_token_logprobs(
        self, contexts: Sequence[tuple[str | Messages, str]], members: Sequence[Member]
    ) -> Iterator[NDArray[np.float32] | None]:
        """For each context of `divergence`: log-probabilities (K, T, V) of every next token, natural logarithm, on the host."""
        pairs, fits = self._forced_pairs(contexts)
        answers = self._forced.logprobs(pairs, [m.adapter for m in members])
        for fit in fits:
            yield next(answers) if fit else None

    def _forced_pairs(
        self, contexts: Sequence[tuple[str | Messages, str]]
    ) -> tuple[list[tuple[list[int], list[int]]], list[bool]]:
        """The tokens of the contexts that fit, and which of all contexts these are."""
        pairs = [self.encode_pair(prompt, continuation) for prompt, continuation in contexts]
        fits = [len(head) + len(tail) <= self.context for head, tail in pairs]
        return [pair for pair, fit in zip(pairs, fits, strict=True) if fit], fits

    # options ---------------------------------------------------------------------------------------------------

    def check_options(self, asked: Sequence[Asked]) -> None:
        """See Model.check_options."""
        self._scorer.encoded(asked)

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """See Model.option_scores. Problems are read in groups of similar length, which `done` does not change."""
        yield from self._scorer.scores(self._scorer.encoded(asked), [m.adapter for m in members], done)

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """See Model.loglikelihood; the continuation is scored without an end token."""
        pairs = [
            (self.codec.before(r), self.codec.continuation(r.continuation))
            if r.apart or r.messages
            else self._scorer.encoder.pairs([(r.prompt, r.continuation)])[0]
            for r in requests
        ]
        yield from self._scorer.loglikelihood(requests, pairs, members)

    def rolling(self, request: Request, member: Member) -> float:
        """The log-probability in nats of the whole prompt of `request`, however long; see spa_bench.models.rolling."""
        first, begun = self.codec.first
        pairs = list(windows(self.codec.whole([request.prompt], begun=begun)[0], first, self.context))
        part = replace(request, member=0)
        return sum(logprob for _, logprob, _ in self._scorer.loglikelihood([part] * len(pairs), pairs, [member]))
