"""Answers that could not be drawn: they have a cause instead of tokens.

On a CPU, Linux usually ends a process that takes too much memory instead of refusing an allocation, and nothing here can catch
that. Only an allocation that torch, the driver or Python refuses is caught.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from spa_bench.models.engine import Draw, Drawn
from spa_bench.support.memory import is_out_of_memory

Result = TypeVar("Result")

_counted: list[None] = []  # one for each time that memory ran out in this process, as torch counts its peaks


def refusals() -> int:
    """How often memory has run out in this process, and something smaller was tried."""
    return len(_counted)


def within_memory(act: Callable[[], Result]) -> Result | None:
    """The result of `act`, or None when memory ran out; the memory that it had taken is then free again."""
    try:
        return act()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    _counted.append(None)
    # behind the handler: until it ends, the traceback holds the tensors of the frames that failed
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def out_of_memory(draw: Draw) -> Drawn:
    """The failed answer to a draw whose prompt does not fit in memory even alone."""
    why = f"out of memory with a prompt of {len(draw.prompt)} tokens: use a smaller dtype or fewer new tokens"
    return Drawn(key=draw.key, finish="failed", failure=why)


def broken(draw: Draw, tokens: int) -> Drawn:
    """The failed answer to a draw whose logits were NaN or infinite after `tokens` new tokens, which are discarded."""
    why = f"the model's logits are not finite (NaN or infinite) after {tokens} new tokens: use float32 or bfloat16"
    return Drawn(key=draw.key, finish="failed", failure=why, spent=tokens)
