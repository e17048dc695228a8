"""The rows of a decoding batch, and which of them continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.models.engine import Draw
from spa_bench.models.hf.sampling import uniforms
from spa_bench.models.hf.spelling import Tail

BLOCK = 16  # columns: attention on a CPU adds in lanes of so many numbers at most


@dataclass(kw_only=True)
class Row:
    """One row of a decoding batch."""

    draw: Draw
    prompt: list[int]
    limit: int  # the most new tokens
    new: list[int] = field(default_factory=list)
    finish: Literal["stop", "length", "failed"] | None = None
    tail: Tail | None = None  # its text so far, where stop strings are looked for in it
    numbers: NDArray[np.float32] | None = None  # the uniform numbers of all its tokens, once one is needed
    bound: float | None = None  # mirostat's bound on the next token's surprise in bits; None: there is no token yet

    def anew(self) -> Row:
        """The same row before its first token."""
        return Row(draw=self.draw, prompt=self.prompt, limit=self.limit)

    def ended(self) -> Row:
        """A row that only fills a place: it has ended and has no answer."""
        return Row(draw=self.draw, prompt=self.prompt, limit=0, finish="stop")

    def uniforms(self, count: int) -> NDArray[np.float32]:
        """The uniform numbers (count,) of the next `count` tokens; 0 behind the limit, and where none is needed."""
        if self.finish or self.draw.decoding.temperature == 0:
            return np.zeros(count, np.float32)
        if self.numbers is None:
            self.numbers = uniforms(self.draw.seed, self.limit)
        mine = self.numbers[len(self.new) : len(self.new) + count]
        return np.pad(mine, (0, count - len(mine)))


def survivors(rows: Sequence[Row], groups: int, least: int) -> list[int] | None:
    """Indices to keep so that every group keeps the same number of rows, at least `least`; None when that would not pay."""
    width = len(rows) // groups
    alive = [[g * width + i for i in range(width) if not rows[g * width + i].finish] for g in range(groups)]
    need = max(least, max(len(a) for a in alive))
    if need > 0.75 * width:
        return None
    keep = []
    for g, mine in enumerate(alive):
        done = [i for i in range(g * width, (g + 1) * width) if rows[i].finish]
        keep += sorted(mine + done[: need - len(mine)])
    return keep


def padded(rows: Sequence[tuple[Sequence[int], Sequence[int]]], *, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, (rows, columns), of rows of (head, tail) that all end at the right edge.

    Between head and tail are 1 to `block` masked columns, so that a row begins at a multiple of `block`, however long the
    longest row is. So attention adds a row's numbers in the same lanes beside any other rows, and always by the kernel for
    masks. With padding on the left alone, other lengths in the batch would change the last bits. This holds up to 512 columns,
    where the CPU kernel begins a second part. With block 0 there are no such columns, for networks in which a gap would count
    as a distance.
    """
    sizes = [len(head) + len(tail) for head, tail in rows]
    wide = [(size // block + 1) * block if block else size for size in sizes]
    ids = torch.zeros(len(rows), max(wide), dtype=torch.long)
    mask = torch.zeros(len(rows), max(wide), dtype=torch.long)
    for i, (head, tail) in enumerate(rows):
        first, last = max(wide) - wide[i], max(wide) - len(tail)
        ids[i, first : first + len(head)] = torch.tensor(head, dtype=torch.long)
        mask[i, first : first + len(head)] = 1
        ids[i, last:] = torch.tensor(tail, dtype=torch.long)
        mask[i, last:] = 1
    return ids, mask
