"""Samples of several members as one batch of rows, each sample in its own row or several packed into one.

In a pack no sample sees the others: position ids restart with each sample, which transformers turns into a block-diagonal mask.
An architecture that carries a state along the row cannot do that, and some ignore the given positions, so `check_blind` tests
it before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spa_bench.errors import ModelError
from spa_bench.models.hf.placed import input_device, number_type, whole
from spa_bench.spa.batches import Encoded
from spa_bench.spa.losses import token_losses


@dataclass(frozen=True)
class Sample:
    """A pair at one place in a training."""

    pair: Encoded
    seed: int = 0  # seed of its dropout


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of several members as rows of tokens: each member has the same number of rows, its own in one block."""

    ids: Tensor  # (rows, T), padded on the right
    positions: Tensor | None  # (rows, T), which restart with each sample of a row; None: a row has one sample
    where: Tensor  # (counted tokens,): place in ids.flatten() of the token before
    targets: Tensor  # (counted tokens,)
    counts: tuple[int, ...]  # counted tokens of each sample
    owners: tuple[int, ...]  # member of each sample
    spans: tuple[tuple[int, int, int, int], ...]  # of each sample: its row, first column, column behind it, seed

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on `device`."""
        positions = None if self.positions is None else self.positions.to(device)
        ids, where, targets = (t.to(device) for t in (self.ids, self.where, self.targets))
        return Batch(
            ids=ids, positions=positions, where=where, targets=targets, counts=self.counts, owners=self.owners, spans=self.spans
        )


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` in packs of at most `capacity` tokens, each in the first pack with room, the longest first.

    A length above `capacity` has a pack of its own. With capacity 0 every length has its own pack, in the given order.
    """
    if not capacity:
        return [[i] for i in range(len(lengths))]
    packs: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((p for p, left in enumerate(room) if left >= lengths[i]), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(capacity)
        packs[place].append(i)
        room[place] -= lengths[i]
    return packs


def collate(members: Sequence[Sequence[Sample]], capacity: int = 0) -> Batch:
    """The samples of each member as a batch, one sample a row or, with `capacity`, packs of at most that many tokens a row.

    A member with fewer rows than another gets empty rows, whose tokens do not count.
    """
    packs = [
        [[samples[i] for i in pack] for pack in first_fit([len(s.pair.ids) for s in samples], capacity)] for samples in members
    ]
    rows = max(map(len, packs))
    width = max(sum(len(s.pair.ids) for s in pack) for of_member in packs for pack in of_member)
    ids = torch.zeros(rows * len(members), width, dtype=torch.long)
    positions = torch.zeros_like(ids)
    where, targets, counts, owners, spans = [], [], [], [], []
    for member, of_member in enumerate(packs):
        for row, pack in enumerate(of_member, member * rows):
            start = 0
            for sample in pack:
                pair, end = sample.pair, start + len(sample.pair.ids)
                ids[row, start:end] = torch.tensor(pair.ids)
                positions[row, start:end] = torch.arange(end - start)
                where.append(torch.arange(start + pair.head - 1, end - 1) + row * width)
                targets.append(ids[row, start + pair.head : end])
                counts.append(end - start - pair.head)
                owners.append(member)
                spans.append((row, start, end, sample.seed))
                start = end
    return Batch(
        ids=ids,
        positions=positions if capacity else None,
        where=torch.cat(where),
        targets=torch.cat(targets),
        counts=tuple(counts),
        owners=tuple(owners),
        spans=tuple(spans),
    )


def sample_losses(network: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of each sample over its counted tokens, (samples,) float32, in order of the batch's members.

    Logits are computed for the counted tokens alone, and of these a chunk at a time: see losses.token_losses.
    """
    losses = token_losses(network, batch.ids, batch.where, lambda _, part: batch.targets[part], **_places(batch))
    # not index_add, which on a GPU adds in another order each time
    return torch.stack([part.mean() for part in torch.split(losses, list(batch.counts))])


def _places(batch: Batch) -> dict[str, Tensor]:
    # without a mask, transformers takes positions that restart as the borders of packed samples
    return {} if batch.positions is None else {"position_ids": batch.positions}


@torch.no_grad()
def check_blind(network: nn.Module, pairs: Sequence[Encoded], name: str) -> None:
    """Raise ModelError when pairs have other losses in a pack than alone; `name` is the model's."""
    first, second = sorted((pairs[0], pairs[-1]), key=lambda p: -len(p.ids))  # as first_fit puts them
    other = Encoded(tuple(max(first.ids) - t for t in first.ids), first.head)  # other tokens, the same number of them
    most = len(first.ids) + len(second.ids)
    exact, cause = number_type(network) is torch.float32, ""
    try:
        with whole(network):  # 8 bits round a row by what stands in the batch
            alone, packed, behind = (
                sample_losses(network, collate([[Sample(p) for p in two]], capacity).to(input_device(network))).cpu()
                for two, capacity in (((first, second), 0), ((first, second), most), ((other, second), most))
            )
        if not torch.allclose(packed[1], behind[1], rtol=1e-4):
            cause = "what stands in a row before a pair changes its loss"
        elif not torch.allclose(packed, alone, rtol=1e-3 if exact else 0.05):
            cause = "pairs have other losses in a row together than alone"
    except (TypeError, ValueError) as error:
        cause = str(error).split("\n", 1)[0]
    if cause:
        raise ModelError(f"{name} cannot be trained on packed rows ({cause}); use lora.packing = false")
