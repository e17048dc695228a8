"""How many tokens a network reads: from its config, whatever the name there, or from its table of positions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from spa_bench.errors import UsageError
from spa_bench.models.hf.placed import input_device
from spa_bench.models.hf.probe import FAILURES

_NAMES = (
    "max_position_embeddings",
    "max_seq_len",
    "n_positions",
    "n_ctx",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "max_target_positions",
    "context_length",
    "model_max_length",
)
_UNKNOWN = 2048  # tokens where nothing names a context
_MOST = 1 << 24  # tokens: transformers writes 10^30 for a tokenizer that has no limit


def context_of(network: nn.Module, tokenizer: Any, asked: int | None) -> tuple[int, str]:
    """(tokens of prompt and answer together, a line for the user where they were not found, else "").

    `asked` is the user's own number. Raises UsageError where it has no room for a token of each, or is above what the
    network has.
    """
    settings: dict[str, Any] = network.config.get_text_config().to_dict()  # type: ignore[operator, union-attr]
    named = [settings[name] for name in _NAMES if _is_size(settings.get(name))][:1]
    # a table may have more rows than positions, as OPT's, and then the config knows
    tables = {n: m for n, m in network.named_modules() if isinstance(m, nn.Embedding) and re.search(r"wpe|pos(?!t)", n)}
    if any(_positions(table) < min(named, default=_MOST) for table in tables.values()):
        tables = _of_text(network, tables)
    found = min([*named, *map(_positions, tables.values())], default=0)
    if asked is not None and not 2 <= asked <= (found or _MOST):
        least = f"between 2 and {found}, the positions of this model" if found else "at least 2"
        raise UsageError(f"--context is {asked}; it must be {least}")
    if asked or found:
        return asked or found, ""
    told = tokenizer.model_max_length
    if _is_size(told):
        return int(told), f"context: {told} tokens, from the tokenizer, as the config names none; another one with --context N"
    return (
        _UNKNOWN,
        f"context: {_UNKNOWN} tokens, as neither config nor tokenizer names one; another one with --context N",
    )


def _positions(table: nn.Embedding) -> int:
    """The positions in a table; RoBERTa's begin behind that of the padding."""
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


@torch.inference_mode()
def _of_text(network: nn.Module, tables: Mapping[str, nn.Embedding]) -> dict[str, nn.Embedding]:
    """Those of `tables` that a row of text is read with: others have the places of a picture. None where no row can be read."""
    read: dict[str, nn.Embedding] = {}

    def see(name: str, table: nn.Embedding, *_: object) -> None:
        read[name] = table

    hooks = [table.register_forward_hook(partial(see, name)) for name, table in tables.items()]
    try:
        network(input_ids=torch.zeros(1, 2, dtype=torch.long, device=input_device(network)), use_cache=False)
    except FAILURES:  # the probe says what is wrong
        return {}
    finally:
        for hook in hooks:
            hook.remove()
    return read


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST
