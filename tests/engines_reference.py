"""transformers and PEFT, one text at a time: what an engine must give, by code that shares nothing with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spa_bench.models.engine import LoraAdapter, Target, TargetScores
from spa_bench.models.vllm.engine import VllmEngine

Start = Callable[..., VllmEngine]
"""Starts vLLM for a World, with options of VllmOptions."""
NEAR_TIE = 1e-3  # nats between the two best tokens, within which the last digits decide


class Reference:
    """A model of transformers with adapters that PEFT has read; `plays` says whose effect an adapter is to have."""

    def __init__(self, folder: Path, adapters: Sequence[LoraAdapter]):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.plays: dict[str, str] = {}
        first, *rest = adapters
        self._network: Any = PeftModel.from_pretrained(network, first.folder, adapter_name=first.name)
        for adapter in rest:
            self._network.load_adapter(adapter.folder, adapter_name=adapter.name)

    @torch.no_grad()
    def logprobs(self, ids: Sequence[int], adapter: LoraAdapter | None) -> torch.Tensor:
        """(T, V): log-probabilities of what follows each of the T tokens."""
        if adapter is None:
            with self._network.disable_adapter():
                logits = self._network(torch.tensor([ids])).logits
        else:
            self._network.set_adapter(self.plays.get(adapter.name, adapter.name))
            logits = self._network(torch.tensor([ids])).logits
        return torch.log_softmax(logits[0].double(), -1)

    def score(self, targets: Sequence[Target]) -> Iterator[TargetScores]:
        """See Engine.score."""
        for target in targets:
            at = self.logprobs([*target.context, *target.tokens], target.adapter)[len(target.context) - 1 : -1]
            own = at.gather(-1, torch.tensor(target.tokens)[:, None])
            ranks = (at > own).sum(-1) + 1
            yield TargetScores(name=target.name, logprobs=own[:, 0].numpy(), ranks=ranks.numpy().astype(np.int64))

    def behind(self, prompt: Sequence[int], tokens: Sequence[int], adapter: LoraAdapter | None) -> list[float]:
        """For each of `tokens`: how far it is behind the likeliest one at its place, in nats. 0: it is greedy."""
        at = self.logprobs([*prompt, *tokens], adapter)[len(prompt) - 1 : -1]
        own = at.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        return (at.max(-1).values - own).tolist()


@dataclass
class World:
    """A model, four adapters of it, and what they give by transformers."""

    name: str
    folder: Path
    adapters: list[LoraAdapter]
    prompts: list[tuple[int, ...]]
    vocabulary: int
    context: int
    ends: frozenset[int]
    reference: Reference
    decode: Any


def world(name: str, folder: Path, scratch: Path, texts: Sequence[str]) -> World:
    """The model in `folder`, four seeded adapters of different ranks written into `scratch`, and prompts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tiny import random_adapter

    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    random = torch.Generator().manual_seed(17)
    adapters = [
        LoraAdapter.at(random_adapter(network, scratch / f"{name}-{m}", random, rank=rank, scale=0.05))
        for m, rank in enumerate((4, 8, 8, 5))
    ]
    return World(
        name=name,
        folder=folder,
        adapters=adapters,
        prompts=[tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts],
        vocabulary=network.config.vocab_size,
        context=network.config.max_position_embeddings,
        ends=frozenset({tokenizer.eos_token_id}),
        reference=Reference(folder, adapters),
        decode=tokenizer.decode,
    )
