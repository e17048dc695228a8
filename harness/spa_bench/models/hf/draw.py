"""Draws answers from a network of transformers: rows decoded together until a stop string, an end or a limit, each for itself.

Decoding keeps at least four rows a group (padded), because products with fewer rows take other CPU kernels and change the
last bits; slots.py says where a row's numbers lie. So in float32 on one CPU a completion does not depend on its company.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch

from spa_bench.models.base import Beams
from spa_bench.models.beams import Beam, BeamSearch
from spa_bench.models.hf.adapters import Adapters
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.failures import broken, no_room, out_of_memory, within_memory
from spa_bench.models.hf.packed import PackedLinears
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.row_room import RowRoom
from spa_bench.models.hf.rows import MIN_ROWS, Row
from spa_bench.models.hf.search import Decoder, Searched
from spa_bench.models.hf.stream import Group, Parts, Stream
from spa_bench.support.interrupt import asked, pause_point
from spa_bench.types import Completion, Member, Request


class Drawer:
    """Draws answers from `network`, which reads `context` tokens at most."""

    def __init__(
        self,
        network: Readable,
        codec: Codec,
        adapters: Adapters,
        *,
        context: int,
        vocabulary: int,
        device: torch.device,
        batch: int | None,
    ):
        self._network, self._codec, self._adapters = network, codec, adapters
        self._context, self._device = context, device
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

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate. Each completion comes when its last token is drawn; the longest prompts begin first.

        When memory runs out, the rows in hand begin again, half as many; one that does not fit alone fails with that cause.
        """
        queues: dict[Group, deque[Row]] = {}
        for row in self._encoded(requests):
            if row.limit < 1:
                yield no_room(row.request, self._context)
            else:
                queues.setdefault(members[row.request.member].adapter, deque()).append(row)
        whole, most = len(queues), sys.maxsize  # groups, and rows a group, that are decoded together
        while queues:
            active = {g: queues[g] for g in [*queues][:whole]}
            columns = (len(row.prompt) + row.limit for rows in active.values() for row in rows)
            stream = Stream(self._parts, active, min(most, self._rows_a_group(len(active), columns)))
            while not stream.over:
                if not stream.alive:
                    pause_point()
                done = within_memory(partial(stream.turn, begin=not asked()))
                self.together = max(self.together, len(stream.rows))
                if done is None:
                    break
                yield from map(self._complete, done)
            else:
                queues = {g: rows for g, rows in queues.items() if rows}
                continue
            largest = stream.give_back()
            if largest > 1:
                most = largest // 2
            elif len(active) > 1:
                whole = 1
            else:  # the longest prompts come first: what follows may fit
                [queue] = active.values()
                lost = queue.popleft()
                yield out_of_memory(lost.request, len(lost.prompt))
                queues = {g: rows for g, rows in queues.items() if rows}
                whole, most = len(queues), sys.maxsize

    def _encoded(self, requests: Sequence[Request]) -> list[Row]:
        """The rows of `requests`, the longest prompts first, the draws of a prompt together."""
        rows = []
        for request in requests:
            prompt = self._codec.before(request)
            limit = min(request.decoding.max_new_tokens, self._context - len(prompt))
            rows.append(Row(request=request, prompt=prompt, limit=limit))
        return sorted(rows, key=lambda r: (-len(r.prompt), r.request.problem_id, r.request.member, r.request.draw))

    def _rows_a_group(self, groups: int, columns: Iterable[int]) -> int:
        """Rows of each of so many groups that fit, by the `columns` that each row may take."""
        return max(MIN_ROWS, self._room.rows(max(columns)) // groups)

    def _complete(self, row: Row) -> Completion:
        """The completion up to the first stop string, counting all tokens that were drawn before it was complete."""
        if row.finish == "failed":
            return broken(row.request, len(row.new))
        new, finish, stop = row.new, row.finish or "length", row.request.decoding.stop
        text = self._codec.text(new)
        if any(s in text for s in stop):
            finish = "stop"
            while len(new) > 1 and any(s in self._codec.text(new[:-1]) for s in stop):
                new = new[:-1]
            text = self._codec.text(new)
            text = text[: min(p for s in stop if (p := text.find(s)) >= 0)]
        return Completion(key=row.request.key, text=text, tokens=len(new), finish=finish, seed=row.request.seed)

    def diverse_beams(self, requests: Sequence[Request], member: Member, search: BeamSearch) -> Iterator[Beams]:
        """See BeamModel.diverse_beams."""
        decoder = Decoder(
            network=self._network,
            device=self._device,
            ends=self._codec.ends,
            text=self._codec.last_text,
            least_rows=MIN_ROWS,
        )
        waiting: list[tuple[Request, Searched]] = []
        for request, prompt in zip(requests, [self._codec.before(r) for r in requests], strict=True):
            limit = min(request.decoding.max_new_tokens, self._context - len(prompt))
            if limit < 1:
                yield Beams(request, ((no_room(request, self._context),),), 0)
            else:
                waiting.append((request, Searched(prompt=prompt, limit=limit, stop=request.decoding.stop)))
        waiting.sort(key=lambda pair: -len(pair[1].prompt))
        columns = [len(searched.prompt) + searched.limit for _, searched in waiting]
        usual = most = max(1, self._rows_a_group(1, columns or [1]) // (search.groups * search.width))
        while waiting:
            now = waiting[:most]
            with self._adapters.use([member.adapter]):
                done = within_memory(partial(decoder.search, [prompt for _, prompt in now], search))
            if done is None and len(now) > 1:
                most = len(now) // 2
                continue
            for request, searched in now:
                if done is None:
                    most = usual  # the longest prompts come first: what follows may fit
                    yield Beams(request, ((out_of_memory(request, len(searched.prompt)),),), 0)
                elif searched.broken:
                    yield Beams(request, ((broken(request, searched.steps),),), searched.drawn)
                else:
                    yield Beams(
                        request, tuple(self._beams(request, searched, group) for group in searched.groups), searched.drawn
                    )
            waiting = waiting[len(now) :]

    def _beams(self, request: Request, prompt: Searched, group: Sequence[Beam]) -> tuple[Completion, ...]:
        """The completions of a group whose search is over, best first."""
        return tuple(
            self._complete(
                Row(
                    request=request,
                    prompt=prompt.prompt,
                    limit=prompt.limit,
                    new=list(b.tokens),
                    finish="stop" if b.tokens[-1] in self._codec.ends else "length",
                )
            )
            for b in group
        )
