"""The members' scores of each option, from one stacked pass over the tokens of `models.options` that is reduced at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spa_bench.errors import ModelError
from spa_bench.models.base import OptionScores
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.output_layer import OutputLayer
from spa_bench.models.hf.products import LEAST, least_rows
from spa_bench.models.hf.reading import Readable
from spa_bench.models.hf.rows import padded
from spa_bench.models.hf.token_sums import token_sums
from spa_bench.models.options import Encoded, IntArray

FloatArray = NDArray[np.float64]
_LOGIT_BYTES = 1 << 28  # room for the logits of one pass


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A network with K members that reads rows of tokens."""

    network: Readable
    device: torch.device
    vocabulary: int
    members: int
    half: bool  # whether the network computes in a type of 16 bits
    adapters: Callable[[], AbstractContextManager[Any]]  # in which row group i runs through member i

    def read(self, problems: Sequence[Encoded], most: int) -> list[OptionScores]:
        """The scores of `problems`, `most` rows a member at once.

        Where memory runs out, it tries half as many rows. Raises ModelError when a row does not fit alone, or logits are not
        finite.
        """
        keep = max(least_rows(self.device), *(p.keep for p in problems))
        most = max(1, min(most, _LOGIT_BYTES // (4 * self.members * keep * self.vocabulary)))
        while (scores := within_memory(partial(self._read, problems, most))) is None:
            if most == 1:
                longest = max(problems, key=lambda p: p.longest)
                raise ModelError(
                    f"problem {longest.problem}: out of memory with {longest.longest} tokens for {self.members} members; "
                    f"use a smaller dtype or a smaller --batch-size"
                )
            most //= 2
        return scores

    @torch.inference_mode()
    def _read(self, problems: Sequence[Encoded], most: int) -> list[OptionScores]:
        rows = [(i, j, row) for i, p in enumerate(problems) for j, row in enumerate(p.rows)]
        of_row: dict[tuple[int, int], _RowScores] = {}
        with self.adapters():
            for start in range(0, len(rows), most):
                part = rows[start : start + most]
                wanted = [_wanted(problems[i], j) for i, j, _ in part]
                scores = self._pass([row for _, _, row in part], wanted)
                of_row |= {(i, j): score for (i, j, _), score in zip(part, scores, strict=True)}
        return [_of_problem(p, [of_row[i, j] for j in range(len(p.rows))]) for i, p in enumerate(problems)]

    def _pass(self, rows: Sequence[IntArray], wanted: Sequence[_Wanted]) -> list[_RowScores]:
        """The scores of some rows: the network reads them once for all members."""
        tails = [max(len(text) for _, text in w.texts) for w in wanted]
        logits, states = self._logits(rows, tails)  # (K, places, V) and (K, places, d)
        behind = np.cumsum(tails)  # each row's places end before it
        texts = [(i, number, text) for i, w in enumerate(wanted) for number, text in w.texts]
        place = np.concatenate([np.arange(behind[i] - len(text), behind[i]) for i, _, text in texts])
        at, token = (torch.from_numpy(a).to(self.device) for a in (place, np.concatenate([t.astype(int) for *_, t in texts])))
        logprobs = logits.log_softmax(-1)[:, at, token].double().cpu().numpy()
        greedy = (logits.argmax(-1)[:, at] == token).cpu().numpy()
        starts = np.cumsum([0, *(len(text) for *_, text in texts)])[:-1]
        sums, same = np.add.reduceat(logprobs, starts, axis=1), np.logical_and.reduceat(greedy, starts, axis=1)
        results = [_RowScores({}, []) for _ in rows]
        for column, (i, number, _) in enumerate(texts):
            results[i].options[number] = sums[:, column], same[:, column]
        ends = [(i, int(behind[i]) - 1 - back) for i, w in enumerate(wanted) for back in w.contexts]
        if ends:
            at_ends = [place for _, place in ends]
            spread = first_tokens(logits[:, at_ends] if states is None else self._layer.logits(states[:, at_ends]))
            for (i, _), kl, js, entropy in zip(ends, *spread, strict=True):
                results[i].first.append((kl, js, entropy))
        return results

    @cached_property
    def _layer(self) -> OutputLayer:
        return OutputLayer(self.network.network)

    def _logits(self, rows: Sequence[IntArray], tails: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """The float32 logits (K, places, V) of the tokens after each row's last places, as many as its tail.

        Of a network of 16 bits also what its output layer got there, (K, places, d): divergences are computed from it in
        float32, and options from the network's own logits, as lm-eval has them.
        """
        pairs = [(row[:-tail].tolist(), row[-tail:].tolist()) for row, tail in zip(rows, tails, strict=True)]
        pairs += [pairs[0]] * max(0, -(-LEAST // self.members) - len(rows))  # a row is a block of columns at least
        ids, mask = padded(pairs, block=self.network.way.block)
        k = self.members
        ids, mask = ids.repeat(k, 1).to(self.device), mask.repeat(k, 1).to(self.device)
        position = (mask.cumsum(-1) - 1).clamp_min(0)
        least = least_rows(self.device)  # the output layer is one product a row, with as many rows
        keep = min(max(*tails, least), ids.shape[1])
        row = np.repeat(np.arange(len(rows)), tails)
        column = np.concatenate([np.arange(keep - tail, keep) for tail in tails])
        wanted = torch.from_numpy(row * keep + column).to(self.device)
        if self.half:
            arranged = self.network.arranged(ids, mask, position, keep=keep)
            states = self._layer.last_states(arranged.inputs, keep, arranged.place)
            states = states.reshape(k, len(pairs) * keep, *states.shape[2:])[:, wanted]
            return self._layer.logits(states, own=True), states
        logits = self.network(
            input_ids=ids, attention_mask=mask, position_ids=position, use_cache=False, logits_to_keep=keep
        ).logits[:, -keep:]
        return logits.reshape(k, len(pairs) * keep, -1)[:, wanted].float(), None


@dataclass(frozen=True)
class _Wanted:
    """The results that are read from one row."""

    texts: list[tuple[int, IntArray]]  # options, by number, whose text ends behind the row
    contexts: list[int]  # how far before the row's end a context ends, for each context that is looked at here


@dataclass(frozen=True)
class _RowScores:
    options: dict[int, tuple[FloatArray, NDArray[np.bool_]]]  # option -> log-probability (K,), greedy (K,)
    first: list[tuple[FloatArray, FloatArray, FloatArray]]  # of each context: as first_tokens has it


def _wanted(problem: Encoded, row: int) -> _Wanted:
    texts = [(number, text) for number, (place, text) in enumerate(problem.options) if place == row]
    return _Wanted(texts, [back for place, back in problem.contexts if place == row])


def _of_problem(problem: Encoded, rows: Sequence[_RowScores]) -> OptionScores:
    options = {number: score for row in rows for number, score in row.options.items()}
    ordered = [options[number] for number in range(len(problem.options))]
    logprobs = np.stack([logprob for logprob, _ in ordered], 1)
    if not np.isfinite(logprobs).all():
        member = int(np.argwhere(~np.isfinite(logprobs))[0][0])
        raise ModelError(
            f"problem {problem.problem}: the model's logits are not finite (NaN or infinite), with member {member}; use "
            "float32 or bfloat16, and look for NaN in the weights of the model and of its adapter"
        )
    kl, js, entropy = (np.mean(each, axis=0) for each in zip(*(f for row in rows for f in row.first), strict=True))
    tokens = tuple(len(text) for _, text in problem.options)
    return OptionScores(
        problem=problem.problem,
        logprobs=logprobs,
        greedy=np.stack([g for _, g in ordered], 1),
        tokens=tokens,
        kl=kl,
        js=js,
        entropy=entropy,
    )


def first_tokens(logits: Tensor) -> tuple[FloatArray, FloatArray, FloatArray]:
    """KL (C, K, K), Jensen-Shannon (C, K, K) and entropy (C, K) of next-token distributions with `logits` (K, C, V), in nats.

    The definitions are those of metrics.divergence. All in float64: it is one token a context, and a member's entropy is the
    same beside any others. NaN where a logit is.
    """
    contexts, k = logits.shape[1], len(logits)
    found = token_sums(logits, k, top=1, dtype=torch.float64)
    if found is None:
        unknown = np.full((contexts, k, k), np.nan)
        return unknown, unknown, unknown[..., 0]
    cross, pairs = found.cross, found.pairs + found.pairs.mT
    negative = torch.diagonal(cross, dim1=1, dim2=2)
    kl = (negative[:, :, None] - cross).clamp_min(0).masked_fill(found.never > 0, np.inf)
    js = ((negative[:, :, None] + negative[:, None] - pairs) / 2 + np.log(2)).clamp_min(0)
    js.diagonal(dim1=1, dim2=2).zero_()
    return kl.cpu().numpy(), js.cpu().numpy(), (-negative).clamp_min(0).cpu().numpy()
