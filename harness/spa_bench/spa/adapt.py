"""Trains K LoRA adapters over a frozen base: all in one stacked pass, or group by group where memory requires it.

Each member has its own data order, dropout, optimiser, clipping and schedule; the losses are summed, never averaged, so that a
member's gradient is what it would be alone. A member that is done leaves the stack, because AdamW would move it on a zero
gradient. So the groups affect only the duration of training and the last digits.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from spa_bench.cards.training import LoraCard
from spa_bench.errors import DataError, ModelError
from spa_bench.models.base import LoraTrainable, StageModel
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.placed import input_device, number_type
from spa_bench.models.hf.stacked_lora import Adapter, Dropout, use_factors
from spa_bench.models.hf.trained_lora import train_factors
from spa_bench.spa import checkpoint
from spa_bench.spa.attribution.base import Progress
from spa_bench.spa.batches import Encoded, encode
from spa_bench.spa.footprint import twice
from spa_bench.spa.packing import Batch, Sample, check_blind, collate, sample_losses
from spa_bench.spa.passes import TOKENS
from spa_bench.spa.schedule import steps_of
from spa_bench.spa.trainee import Trainee
from spa_bench.support.interrupt import asked, pause_point
from spa_bench.types import Example

_CHECKPOINT_SECONDS = 60.0


def train_adapters(
    model: LoraTrainable,
    parts: Sequence[Sequence[Example]],
    card: LoraCard,
    seeds: Sequence[int],
    *,
    progress: Progress,
    keep: Path | None = None,
    first: int = 0,
) -> list[Adapter]:
    """An adapter for each part, on the CPU. See `adapters_at`."""
    last = max(steps_of(len(part), card) for part in parts)
    [(_, adapters)] = adapters_at(model, parts, card, seeds, [last], progress=progress, keep=keep, first=first)
    return adapters


def adapters_at(
    model: LoraTrainable,
    parts: Sequence[Sequence[Example]],
    card: LoraCard,
    seeds: Sequence[int],
    steps: Sequence[int],
    *,
    progress: Progress,
    keep: Path | None = None,
    first: int = 0,
) -> Iterator[tuple[int, list[Adapter]]]:
    """(s, copies of the adapters after s optimiser steps), an adapter for each part, for each of the ascending `steps`.

    Step 0 is LoRA's start, where B = 0; a member that ends before a step is given in its final state. `seeds[i]` decides
    member i's start, data order and dropout. All training is done before the first result, because groups of members are
    trained one after another.

    `keep` is a path where a checkpoint is written once a minute, with the adapters beside it. Training resumes from what it
    finds there, with the same bytes. The files stay until `checkpoint.clear(keep)`. `first` is the number that errors give
    to the first part.

    Raises DataError for an empty part, a pair that is too long, impossible steps, or a loss that is not finite. Raises
    ModelError when one member does not fit in memory, or the architecture lacks what the card needs.
    """
    for i, part in enumerate(parts):
        if not part:
            raise DataError(f"part {first + i} is empty: nothing to train adapter {first + i} on")
    last = max(steps_of(len(part), card) for part in parts)
    if list(steps) != sorted(set(steps)) or not steps or not 0 <= steps[0] <= steps[-1] <= last:
        raise DataError(f"adapters after {list(steps)} steps of {last} cannot be had; give ascending numbers up to {last}")
    training = _Training(model, parts, card, seeds=seeds, steps=steps, progress=progress, keep=keep, first=first)
    for step in steps:
        if step == steps[0]:
            training.run()
        yield step, training.at(step)


class _Training:
    """The groups of one training, and the paths of its checkpoint and adapters."""

    def __init__(
        self,
        model: LoraTrainable,
        parts: Sequence[Sequence[Example]],
        card: LoraCard,
        *,
        seeds: Sequence[int],
        steps: Sequence[int],
        progress: Progress,
        keep: Path | None,
        first: int,
    ):
        self._model, self._card, self._seeds, self._wanted, self._first = model, card, seeds, steps, first
        self._progress, self._keep = progress, keep
        known: dict[int, list[Encoded]] = {}  # members of the control `seeds` share their data
        for i, part in enumerate(parts):
            if id(part) not in known:
                known[id(part)] = encode(model, part, f"part {first + i}, example", length=card.length, loss=card.loss)
        self._rows = [known[id(part)] for part in parts]
        self._network, self._layers = model.network, model.lora_layers(card.targets)
        self._device = input_device(self._network)
        if card.packing:
            check_blind(self._network, [rows[0] for rows in self._rows] + [self._rows[-1][-1]], model.name)
        self._key = self._named()
        self._shelf = checkpoint.Shelf(keep, self._key, card)
        self._tokens = TOKENS[self._device.type]  # padded tokens of all members in one pass
        self._groups: list[range] = []
        self._done = 0  # steps of the groups before

    def run(self) -> None:
        """Train all members, a group after another."""
        size = self._card.together or len(self._rows)
        first = 0
        while first < len(self._rows):
            group, finished = self._next(first, size)
            if not finished and within_memory(partial(self._train, group, size)) is None:
                if (self._card.together or len(group) == 1) and self._tokens > self._longest(group) * len(group):
                    self._tokens //= 2  # fewer rows a pass: the step stays what it is
                    continue
                if self._card.together or len(group) == 1:
                    raise ModelError(
                        f"out of memory while training {len(group)} adapter{'s' * (len(group) > 1)} at once: use a smaller "
                        "lora.together, lora.rank, or lora.batch with more lora.accumulation, or lora.gradient_checkpointing"
                    )
                size = len(group) // 2
                if self._keep:
                    self._keep.unlink(missing_ok=True)
                continue
            size = min(size, len(group))  # a size that did not fit in memory before will not fit now
            self._done += self._last(group)
            self._groups.append(group)
            first = group.stop

    def at(self, step: int) -> list[Adapter]:
        """The adapters of all members after `step` steps."""
        return [adapter for group in self._groups for adapter in self._shelf.get(group, step)]

    def _next(self, first: int, size: int) -> tuple[range, bool]:
        """(the group that begins with member `first`, whether it is done); the group is that of an earlier process, if any."""
        for group in self._shelf.groups(first):
            if self._shelf.has(group, self._wanted):
                return group, True
        state = checkpoint.found(self._keep, self._key) if self._keep else None
        if state and state[1].start == first:
            return state[1], False
        return range(first, min(first + size, len(self._rows))), False

    def _train(self, members: range, size: int) -> bool:
        """Train `members` together until the last step that is wanted; the result is True."""
        card = self._card
        group = [Trainee(m, self._rows[m], card, self._seeds[m], self._layers, first=self._first) for m in members]
        last, begun = self._last(members), self._resume(members, group)
        rest = [range(s, min(s + size, len(self._rows))) for s in range(members.stop, len(self._rows), size)]
        total = self._done + last + sum(map(self._last, rest))
        saved = time.monotonic()
        if self._device.type != "cpu":  # on a CPU memory that ends cannot be caught, and time is dear
            self._rehearse(group)
        if begun == 0 and 0 in self._wanted:
            self._shelf.put(members, 0, [t.adapter() for t in group])
        for step in range(begun, last):
            active = self._active(group, step)
            self._collect(active, self._passes(active, step), step)
            for trainee in active:
                trainee.update(step)
            if step + 1 in self._wanted:
                self._shelf.put(members, step + 1, [t.adapter() for t in group])
            self._progress(self._done + step + 1, total)
            if self._keep and (asked() or time.monotonic() - saved >= _CHECKPOINT_SECONDS):
                checkpoint.save(self._keep, step + 1, group, self._key)
                saved = time.monotonic()
            pause_point()
        for step in self._wanted:
            if step > last:  # other groups may need more steps
                self._shelf.put(members, step, [t.adapter() for t in group])
        return True

    def _resume(self, members: range, group: Sequence[Trainee]) -> int:
        """The number of steps that `group` has done, after its state is restored."""
        state = checkpoint.found(self._keep, self._key) if self._keep else None
        if not self._keep or not state or state[1] != members:
            return 0
        if not self._shelf.has(members, [s for s in self._wanted if s <= state[0]]):
            return 0
        checkpoint.restore(self._keep, group)
        return state[0]

    def _last(self, members: range) -> int:
        """The number of steps that a group takes."""
        return min(self._wanted[-1], max(steps_of(len(self._rows[m]), self._card) for m in members))

    def _passes(self, active: Sequence[Trainee], step: int) -> list[list[list[Sample]]]:
        """The samples of each member in each pass of `step`, the longest first: at most `card.batch`, in bounded tokens."""
        waiting = [sorted(t.samples(step), key=lambda s: -len(s.pair.ids)) for t in active]
        most, longest = max(map(len, waiting)), max(len(samples[0].pair.ids) for samples in waiting)
        rows = max(1, min(self._card.batch, self._tokens // (len(active) * longest)))
        parts = -(-most // rows)
        ends = [most * i // parts for i in range(parts + 1)]
        return [[samples[a:b] for samples in waiting] for a, b in pairwise(ends)]

    def _collect(self, active: Sequence[Trainee], passes: Sequence[Sequence[Sequence[Sample]]], step: int) -> None:
        """Add the gradients of `passes`, those of all members in each, to those of the members."""
        card, layers = self._card, self._layers
        capacity = min(card.length or self._model.context, self._model.context) if card.packing else 0
        scale = card.alpha / card.rank
        with torch.no_grad():
            down = {p: torch.stack([t.down[p] for t in active]).requires_grad_() for p in layers}
            up = {p: (torch.stack([t.up[p] for t in active]) * scale).requires_grad_() for p in layers}
        for samples in passes:
            batch = collate(samples, capacity).to(self._device)
            with twice(self._model, card, batch.ids.numel()):
                self._backward(active, batch, step, down, up)
        for place, trainee in enumerate(active):
            for path in layers:
                low, high = down[path].grad, up[path].grad
                assert low is not None
                assert high is not None
                trainee.down[path].grad, trainee.up[path].grad = low[place], high[place] * scale

    def _rehearse(self, group: Sequence[Trainee]) -> None:
        """Run the largest pass of all and forget it, so that memory that does not suffice shows before the first step."""
        sizes = {step: self._passes(self._active(group, step), step)[0] for step in range(max(t.steps for t in group))}
        step = max(sizes, key=lambda s: sum(len(m) for m in sizes[s]) * max(len(x.pair.ids) for m in sizes[s] for x in m))
        active = self._active(group, step)
        self._collect(active, [sizes[step]], step)
        for trainee in active:
            trainee.optimizer.zero_grad(set_to_none=True)

    @staticmethod
    def _active(group: Sequence[Trainee], step: int) -> list[Trainee]:
        return [t for t in group if step < t.steps]

    def _longest(self, members: range) -> int:
        """Tokens of the longest pair of `members`."""
        return max(len(row.ids) for m in members for row in self._rows[m])

    def _backward(
        self,
        active: Sequence[Trainee],
        batch: Batch,
        step: int,
        down: Mapping[str, Tensor],
        up: Mapping[str, Tensor],
    ) -> None:
        """Add the gradients of `batch` to those of the stacked factors `down` and scaled `up`."""
        card, layers = self._card, self._layers
        shape = (batch.ids.shape[0], batch.ids.shape[1])
        dropout = Dropout(card.dropout, shape, batch.spans) if card.dropout else None
        half = card.precision == "bfloat16"
        whole = not half and dropout is None and number_type(self._network) is torch.float32
        with train_factors(layers, down, up) if whole else use_factors(layers, down, up, dropout):
            with torch.autocast(self._device.type, dtype=torch.bfloat16) if half else nullcontext():
                losses = sample_losses(self._network, batch)
            if not torch.isfinite(losses).all():
                bad = batch.owners[int((~torch.isfinite(losses)).nonzero()[0])]
                raise active[bad].not_finite("loss", step)
            shares = torch.tensor([1 / active[owner].reads(step) for owner in batch.owners], device=losses.device)
            (losses * shares).sum().backward()  # type: ignore[no-untyped-call]

    def _named(self) -> str:
        """A hash of everything that decides the training, so that it never resumes from another training's checkpoint."""
        about: list[object] = [self._card, list(self._seeds), list(self._wanted)]
        if self._keep and isinstance(self._model, StageModel):
            about += [self._model.describe()["hash"], self._model.training_numerics()]
        digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
        for rows in self._rows:
            digest.update(b"part")
            for row in rows:
                digest.update(array("q", (row.head, *row.ids)).tobytes())
        return digest.hexdigest()
