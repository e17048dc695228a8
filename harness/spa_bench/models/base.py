"""The model protocol: the only seam between the harness and torch, vLLM or a server."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.beams import BeamSearch
from spa_bench.models.engine import Stage
from spa_bench.types import Asked, Completion, DivergenceSums, Member, Messages, Request

if TYPE_CHECKING:
    from torch import nn

    from spa_bench.models.hf.stacked_lora import StackedLinear


@dataclass(frozen=True, kw_only=True)
class OptionScores:
    """The scores of the O options of one multiple-choice problem by K members."""

    problem: str
    logprobs: NDArray[np.float64]  # (K, O): log-probability in nats of each option's text after its context
    greedy: NDArray[np.bool_]  # (K, O): whether every token of the text is the likeliest
    tokens: tuple[int, ...]  # (O,): number of tokens of each option's text
    kl: NDArray[np.float64]  # (K, K): KL(P_i || P_j) of the first token after the context; mean over different contexts
    js: NDArray[np.float64]  # (K, K): Jensen-Shannon divergence, likewise; NaN, as kl and entropy, where no engine compares
    entropy: NDArray[np.float64]  # (K,), likewise


@dataclass(frozen=True)
class Batches:
    """How many rows a model reads together, which can change the last digits where Model.batch_free says no."""

    rows: int | None  # that the user asked for; None: the model's own choice
    refused: int  # times that memory ran out in this process, after each of which a batch was made smaller
    together: int = 0  # the most rows that were decoded together in this process


class Model(Protocol):
    """Answers requests for a mixture of members. `Request.member` is an index into `members`.

    `engines`: stage -> the name of the engine that does it, "none" where none can (spa_bench.models.engine.STAGES). `unable`:
    stage -> why no engine of this model can do it, on one line; what needs such a stage is refused, or has no value.
    """

    name: str
    context: int  # the most tokens of prompt and answer together
    notes: tuple[str, ...]  # lines for the user on how the model is read, where that is not as usual

    if TYPE_CHECKING:

        @property
        def engines(self) -> dict[str, str]: ...  # noqa: D102

        @property
        def unable(self) -> Mapping[Stage, str]: ...  # noqa: D102
    else:  # so that a subclass may have them as attributes or as properties
        engines: dict[str, str]
        unable: Mapping[Stage, str]

    def describe(self) -> dict[str, object]:
        """The model's part of a run's spec: its name and the hashes of weights and tokenizer."""
        ...

    def numerics(self) -> dict[str, object]:
        """Device, dtype, threads and CPU capability: everything that can change the last digits.

        An engine that does not train has its fingerprint under its own name.
        """
        ...

    def batches(self) -> Batches:
        """The rows that were asked for, and how often a batch was made smaller: for timings.json, outside the spec."""
        ...

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """Whether answers to `prompts`, (text or messages, new tokens), have the same bytes in every batch.

        Where they do not, the noise floor is measured: how much numerics alone change.
        """
        ...

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """One completion a request, in any order. A completion depends on its request and member alone.

        A prompt that leaves no room in the context yields a completion with finish "skipped" and no text. A prompt that cannot
        be answered (memory, logits that are not finite) yields one with finish "failed". Both say why in `failure`. A request
        with `messages` is asked through the chat template; raises ModelError, before anything is drawn, when there is none.
        """
        ...

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """(request, log-probability of its continuation in nats, whether it is the greedy one), in any order.

        Prompt and continuation are tokenised as lm-eval does, or apart where the request says so. Raises UsageError
        where they do not fit the context.
        """
        ...

    def check_options(self, asked: Sequence[Asked]) -> None:
        """Raise UsageError, naming the longest problem, where an option does not fit the context and may not be cut."""
        ...

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """The scores of each problem that is not `done`, in any order; all members in one pass.

        Tokens, cuts and sums are lm-eval's (HFLM.loglikelihood). Raises as check_options.
        """
        ...

    def divergence(
        self,
        contexts: Sequence[tuple[str | Messages, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums | None]:
        """For each (prompt or messages, continuation), in order: the sums from which divergences between members follow.

        Teacher-forced over the T tokens of the continuation, the end token included; temperature 1, no truncation; natural
        logarithm. The sums are within 1e-6 a token of those of metrics.token_sums in float64, and (K, T, V) numbers never leave
        the device. `base` says whether the KL from each member to the model without an adapter is wanted, `top` is the k of the
        top-k entropy and mass (the vocabulary where that is smaller). At the places in `again` the first member reads the
        continuation once more, in other company, for `noise`. None when prompt and continuation do not fit the context.

        Raises ModelError where logits are NaN or infinite, or memory ends with one continuation.
        """
        ...

    def close(self) -> None:
        """Free what the model holds beside this object: processes, workers, connections, memory of a GPU.

        Whoever loaded the model closes it, once, also after an error, and asks nothing of it afterwards.
        """
        ...


@dataclass(frozen=True)
class Beams:
    """The result of a beam search for one request."""

    request: Request
    groups: tuple[tuple[Completion, ...], ...]  # best first in each; a single failed completion when there is no answer
    drawn: int  # tokens of all beams, abandoned ones included


@runtime_checkable
class BeamModel(Protocol):
    """A model that can search with beams, as the sampler diverse-beam needs."""

    def diverse_beams(self, requests: Sequence[Request], member: Member, search: BeamSearch) -> Iterator[Beams]:
        """The beams of each request, in any order; they depend on the request, member and search alone.

        Stop strings and max_new_tokens are the request's; its temperature and seed have no effect. Failures are those of
        Model.generate.
        """
        ...


@runtime_checkable
class ChatModel(Protocol):
    """A model that says before generation whether it takes messages, as the sampler one-reply needs."""

    def check_chat(self) -> None:
        """Raise ModelError when the model has no chat template."""
        ...


def takes_messages(model: Model) -> bool:
    """Whether a model can be asked in messages, because it has a chat template."""
    if not isinstance(model, ChatModel):
        return False
    try:
        model.check_chat()
    except ModelError:
        return False
    return True


@runtime_checkable
class ServesMembers(Protocol):
    """A model on a server, which may have others beside it: see Member.served."""

    def check_served(self, names: Sequence[str]) -> None:
        """Raise ModelError where the server has no model of one of these names, or another one answers to it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What calls of a server took."""

    calls: int = 0  # that were answered
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of prompt_tokens
    new_tokens: int = 0
    lost: int = 0  # calls that were sent and whose answer never came whole: they may have been billed
    cost: float | None = None  # dollars at the user's prices; lost calls count at the most they can have cost; None: no prices

    def plus(self, other: Spending) -> Spending:
        """Both together: of a run that was stopped and resumes. There is a cost where one of them has one."""
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Spending(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            new_tokens=self.new_tokens + other.new_tokens,
            lost=self.lost + other.lost,
            cost=sum(costs) if costs else None,
        )

    def since(self, before: Spending) -> Spending:
        """What came after `before`, an earlier state of the same count."""
        return Spending(
            calls=self.calls - before.calls,
            prompt_tokens=self.prompt_tokens - before.prompt_tokens,
            cached_tokens=self.cached_tokens - before.cached_tokens,
            new_tokens=self.new_tokens - before.new_tokens,
            lost=self.lost - before.lost,
            cost=None if self.cost is None else self.cost - (before.cost or 0.0),
        )

    def words(self) -> str:
        """The spending in a few words, for messages."""
        tokens = f"{self.calls} calls, {self.prompt_tokens} tokens of prompts, {self.new_tokens} of answers"
        return tokens if self.cost is None else f"{dollars(self.cost)} ({tokens})"


def dollars(amount: float) -> str:
    """`amount` with at least two decimals and at least three digits that count: $12.50, $0.0000123."""
    decimals = 2 if amount == 0 else max(2, 2 - math.floor(math.log10(abs(amount))))
    return f"${amount:.{decimals}f}"


@runtime_checkable
class PaidModel(Protocol):
    """A model whose calls are counted, and may cost money."""

    def take_spent(self) -> Spending:
        """What calls took since the last time that this was asked, or since the first call: what a run has to add."""
        ...

    def watch_spent(self, write: Callable[[Spending], None] | None) -> None:
        """While calls are answered, give `write` about every second what take_spent would give; None: no longer."""
        ...


@runtime_checkable
class HubModel(Protocol):
    """A model whose files may be a hub's."""

    @property
    def commit(self) -> str | None:
        """The hub's commit that the files are of; None where they are no hub's."""
        ...


