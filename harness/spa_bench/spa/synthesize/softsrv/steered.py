"""A model that soft prompts can steer, and texts as it reads them behind one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import DataError, UsageError
from spa_bench.models.base import Model, StageModel

if TYPE_CHECKING:
    from torch import Tensor

    from spa_bench.models.hf.model import HFModel
    from spa_bench.models.hf.soft_prompt import SoftPrompts

Tokens = tuple[int, ...]


def prompted(model: Model) -> HFModel:
    """`model`, as one whose network is here. Raises UsageError for one that only answers, or is elsewhere."""
    if isinstance(model, StageModel):  # before torch is loaded
        from spa_bench.models.hf.model import HFModel

        if isinstance(model, HFModel):
            return model
    raise UsageError(
        f"softsrv trains a soft prompt through a model's network, and that of {model.name!r} is not in this process: use a "
        "model of transformers in one process, or a method that asks by text, such as oss-instruct"
    )


def text_tokens(model: HFModel, texts: Sequence[str], what: str, *, room: int) -> list[Tokens]:
    """The token ids of each text with the end token, as they continue a soft prompt.

    `room` is how many vectors stand before them; `what` names a text in messages, which count from 1. Raises DataError where
    one does not fit the context.
    """
    found = [tuple(model.encode_pair("", text)[1]) for text in texts]
    longest = max(range(len(found)), key=lambda i: len(found[i]))
    if room + len(found[longest]) > model.context:
        most = model.context - len(found[longest])
        raise DataError(
            f"synthesize.options.length is {room}, and {what} {longest + 1} has {len(found[longest])} tokens: together more "
            f"than the context of {model.context} tokens; "
            + (f"use a length of at most {most}" if most > 0 else "take out the texts that are as long")
        )
    return found


def text_losses(soft: SoftPrompts, prompts: Tensor, rows: Sequence[Tokens]) -> Tensor:
    """The loss (B,) of each text behind its prompt (B, T, d), in nats a token in float32: the mean over all tokens of the text.

    The end token counts; the places of the prompt do not. Rows are padded on the right, where no causal network looks. The
    backward pass is the caller's.
    """
    from spa_bench.spa.batches import Encoded
    from spa_bench.spa.packing import Sample, collate, sample_losses

    with soft.read(prompts) as ids:
        pairs = [Sample(Encoded((*head, *tail), len(head))) for head, tail in zip(ids, rows, strict=True)]
        return sample_losses(soft.network, collate([pairs]).to(soft.device))


def plain_nll(model: HFModel, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(nats of each text, its tokens) under the model as it is, behind the tokens of an empty prompt; the end token counts.

    Raises DataError where a text does not fit the context.
    """
    import torch

    from spa_bench.spa.batches import Encoded
    from spa_bench.spa.packing import Sample, collate, sample_losses
    from spa_bench.spa.passes import TOKENS, row_groups

    head = tuple(model.encode_pair("", "a")[0])
    rows = text_tokens(model, texts, "text", room=len(head))
    network, device = model.network, next(model.network.parameters()).device
    nats = np.zeros(len(rows))
    for group in row_groups([len(head) + len(r) for r in rows], TOKENS[device.type]):
        batch = collate([[Sample(Encoded((*head, *rows[i]), len(head))) for i in group]])
        with torch.no_grad():
            losses = sample_losses(network, batch.to(device)).double().cpu().numpy()
        nats[group] = losses * [len(rows[i]) for i in group]
    return nats, np.array([len(r) for r in rows])
