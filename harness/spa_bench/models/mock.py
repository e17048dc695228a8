"""A model without a network: deterministic answers in no time, for tests and for dry runs (`--engine mock`).

Its tokens are the bytes of a text. Every number follows from the text, the seed and the adapter by hashing, so that a run has
all of its parts and the same bytes on every machine, and says nothing about any model. Adapters are made, not trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.answers import no_room
from spa_bench.models.base import Batches, OptionScores
from spa_bench.models.engine import STAGES, LoraAdapter, Stage
from spa_bench.support.seeds import derive_seed
from spa_bench.support.text import before_stop
from spa_bench.types import Asked, Completion, Decoding, DivergenceSums, Finish, Member, Messages, Request

NAME = "mock"
_REPLIES = (
    "    return None\n",
    "    return 0\n",
    "    return sum(map(len, map(str, locals().values())))\n",
    "    pass\n",
    "    return list(locals().values())[0]\n",
)
_VOCABULARY = 32  # tokens of the distributions that it makes up
_NATS = 2.0  # spread of their logits


@dataclass(frozen=True, kw_only=True)
class MockOptions:
    """The options of the mock engine."""

    replies: str = ""  # a JSONL file of replies: {"text": ..., "problem"?: ..., "member"?: ..., "draw"?: ...}; "": its own
    context: int = 100_000  # bytes of prompt and answer together

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.context < 2:
            raise ValueError(f"context is {self.context}; it must be at least 2")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A scripted answer, to the requests that it fits."""

    text: str
    problem: str | None = None  # None: any
    member: int | None = None
    draw: int | None = None

    def fits(self, request: Request) -> bool:
        """Whether this may answer `request`."""
        own = ((self.problem, request.problem_id), (self.member, request.member), (self.draw, request.draw))
        return all(wanted is None or wanted == given for wanted, given in own)

    @property
    def narrow(self) -> int:
        """How many of problem, member and draw it names: the narrowest replies that fit are taken."""
        return sum(value is not None for value in (self.problem, self.member, self.draw))