@runtime_checkable
class PairEncoder(Protocol):
    """A model whose tokenizer can be used, as a relevance in nats a token needs."""

    def encode_pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt or messages, and of the completion with the end token; encoded separately.

        The completion's tokens, put behind the prompt's, add its text and nothing else.
        """
        ...


@runtime_checkable
class ChatTrainable(ChatModel, Protocol):
    """What training on chats needs of a model: see spa_bench.spa.data.templates."""

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """(text before an answer to `messages` in generation, text that the template puts behind an answer).

        Where the last message is the assistant's, the text ends with it: the answer is begun. Raises ModelError when there is
        no chat template, or it refuses the messages.
        """
        ...

    def encode_chat(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of its completion, both of as_chat: no special tokens but those in the texts.

        The completion includes `ending` up to its first token that ends an answer in generation. Where `ending` has none, the
        completion gets the end token instead, as in encode_pair.
        """
        ...


@runtime_checkable
class PairModel(PairEncoder, Protocol):
    """What reading training pairs needs of a model: their tokens, and how many of them fit.

    Pairs that a chat template made need a ChatTrainable too.
    """

    name: str
    context: int  # tokens that prompt and completion may have together


@runtime_checkable
class LoraTrainable(PairModel, Protocol):
    """What attribution and training need of a model: its network, and the layers that LoRA changes."""

    @property
    def network(self) -> nn.Module:
        """The torch module, frozen, with stacked LoRA layers attached on demand."""
        ...

    def lora_layers(self, targets: str | Sequence[str]) -> dict[str, StackedLinear]:
        """The layers that LoRA changes, by path, wrapped for stacking; see stacked_lora.target_modules for `targets`.

        Raises ModelError when nothing matches, or a match is no linear layer.
        """
        ...

    def lora_note(self, targets: str | Sequence[str]) -> str:
        """A line on the linear layers that `targets` mean and LoRA cannot change; "" where it changes them all."""
        ...


@runtime_checkable
class StageModel(LoraTrainable, Protocol):
    """What the stages of SPA need of a model: that it can be trained, and what a stage is kept under. See spa_bench.spa."""

    def describe(self) -> dict[str, object]:
        """As Model.describe."""
        ...

    def training_numerics(self) -> dict[str, object]:
        """As Model.numerics, of the engine that trains alone: another engine that draws does not change what is trained."""
        ...

    def peft_differs(self, folder: Path) -> str:
        """Why PEFT does not give the logits of the adapter in `folder` that this model gives; "" where it does."""
        ...


@runtime_checkable
class AdapterMaker(Protocol):
    """A model that makes adapters by itself, without the stages of SPA."""

    def make_adapters(self, folder: Path, seeds: Sequence[int]) -> None:
        """Write an adapter for each seed into `folder`/member-K."""
        ...


def trainable(model: Model) -> StageModel:
    """`model`, as one that SPA can train. Raises UsageError for one that only answers."""
    if not isinstance(model, StageModel):
        raise UsageError(f"model {model.name!r} cannot be trained; use a sampler without adapters, such as base")
    return model
