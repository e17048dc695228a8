"""Draws answers from a network of transformers: rows decoded together until a stop string, an end or a limit, each for itself.

Decoding keeps at least four rows a group (padded), because products with fewer rows take other CPU kernels and change the
last bits; slots.py says where a row's numbers lie. So in float32 on one CPU a completion does not depend on its company.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from spa_bench.models.beams import Beam, BeamSearch
from spa_bench.models.engine import Draw, Drawn
from spa_bench.models.hf.adapters import Adapters
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.failures import broken, out_of_memory, within_memory
from spa_bench.models.hf.packed import PackedLinears
from spa_bench.models.hf.products import LEAST, least_rows
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.row_room import RowRoom
from spa_bench.models.hf.rows import Row
from spa_bench.models.hf.search import Decoder, Searched
from spa_bench.models.hf.stream import Group, Parts, Stream
from spa_bench.support.interrupt import asked, pause_point


@dataclass(frozen=True)
class DrawnBeams:
    """The result of a beam search for one draw."""

    draw: Draw
    groups: tuple[tuple[Drawn, ...], ...]  # best first in each; a single failed one where there is no answer
    drawn: int  # tokens of all beams, abandoned ones included


class Drawer:
    """Draws answers from `network`."""

    def __init__(
        self,
        network: Readable,
        codec: Codec,
        adapters: Adapters,
        *,
        vocabulary: int,
        device: torch.device,
        batch: int | None,
    ):
        self._network, self._codec, self._adapters = network, codec, adapters
        self._device = device
        self._room = RowRoom(network.network, vocabulary=vocabulary, device=device, asked=batch)
        self.together = 0  # the most rows that were decoded together so far
        self._parts = Parts(
            network=network,
            codec=codec,
            adapters=adapters,
            packed=PackedLinears(network.network),
            vocabulary=vocabulary,
            device=device,
        )

    def draw(self, draws: Sequence[Draw]) -> Iterator[Drawn]:
        """See Engine.draw. Each answer comes when its last token is drawn; the longest prompts begin first.

        When memory runs out, the rows in hand begin again, half as many; one that does not fit alone fails with that cause.
        """
        queues: dict[Group, deque[Row]] = {}
        for one in sorted(draws, key=lambda d: (-len(d.prompt), *d.key)):
            row = Row(draw=one, prompt=list(one.prompt), limit=one.limit)
            queues.setdefault(one.adapter.folder if one.adapter else None, deque()).append(row)
        whole, most = len(queues), sys.maxsize  # groups, and rows a group, that are decoded together
        while queues:
            active = {g: queues[g] for g in [*queues][:whole]}
            columns = (len(row.prompt) + row.limit for rows in active.values() for row in rows)
            least = least_rows(self._device)
            least = least if most >= least else LEAST  # after memory ran out: the last bits may differ, and texts come
            stream = Stream(self._parts, active, min(most, self._rows_a_group(len(active), columns)), least)
            while not stream.over:
                if not stream.alive:
                    pause_point()
                done = within_memory(partial(stream.turn, begin=not asked()))
                self.together = max(self.together, len(stream.rows))
                if done is None:
                    break
                yield from map(_drawn, done)
            else:
                queues = {g: rows for g, rows in queues.items() if rows}
                continue
            largest = stream.give_back()
            if largest > 1:
                most = largest // 2
            elif len(active) > 1:
                whole = 1
            elif most > 1:  # it had company before: slots of rows that ended, and what was read of waiting prompts
                most = 1
            else:  # the longest prompts come first: what follows may fit
                [queue] = active.values()
                lost = queue.popleft()
                yield out_of_memory(lost.draw)
                queues = {g: rows for g, rows in queues.items() if rows}
                whole, most = len(queues), sys.maxsize

    def _rows_a_group(self, groups: int, columns: Iterable[int]) -> int:
        """Rows of each of `groups` groups that fit, by the `columns` that each row may take."""
        return max(least_rows(self._device), self._room.rows(max(columns)) // groups)

    def beams(self, draws: Sequence[Draw], adapter: Group, search: BeamSearch) -> Iterator[DrawnBeams]:
        """The beams of each draw, in any order; they depend on the draw's prompt, limit and stop strings, and the search."""
        decoder = Decoder(
            network=self._network,
            device=self._device,
            text=self._codec.last_text,
            least_rows=least_rows(self._device),
        )
        waiting = [(d, self._search_of(d)) for d in draws]
        waiting.sort(key=lambda pair: -len(pair[1].prompt))
        columns = [len(searched.prompt) + searched.limit for _, searched in waiting]
        usual = most = max(1, self._rows_a_group(1, columns or [1]) // (search.groups * search.width))
        while waiting:
            now = waiting[:most]
            done = within_memory(partial(self._searched, decoder, [prompt for _, prompt in now], adapter, search))
            if done is None and len(now) > 1:
                most = len(now) // 2
                continue
            for draw, searched in now:
                if done is None:
                    most = usual  # the longest prompts come first: what follows may fit
                    yield DrawnBeams(draw, ((out_of_memory(draw),),), 0)
                elif searched.broken:
                    yield DrawnBeams(draw, ((broken(draw, searched.steps),),), searched.drawn)
                else:
                    groups = tuple(tuple(self._beam(draw, beam) for beam in group) for group in searched.groups)
                    yield DrawnBeams(draw, groups, searched.drawn)
            waiting = waiting[len(now) :]

    def _searched(
        self, decoder: Decoder, prompts: Sequence[Searched], adapter: Group, search: BeamSearch
    ) -> Sequence[Searched]:
        with self._adapters.use([adapter]):
            return decoder.search(prompts, search)

    def _search_of(self, draw: Draw) -> Searched:
        stop = draw.decoding.stop
        return Searched(prompt=list(draw.prompt), limit=draw.limit, stop=stop, ends=self._codec.ends_by(stop))

    def _beam(self, draw: Draw, beam: Beam) -> Drawn:
        ended = beam.tokens[-1] in self._codec.ends_by(draw.decoding.stop)
        return Drawn(key=draw.key, tokens=tuple(beam.tokens), finish="stop" if ended else "length")


def _drawn(row: Row) -> Drawn:
    if row.finish == "failed":
        return broken(row.draw, len(row.new))
    return Drawn(key=row.draw.key, tokens=tuple(row.new), finish=row.finish or "length")
