"""Draws answers from a network of transformers: batches of rows by member, decoded until a stop string, an end or a limit.

Decoding keeps at least four rows a member (padded), because products with fewer rows take other CPU kernels and change the
last bits. It begins every row at a multiple of 16 columns, because attention adds in lanes. So in float32 on one machine a
completion does not depend on its batch, up to 512 columns of prompt and answer together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from spa_bench.models.base import Beams
from spa_bench.models.beams import Beam, BeamSearch
from spa_bench.models.hf.adapters import Adapters
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.failures import broken, no_room, out_of_memory, within_memory
from spa_bench.models.hf.rows import MIN_ROWS, Row, survivors
from spa_bench.models.hf.sampling import RowDecoding, choose, uniforms
from spa_bench.models.hf.search import Decoder, Searched
from spa_bench.models.hf.window import Window
from spa_bench.support.interrupt import pause_point
from spa_bench.types import Completion, Member, Request

_BROKEN = -1  # in place of a token: the row's logits are not finite
_STOP_EVERY = 8  # steps between two looks at stop strings


class Drawer:
    """Draws answers from `network`, which reads `context` tokens at most; `block` is that of rows.padded."""

    def __init__(
        self,
        network: Any,
        codec: Codec,
        adapters: Adapters,
        *,
        context: int,
        vocabulary: int,
        device: torch.device,
        block: int,
        batch: int | None,
    ):
        self._network, self._codec, self._adapters = network, codec, adapters
        self._context, self._vocabulary, self._device, self._block, self._batch = context, vocabulary, device, block, batch

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate. Requests of about the same prompt length are decoded together.

        When memory runs out, the batch is halved and decoded again; a request that does not fit alone fails with that cause.
        """
        queues: dict[int, list[Row]] = {}
        for request, prompt in zip(requests, [self._codec.before(r) for r in requests], strict=True):
            limit = min(request.decoding.max_new_tokens, self._context - len(prompt))
            if limit < 1:
                yield no_room(request, self._context)
            else:
                queues.setdefault(request.member, []).append(Row(request=request, prompt=prompt, limit=limit))
        for rows in queues.values():
            rows.sort(key=lambda r: (-len(r.prompt), r.request.problem_id, r.request.draw))
        whole, most = len(queues), sys.maxsize  # members, and rows a member, that are decoded together
        while queues:
            pause_point()
            active = sorted(queues)[:whole]
            size = min(most, self._rows_a_member(len(active)))
            batch = {m: queues[m][:size] for m in active}
            done = within_memory(partial(self._decode, batch, members))
            if done is None and (largest := max(map(len, batch.values()))) > 1:
                most = largest // 2
            elif done is None and len(batch) > 1:
                whole = 1
            else:
                yield from done or [out_of_memory(row.request, len(row.prompt)) for row in batch[active[0]]]
                if done is None:  # the longest prompts come first: what follows may fit
                    whole, most = len(queues), sys.maxsize
                queues |= {m: queues[m][size:] for m in active}
                queues = {m: rows for m, rows in queues.items() if rows}

    def _rows_a_member(self, active: int) -> int:
        # 128 rows keep a small model's activations in the CPU's cache; a GPU wants 32 a member whatever their number
        default = 128 if self._device.type == "cpu" else 32 * active
        return max(MIN_ROWS, (self._batch or default) // active)

    @torch.inference_mode()
    def _decode(self, batch: Mapping[int, list[Row]], members: Sequence[Member]) -> list[Completion]:
        """Decode rows grouped by member, dropping finished ones as soon as enough of them are done."""
        rows: list[Row] = []
        width = max(MIN_ROWS, *(len(part) for part in batch.values()))
        for part in batch.values():
            spare = part[0]
            fill = [
                Row(request=spare.request, prompt=spare.prompt, limit=0, new=[], finish="stop")
                for _ in range(width - len(part))
            ]
            rows += [*(row.anew() for row in part), *fill]
        window = Window.of(self._network, [r.prompt for r in rows], block=self._block, device=self._device)
        steps = max(r.limit for r in rows)
        noise = np.zeros((len(rows), steps), np.float32)
        for i, row in enumerate(rows):
            if row.limit and row.request.decoding.temperature > 0:
                noise[i, : row.limit] = uniforms(row.request.seed, row.limit)
        uniform = torch.from_numpy(noise).to(self._device)
        decoding = RowDecoding.of([r.request.decoding for r in rows], self._vocabulary, self._device)
        alive = rows
        with self._adapters.use([members[m].adapter for m in batch]):
            for step in range(steps):
                logits = window.logits()
                token = choose(logits, decoding, uniform[:, step])
                # NaN and +inf are the largest; -inf alone only forbids a token
                drawn = torch.where(logits.amax(-1).isfinite(), token, _BROKEN).tolist()
                self._extend(alive, drawn, check_stops=step % _STOP_EVERY == _STOP_EVERY - 1)
                if all(r.finish for r in alive):
                    break
                keep = survivors(alive, len(batch))
                if keep is not None:
                    index = torch.tensor(keep, device=self._device)
                    alive = [alive[i] for i in keep]
                    token, uniform, decoding = token[index], uniform[index], decoding.select(index)
                    window.keep(index)
                window.extend(token)
        return [self._complete(r) for r in rows if r.limit]

    def _extend(self, rows: Sequence[Row], tokens: Sequence[int], *, check_stops: bool) -> None:
        for row, token in zip(rows, tokens, strict=True):
            if row.finish:
                continue
            if token == _BROKEN:
                row.finish = "failed"
                continue
            row.new.append(token)
            if token in self._codec.ends:
                row.finish = "stop"
            elif len(row.new) >= row.limit:
                row.finish = "length"
            elif check_stops and row.request.decoding.stop:
                text = self._codec.text(row.new)
                if any(s in text for s in row.request.decoding.stop):
                    row.finish = "stop"

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
            block=self._block,
        )
        waiting: list[tuple[Request, Searched]] = []
        for request, prompt in zip(requests, [self._codec.before(r) for r in requests], strict=True):
            limit = min(request.decoding.max_new_tokens, self._context - len(prompt))
            if limit < 1:
                yield Beams(request, ((no_room(request, self._context),),), 0)
            else:
                waiting.append((request, Searched(prompt=prompt, limit=limit, stop=request.decoding.stop)))
        waiting.sort(key=lambda pair: -len(pair[1].prompt))
        usual = most = max(1, self._rows_a_member(1) // (search.groups * search.width))
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
