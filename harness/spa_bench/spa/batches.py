"""Pairs as padded batches, and the loss that attribution and training share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spa_bench.errors import DataError
from spa_bench.models.base import ChatTrainable, PairModel
from spa_bench.types import Example

if TYPE_CHECKING:  # commands that look at results reach this module, and need no torch
    from torch import Tensor

IGNORE = -100


@dataclass(frozen=True)
class Encoded:
    """One pair as token ids; the loss counts the tokens from `head` on."""

    ids: tuple[int, ...]
    head: int


def pair_ids(model: PairModel, example: Example) -> tuple[list[int], list[int]]:
    """Token ids of prompt and completion, as the model reads and ends them. Only this function turns pairs into tokens."""
    if example.ending is None:
        return model.encode_pair(example.prompt, example.completion)
    assert isinstance(model, ChatTrainable)  # whose template made the ending
    return model.encode_chat(example.prompt, example.completion, example.ending)


def encode(
    model: PairModel, examples: Sequence[Example], what: str, *, length: int = 0, loss: str = "completion"
) -> list[Encoded]:
    """Encode pairs; `loss` says which tokens count: "completion", or "all" but the first, which nothing predicts.

    Raises DataError naming the first pair of more than `length` tokens (0: the model's context).
    """
    encoded = []
    for number, example in enumerate(examples):
        head, tail = pair_ids(model, example)
        if len(head) + len(tail) > _most(model, length):
            limit = f"lora.length is {length}" if 0 < length < model.context else f"the model's context is {model.context}"
            raise DataError(f"{what} {number} has {len(head) + len(tail)} tokens; {limit}; remove or shorten it")
        encoded.append(Encoded((*head, *tail), max(len(head), 1) if loss == "completion" else 1))
    return encoded


def fitting(model: PairModel, examples: Sequence[Example], length: int = 0) -> list[int]:
    """Indices of the examples whose prompt and completion have at most `length` tokens (0: the model's context)."""
    most = _most(model, length)
    return [i for i, e in enumerate(examples) if sum(map(len, pair_ids(model, e))) <= most]


def _most(model: PairModel, length: int) -> int:
    return min(length or model.context, model.context)


def pad(encoded: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """(ids, labels), each (rows, length), padded on the right; labels hold the tokens that count, -100 elsewhere."""
    import torch

    length = max(len(e.ids) for e in encoded)
    ids = torch.zeros(len(encoded), length, dtype=torch.long)
    labels = torch.full((len(encoded), length), IGNORE)
    for i, row in enumerate(encoded):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, row.head : len(row.ids)] = torch.tensor(row.ids[row.head :])
    return ids, labels


def token_mean_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each row over its counted tokens: logits (rows, T, V), labels (rows, T) -> (rows,)."""
    import torch

    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=IGNORE, reduction="none"
    )
    return losses.sum(1) / (labels[:, 1:] != IGNORE).sum(1).clamp_min(1)