def read_replies(file: Path) -> tuple[Reply, ...]:
    """The replies of a JSONL file. Raises UsageError on one line, naming the line of the file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the replies in {file}: {error}") from error
    shapes: dict[str, type] = {"text": str, "problem": str, "member": int, "draw": int}
    replies = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict) or "text" not in row or not row.keys() <= shapes.keys():
            raise UsageError(
                f"{file}, line {number}: a reply is an object with text, and problem, member or draw; got {line!r}"
            )
        if odd := [key for key, value in row.items() if type(value) is not shapes[key]]:
            raise UsageError(f"{file}, line {number}: {odd[0]} is {row[odd[0]]!r}")
        replies.append(Reply(**row))
    if not replies:
        raise UsageError(f"{file} has no reply")
    return tuple(replies)


@dataclass(kw_only=True)
class MockModel:
    """See spa_bench.models.base.Model. It answers `replies`, of those that fit a request the narrowest.

    Among several the seed of the draw chooses, with the adapter; at temperature 0 problem and adapter, for the base the first.
    """

    replies: Sequence[Reply] = field(default_factory=lambda: [Reply(text=text) for text in _REPLIES])
    context: int = 100_000  # bytes of prompt and answer together
    name: str = NAME
    notes: tuple[str, ...] = ("engine mock: made-up answers and numbers, which say nothing about any model",)

    @property
    def engines(self) -> dict[str, str]:
        """See Model.engines."""
        return dict.fromkeys(STAGES, NAME)

    @property
    def unable(self) -> Mapping[Stage, str]:
        """See Model.unable."""
        return {}

    def describe(self) -> dict[str, object]:
        """Its name, a hash of its replies, and that its numbers are of no model."""
        content = json.dumps([[r.text, r.problem, r.member, r.draw] for r in self.replies])
        return {
            "name": self.name,
            "hash": hashlib.blake2b(content.encode(), digest_size=16).hexdigest(),
            "context": self.context,
            "made_up": True,
        }

    def numerics(self) -> dict[str, object]:
        """See Model.numerics."""
        return {"device": "cpu", "engine": NAME}

    def batches(self) -> Batches:
        """See Model.batches."""
        return Batches(None, 0)

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """See Model.batch_free: every answer is."""
        return True

    def close(self) -> None:
        """See Model.close: there is nothing to free."""

    def make_adapters(self, folder: Path, seeds: Sequence[int]) -> None:
        """See models.base.AdapterMaker."""
        for k, seed in enumerate(seeds):
            (folder / f"member-{k}").mkdir(parents=True)
            (folder / f"member-{k}" / "adapter_config.json").write_text(json.dumps({"mock": seed}) + "\n", encoding="utf-8")

    # answers ---------------------------------------------------------------------------------------------------

    def check_decoding(self, decoding: Decoding) -> None:
        """See ChecksDecoding: its replies follow no distribution that a decoding could change."""

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate. Raises ModelError where no reply fits a request."""
        for request in requests:
            before = _bytes(request.messages or request.prompt)
            limit = min(request.decoding.max_new_tokens, self.context - len(before))
            if limit < 1:
                yield no_room(request, self.context)
                continue
            new = before_stop(self._reply(request, members[request.member]), request.decoding.stop).encode()
            finish: Finish = "stop"
            if len(new) > limit:
                new, finish = new[:limit], "length"
            yield Completion(
                key=request.key, text=new.decode(errors="ignore"), tokens=max(1, len(new)), finish=finish, seed=request.seed
            )

    @cached_property
    def _general(self) -> list[Reply]:
        """The replies that fit every request."""
        return [reply for reply in self.replies if not reply.narrow]

    @cached_property
    def _narrow(self) -> list[Reply]:
        """The others."""
        return [reply for reply in self.replies if reply.narrow]

    def _reply(self, request: Request, member: Member) -> str:
        fitting = [reply for reply in self._narrow if reply.fits(request)]
        most = max((reply.narrow for reply in fitting), default=0)
        best = [reply for reply in fitting if reply.narrow == most] or self._general
        if not best:
            raise ModelError(
                f"no reply of the mock engine fits problem {request.problem_id}, member {request.member}, draw {request.draw}; "
                "give one in engine.replies without these keys"
            )
        adapter, greedy = _adapter(member), request.decoding.temperature == 0
        if greedy and not adapter:
            return best[0].text
        return best[derive_seed(request.problem_id if greedy else request.seed, adapter) % len(best)].text

    # numbers ---------------------------------------------------------------------------------------------------

    def check_options(self, asked: Sequence[Asked]) -> None:
        """See Model.check_options: options of any length fit."""

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """See Model.option_scores."""
        for one in asked:
            if one.problem_id in done:
                continue
            logprobs = np.array([[_logprob(_adapter(m), *option) for option in one.options] for m in members])
            first = self._sums("".join(one.options[0]), "", members, base=False, top=1)
            own = np.diagonal(first.cross)
            yield OptionScores(
                problem=one.problem_id,
                logprobs=logprobs,
                greedy=logprobs == logprobs.max(1, keepdims=True),
                tokens=tuple(max(1, len(text.encode())) for _, text in one.options),
                kl=np.maximum(own[:, None] - first.cross, 0.0),
                js=np.zeros_like(first.cross),
                entropy=-own,
            )

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """See Model.loglikelihood."""
        for request in requests:
            before = str(request.messages or request.prompt)
            yield request, _logprob(_adapter(members[request.member]), before, request.continuation), False

    def divergence(
        self,
        contexts: Sequence[tuple[str | Messages, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums | None]:
        """See Model.divergence. Members with equal adapters have equal distributions."""
        for prompt, continuation in contexts:
            fits = len(_bytes(prompt)) + len(_bytes(continuation)) < self.context
            yield self._sums(str(prompt), continuation, members, base=base, top=top) if fits else None

    def _sums(self, prompt: str, continuation: str, members: Sequence[Member], *, base: bool, top: int) -> DivergenceSums:
        import torch

        from spa_bench.models.hf.divergence import summed
        from spa_bench.models.hf.token_sums import token_sums

        names = [*map(_adapter, members), *([""] if base else [])]
        tokens = len(_bytes(continuation)) + 1
        logits = np.stack([_logits(name, prompt, continuation, tokens) for name in names])
        found = token_sums(torch.from_numpy(logits), len(members), top=min(top, _VOCABULARY), dtype=torch.float64)
        assert found is not None
        return summed([found], len(members), min(top, _VOCABULARY))

    # texts -----------------------------------------------------------------------------------------------------

    def encode_pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """See PairEncoder.encode_pair: a token is a byte, and the end token is 256."""
        return list(_bytes(prompt)) or [256], [*_bytes(completion), 256]

    def check_chat(self) -> None:
        """See ChatModel.check_chat: messages are taken."""

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """See ChatTrainable.as_chat."""
        text = _words(messages)
        return text[:-1] if messages and messages[-1][0] == "assistant" else text, "\n"

    def encode_chat(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """See ChatTrainable.encode_chat."""
        return self.encode_pair(prompt, completion)


def _words(messages: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{role}: {said}\n" for role, said in messages)


def _bytes(text: str | Messages) -> bytes:
    return (text if isinstance(text, str) else _words(text)).encode(errors="replace")


def _adapter(member: Member) -> str:
    """The content of a member's adapter, by its hash; "" for the base."""
    return "" if member.adapter is None else LoraAdapter.at(member.adapter).hash


def _logprob(adapter: str, before: str, text: str) -> float:
    """A made-up log-probability in nats: that of a byte is between -4 and 0, and depends a little on the adapter."""
    shared, own = (np.random.default_rng(derive_seed(name, before, text)).random() for name in ("", adapter))
    return -max(1, len(text.encode())) * 4.0 * (0.9 * shared + 0.1 * own)


def _logits(adapter: str, prompt: str, continuation: str, tokens: int) -> NDArray[np.float64]:
    """Made-up logits (T, V): most of them shared by all adapters."""
    shared, own = (
        np.random.default_rng(derive_seed(name, prompt, continuation)).normal(0.0, _NATS, (tokens, _VOCABULARY))
        for name in ("", adapter)
    )
    return 0.9 * shared + 0.1 * own
