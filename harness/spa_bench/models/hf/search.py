"""Diverse beam search over a network of transformers: see beams.py for the search, hf.py for the model.

The beams of all prompts that have not ended are the rows of one batch, at least four (padded), so that the answers to a
prompt do not depend on the other prompts. transformers 5 no longer has group beam search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spa_bench.models.beams import Beam, BeamSearch, Groups, advance, candidates_needed, start
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.window import Window

LastText = Callable[[Sequence[int], int], str]  # see Codec.last_text


@dataclass(kw_only=True)
class Searched:
    """One prompt and its beams so far."""

    prompt: list[int]
    limit: int  # new tokens
    stop: tuple[str, ...]
    ends: frozenset[int]  # the tokens that end an answer
    groups: Groups = ()
    drawn: int = 0  # tokens of all beams, abandoned ones included
    broken: bool = False  # logits were not finite
    rows: dict[tuple[int, int], int] = field(default_factory=dict)  # row of each beam that continues

    @property
    def steps(self) -> int:
        """Tokens of the longest beam."""
        return max(len(beam.tokens) for group in self.groups for beam in group)


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The parts of a model that the search needs."""

    network: Readable
    device: torch.device
    text: LastText
    least_rows: int

    @torch.inference_mode()
    def search(self, prompts: Sequence[Searched], search: BeamSearch) -> Sequence[Searched]:
        """`prompts`, searched in place until all of their beams have ended or their logits broke."""
        for prompt in prompts:
            prompt.groups, prompt.drawn, prompt.broken = start(search), 0, False
        # one row a prompt reads it; the beams share that row
        for i, prompt in enumerate(prompts):
            prompt.rows = {(g, 0): i for g in range(search.groups)}
        rows = [p.prompt for p in prompts] + [prompts[0].prompt] * (self.least_rows - len(prompts))
        window = Window.of(self.network, rows, device=self.device)
        while True:
            index, token = self._advance(prompts, window.logits(), search)
            if not index:
                return prompts
            spare = self.least_rows - len(index)
            index, token = index + index[:1] * spare, token + token[:1] * spare
            if index != list(range(len(window))):
                window.keep(index)
            window.extend(torch.tensor(token, device=self.device))

    def _advance(self, prompts: Sequence[Searched], logits: Tensor, search: BeamSearch) -> tuple[list[int], list[int]]:
        """(row it comes from, last token) of each beam that continues; `prompts` are advanced by one step."""
        sound = logits.amax(-1).isfinite().tolist()
        count = min(candidates_needed(search), logits.shape[-1])
        likeliest = torch.log_softmax(logits.float(), -1).topk(count, dim=-1)
        values, tokens = likeliest.values.tolist(), likeliest.indices.tolist()
        index: list[int] = []
        last: list[int] = []
        for prompt in prompts:
            if not prompt.rows:
                continue
            if not all(sound[row] for row in prompt.rows.values()):
                prompt.broken, prompt.rows = True, {}
                continue
            likely = {
                place: [(t, v) for t, v in zip(tokens[row], values[row], strict=True) if v > -torch.inf]
                for place, row in prompt.rows.items()
            }
            moved = advance(prompt.groups, likely, search)
            prompt.groups = tuple(tuple(self._ended(beam, prompt) for beam in group) for group in moved)
            rows = {}
            for g, (group, before) in enumerate(zip(prompt.groups, moved, strict=True)):
                prompt.drawn += sum(not beam.ended for beam in before)
                for b, beam in enumerate(group):
                    if not beam.ended:
                        rows[g, b] = len(index)
                        index.append(prompt.rows[g, beam.parent])
                        last.append(beam.tokens[-1])
            prompt.rows = rows
        return index, last

    def _ended(self, beam: Beam, prompt: Searched) -> Beam:
        """`beam`, ended where its last token ends the answer, completes a stop string or is the last one allowed."""
        if beam.ended:
            return beam
        ended = beam.tokens[-1] in prompt.ends or len(beam.tokens) >= prompt.limit
        if not ended and prompt.stop:
            text = self.text(beam.tokens, max(map(len, prompt.stop)))  # a stop string that is new ends in the last token
            ended = any(s in text for s in prompt.stop)
        return replace(beam, ended=True) if ended else beam
