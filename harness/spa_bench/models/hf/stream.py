"""Rows that are decoded together and end one by one: a finished row's slot goes to the next request of its group.

A group is the requests of one adapter, or of the bare base; the rows of a batch lie group behind group, each as wide as the
others. A network that cannot have slots (see slots.py) takes new rows only when all have ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spa_bench.models.hf.adapters import Adapters
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.packed import PackedLinears
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.rows import Row, survivors
from spa_bench.models.hf.sampling import RowDecoding, next_token
from spa_bench.models.hf.slots import Prefix, Slots, columns
from spa_bench.models.hf.window import Window

Group = Path | None  # the adapter of its rows
Queues = Mapping[Group, deque[Row]]

_BROKEN = -1  # in place of a token: the row's logits are not finite
_LOOK_EVERY = 8  # steps on a GPU between two looks at what was drawn: each look waits for it
_REFILL = 8  # a new row begins when one slot in eight is free: reading a prompt alone costs nearly as much as reading two
_PREFIX_TOKENS = {"cpu": 1024, "cuda": 16384}  # that are read at once


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a model that decoding needs."""

    network: Readable
    codec: Codec
    adapters: Adapters
    packed: PackedLinears
    vocabulary: int
    device: torch.device

    @property
    def slotted(self) -> bool:
        """Whether rows may begin at different steps."""
        return self.network.way.slots


