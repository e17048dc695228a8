"""Soft prompts: vectors of a network's width that stand where the embeddings of its first tokens stand.

Within `SoftPrompts.read` each vector has a token id that the vocabulary lacks, and the network's input embedding gives that
vector for it. So everything that reads token ids reads soft prompts too: the losses of training, and decoding in batches with
its stop rules, its seeds and its end tokens. Gradients reach the vectors; the network's weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spa_bench.errors import ModelError
from spa_bench.models.engine import Draw
from spa_bench.models.hf.loading import embedding_rows
from spa_bench.models.hf.lora_probe import seeded_ids
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.placed import in_place_of_forward, input_device
from spa_bench.models.hf.stacked_lora import output_layer
from spa_bench.types import Decoding, Key


@dataclass(frozen=True, kw_only=True)
class SoftDraw:
    """One text to draw behind a soft prompt."""

    prompt: int  # its row among the prompts
    seed: int  # 63 bits
    limit: int  # the most new tokens


@dataclass(frozen=True, kw_only=True)
class SoftText:
    """One text behind a soft prompt."""

    text: str  # without the end token
    tokens: int  # that were drawn, the end token included
    ended: bool  # by an end token or a stop string, not by the limit
    failure: str = ""  # why there is no text, on one line


class SoftPrompts:
    """Reads and draws behind soft prompts of `model`.

    Raises ModelError for an architecture whose embedding cannot be answered for: one that uses token ids elsewhere too.
    """

    def __init__(self, model: HFModel):
        self.model = model
        self.device = input_device(self.network)
        self._embedding = cast(nn.Module, cast(Any, self.network).get_input_embeddings())
        self._first = embedding_rows(self.network)  # the token id of the first vector
        self._vocabulary = model.vocabulary
        self._check()

    @property
    def network(self) -> nn.Module:
        """See LoraTrainable.network."""
        return self.model.network

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.rows([0]).shape[-1]

    @torch.no_grad()
    def rows(self, tokens: Sequence[int]) -> Tensor:
        """The embeddings (n, d) of some tokens of the vocabulary, in the network's type."""
        return cast(Tensor, self._embedding(torch.tensor([list(tokens)], device=self.device))[0].clone())

    @torch.no_grad()
    def scale(self) -> float:
        """The root mean square of the numbers in the embeddings of the vocabulary's tokens."""
        tokens = range(0, self._vocabulary, max(1, self._vocabulary // 4096))
        return float(self.rows(tokens).double().square().mean().sqrt())

    @contextmanager
    def read(self, prompts: Tensor) -> Iterator[list[tuple[int, ...]]]:
        """Within the block the network knows `prompts` (B, T, d); the block gets the T token ids of each of them.

        The backward pass may come behind the block, unless activations are computed again in it. One block is open at a time.
        """
        count, length, width = prompts.shape
        table, first = prompts.reshape(count * length, width), self._first

        def answer(ids: Tensor) -> Tensor:
            soft = ids >= first
            found = cast(Tensor, own(ids.masked_fill(soft, 0)))
            if not soft.any():
                return found
            vectors = functional.embedding((ids - first).clamp_min(0).to(table.device), table)
            return torch.where(soft[..., None].to(found.device), vectors.to(found), found)

        with in_place_of_forward(self._embedding, answer) as own:
            yield [tuple(range(first + i * length, first + (i + 1) * length)) for i in range(count)]

    def draw(self, prompts: Tensor, draws: Sequence[SoftDraw], decoding: Decoding) -> Iterator[tuple[int, SoftText]]:
        """(place in `draws`, its text), in any order, behind `prompts` (B, T, d), which are all that the network reads.

        A text depends on its prompt and seed, and on the other ones no more than Model.generate's completions do. All are drawn
        when the first one comes.
        """
        with self.read(prompts.detach()) as ids:
            asked = [
                Draw(
                    key=Key("soft prompt", 0, place),
                    prompt=ids[draw.prompt],
                    adapter=None,
                    decoding=decoding,
                    seed=draw.seed,
                    limit=min(draw.limit, self.model.context - prompts.shape[1]),
                )
                for place, draw in enumerate(draws)
            ]
            self.model.turn_to(self.model.hf)  # which may have given a GPU to another engine
            self.model.hf.open(())
            drawn = list(self.model.hf.draw(asked))
        for one in drawn:
            failed = one.finish == "failed"
            text = SoftText(
                text="" if failed else self.model.codec.text(one.tokens),
                tokens=(one.spent or 0) if failed else len(one.tokens),
                ended=one.finish == "stop",
                failure=one.failure,
            )
            yield one.key.draw, text

    @torch.no_grad()
    def states(self, ids: Sequence[int], layer: int) -> Tensor:
        """The states (T, d) in float32 behind `layer` of T tokens; layer 0 is the embedding.

        Raises ModelError where the network gives none.
        """
        row, head = torch.tensor([list(ids)], device=self.device), output_layer(self.network)
        # the logits of one token, as none is wanted
        hook = None if head is None else head.register_forward_pre_hook(lambda _, given: (given[0][..., -1:, :], *given[1:]))
        try:
            states = self.network(input_ids=row, output_hidden_states=True, use_cache=False).hidden_states
        finally:
            if hook is not None:
                hook.remove()
        if not states or not 0 <= layer < len(states):
            raise ModelError(
                f"model {self.model.name!r} gives the states of {max(0, len(states or ()) - 1)} layers, not of layer {layer}; "
                "use another layer, or an encoder of its own"
            )
        return cast(Tensor, states[layer][0].float())

    @property
    def layers(self) -> int:
        """The number of the network's layers."""
        return int(cast(Any, self.network).config.get_text_config().num_hidden_layers)

    @torch.no_grad()
    def _check(self) -> None:
        """Compare the logits of some tokens with those behind their own embeddings given as a soft prompt."""
        ids = seeded_ids(self.network, self._vocabulary)[:1, :8].to(self.device)
        plain = self.network(input_ids=ids, use_cache=False).logits
        same = False
        try:
            with self.read(self._embedding(ids).clone()) as soft:
                logits = self.network(input_ids=torch.tensor(soft, device=self.device), use_cache=False).logits
            same = torch.allclose(plain.float(), logits.float(), atol=1e-4, rtol=1e-3)
        except (IndexError, RuntimeError, TypeError, ValueError):  # token ids that the vocabulary lacks reach another table
            pass
        if not same:
            raise ModelError(
                f"model {self.model.name!r} ({type(self.network).__name__}) uses token ids beside its input embedding, so no "
                "soft prompt can stand in their place; use another model, or a method that asks by text"
            )