class Stream:
    """Decodes the rows of `queues`, at most `most` of each group together; rows leave their queue when they begin.

    A group has `least` rows or more, of which some may only fill a place.
    """

    def __init__(self, parts: Parts, queues: Queues, most: int, least: int):
        self._parts, self._queues, self._most = parts, queues, most
        self._least = least
        self._groups: list[Group] = [g for g, queue in queues.items() if queue]
        self.rows: list[Row] = []  # group behind group; rows that have ended keep their slot until another row needs it
        # rows whose prompts are read now, by place; the queues have them too
        self._beginning: dict[int, tuple[Group, Row]] = {}
        self._cache: Slots | Window | None = None
        self._prefixes: dict[tuple[Group, tuple[int, ...]], Prefix] = {}
        self._decoding: RowDecoding | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to draw."""
        return not self.alive and not any(self._queues[g] for g in self._groups)

    @property
    def alive(self) -> list[Row]:
        """The rows that have begun and not ended."""
        return [row for row in self.rows if not row.finish]

    @property
    def _width(self) -> int:
        return len(self.rows) // len(self._groups)

    @torch.inference_mode()
    def turn(self, *, begin: bool = True) -> list[Row]:
        """Begin rows where there is room, draw a token of every row (several on a GPU), and return the rows that ended.

        Without `begin` no row is begun as long as there are others.
        """
        with self._parts.packed.use():
            if not self.alive:
                self._begin()
            else:
                self._shrink(waiting=begin)
                if self._parts.slotted and begin:
                    self._refill()
            return self._draw()

    def give_back(self) -> int:
        """Put the rows that have not ended back into their queues; the result is the most that one group had in hand.

        That is what did not fit, where memory ran out: rows whose prompts were being read count too.
        """
        alive = {g: [r for r in self._of(g) if not r.finish] for g in self._groups}
        beginning = Counter(group for group, _ in self._beginning.values())
        waiting = [len(self._queues[g]) for g in self._groups]
        hands = max(len(rows) + beginning[group] for group, rows in alive.items())
        for group, rows in alive.items():
            self._queues[group].extendleft(row.anew() for row in reversed(rows))
        self.rows, self._beginning, self._cache, self._prefixes = [], {}, None, {}
        return hands or min(self._most, max(waiting))

    # rows ------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Lay out a new batch: as many rows a group as its longest queue fills."""
        self._groups = [g for g in self._groups if self._queues[g]]
        width = max(self._least, min(self._most, max(len(self._queues[g]) for g in self._groups)))
        firsts = [self._queues[g][0] for g in self._groups]
        self.rows = [spare.ended() for spare in firsts for _ in range(width)]
        self._decoding = None
        if self._parts.slotted:
            self._cache = Slots(self._parts.network, len(self.rows), self._parts.device)
            self._refill()
            return
        for g, group in enumerate(self._groups):
            queue = self._queues[group]
            for i in range(g * width, g * width + min(width, self._most, len(queue))):
                self.rows[i] = queue.popleft()
        prompts = [row.prompt for row in self.rows]
        self._cache = Window.of(self._parts.network, prompts, device=self._parts.device)

    def _refill(self) -> None:
        """Give free slots to waiting rows, once enough of a group are free."""
        assert isinstance(self._cache, Slots)
        width = self._width
        begun = self._beginning = {}
        for g, group in enumerate(self._groups):
            places, queue = range(g * width, g * width + min(width, self._most)), self._queues[group]
            free = [i for i in places if self.rows[i].finish]
            if queue and len(free) * _REFILL >= min(len(places), _REFILL * len(queue)):
                begun |= {i: (group, queue[n]) for n, i in enumerate(free[: len(queue)])}
        if not begun:
            return
        prefixes = self._read(list(begun.values()))
        self._cache.begin(list(begun), prefixes, [row.prompt[-1] for _, row in begun.values()])
        for i, (group, row) in begun.items():  # behind the reading: where memory ends in it, the queues still have the rows
            self.rows[i] = row
            self._queues[group].popleft()
        self._beginning = {}
        waiting = {(g, tuple(queue[0].prompt)) for g, queue in self._queues.items() if queue}
        self._prefixes = {key: prefix for key, prefix in self._prefixes.items() if key in waiting}
        self._decoding = None

    def _read(self, rows: Sequence[tuple[Group, Row]]) -> list[Prefix]:
        """The prefix of each row; each prompt is read once a group, together with others that take as many columns."""
        keys = [(group, tuple(row.prompt)) for group, row in rows]
        todo: dict[tuple[Group, int], list[tuple[int, ...]]] = {}
        for group, prompt in dict.fromkeys(keys):
            if (group, prompt) not in self._prefixes:
                todo.setdefault((group, columns(prompt)), []).append(prompt)
        for (group, wide), prompts in todo.items():
            together = max(1, _PREFIX_TOKENS.get(self._parts.device.type, 1024) // max(1, wide))
            with self._parts.adapters.use(self._groups, only=self._groups.index(group)):
                for start in range(0, len(prompts), together):
                    part = prompts[start : start + together]
                    read = self._cache.read(part)  # type: ignore[union-attr]
                    self._prefixes |= {(group, prompt): prefix for prompt, prefix in zip(part, read, strict=True)}
        return [self._prefixes[key] for key in keys]

    def _shrink(self, *, waiting: bool) -> None:
        """Drop ended rows, and groups of which nothing is left, when no waiting row needs their slots."""
        if self._parts.slotted and waiting and any(self._queues[g] for g in self._groups):
            left = [g for g in self._groups if self._queues[g] or any(not r.finish for r in self._of(g))]
            keep = [i for g in left for i in self._places(g)] if len(left) < len(self._groups) else None
        else:
            left, keep = self._groups, survivors(self.rows, len(self._groups), self._least)
        if keep is None:
            return
        assert self._cache is not None
        self._cache.keep(keep)
        self.rows = [self.rows[i] for i in keep]
        self._groups, self._decoding = left, None

    def _places(self, group: Group) -> range:
        g = self._groups.index(group)
        return range(g * self._width, (g + 1) * self._width)

    def _of(self, group: Group) -> list[Row]:
        return [self.rows[i] for i in self._places(group)]

    # tokens ----------------------------------------------------------------------------------------------------------

    def _draw(self) -> list[Row]:
        assert self._cache is not None
        before = self.alive
        steps = 1 if self._parts.device.type == "cpu" else _LOOK_EVERY
        decodings = [r.draw.decoding for r in self.rows]
        self._decoding = self._decoding or RowDecoding.of(decodings, self._parts.vocabulary, self._parts.device)
        uniform = torch.from_numpy(np.stack([r.uniforms(steps) for r in self.rows])).to(self._parts.device)
        drawn, bound = [], self._bound()
        with self._parts.adapters.use(self._groups):
            for step in range(steps):
                logits = self._cache.logits()
                token, bound = next_token(logits, self._decoding, uniform[:, step], bound)
                # NaN and +inf are the largest; -inf alone only forbids a token
                drawn.append(torch.where(logits.amax(-1).isfinite(), token, _BROKEN))
                self._cache.extend(token)
        if bound is not None and self._decoding.cuts is not None:
            for place, value in zip(self._decoding.cuts.places, bound[:, 0].tolist(), strict=True):
                self.rows[place].bound = value
        for row, tokens in zip(self.rows, torch.stack(drawn, 1).tolist(), strict=True):
            for token in tokens:
                self._extend(row, token)
        if self._parts.slotted:
            self._cache.free([i for i, row in enumerate(self.rows) if row.finish])  # type: ignore[union-attr]
        return [row for row in before if row.finish]

    def _bound(self) -> Tensor | None:
        """Mirostat's bounds, which stay with their rows while these change places; None where no row has one."""
        cuts = self._decoding.cuts if self._decoding else None
        if cuts is None or "mirostat_tau" not in cuts.used:
            return None
        rows = [self.rows[place] for place in cuts.places]
        begun = [2 * row.draw.decoding.mirostat_tau if row.bound is None else row.bound for row in rows]
        return torch.tensor(begun, dtype=torch.float32, device=self._parts.device)[:, None]

    def _extend(self, row: Row, token: int) -> None:
        if row.finish:
            return
        if token == _BROKEN:
            row.finish = "failed"
            return
        row.new.append(token)
        stop = row.draw.decoding.stop
        if token in self._parts.codec.ends_by(stop):
            row.finish = "stop"
        elif len(row.new) >= row.limit:
            row.finish = "length"
        elif stop and self._stopped(row, token, stop):
            row.finish = "stop"

    def _stopped(self, row: Row, token: int, stop: Sequence[str]) -> bool:
        """Whether `token` completes a stop string: it is looked for in the text that the token can have changed."""
        if row.tail is None:
            row.tail = self._parts.codec.tail()
        changed = row.tail.push(token)
        text = row.tail.text[max(0, changed - max(map(len, stop)) + 1) :]
        return any(s in text for s in stop)
