"""The sampler protocol: a sampler draws answers to prompts from a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spa_bench.cards.kinds import CardKind, beside
from spa_bench.cards.merging import Merging
from spa_bench.cards.registry import kind_of
from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import CardError
from spa_bench.models.base import ChatModel, Model
from spa_bench.types import Begun, Completion, Key, Member, Prompt


def after_choice(completion: Completion, begun: Begun | None) -> Completion:
    """`completion` as the text after the choice of `begun`; unchanged where `begun` is None and nothing was chosen.

    A choice is an answer even where the model has no room or memory to continue: then the text is empty, and the cause is a
    note and no failure.
    """
    if begun is None:
        return completion
    return replace(completion, choice=begun.choice, failure="", note=completion.failure or completion.note)


class Sampler(Protocol):
    """Draws n answers a prompt. Mixtures of members share one implementation; samplers that search have their own.

    `members` are in the order of their numbers in keys.
    """

    name: str

    if TYPE_CHECKING:

        @property
        def members(self) -> Sequence[Member]: ...  # noqa: D102
    else:
        members: Sequence[Member]  # so that a subclass may have it as an attribute or as a property

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """Completions in any order, without those whose keys are `done`. Raises UsageError when n does not suit."""
        ...


@dataclass(frozen=True)
class Tried:
    """What one program does on the examples of its prompt."""

    behaviour: str = ""  # equal for programs that do the same; "": it does not run, or there are no examples
    right: int = 0  # examples whose result it gives
    of: int = 0  # examples in the prompt


@dataclass(frozen=True)
class Graded:
    """An answer as its task grades it, without the prose and the examples of use that a reply may have beside a program."""

    text: str  # what metrics compare, without white space around it: of a program that goes on from its prompt, what is new
    whole: str  # the whole program; of another answer its text


class Aids(Protocol):
    """What a sampler may ask beside the model. It knows prompts, and neither tests nor reference solutions."""

    def graded(self, answers: Sequence[Completion]) -> Sequence[Graded]:
        """What of each of `answers`, which are there, is graded, in order."""
        ...

    def tried(self, prompt: Prompt, programs: Sequence[str]) -> Sequence[Tried]:
        """What each of `programs` does on the examples in `prompt`, in order; they run in the run's sandbox."""
        ...

    def coordinates(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(N, k) coordinates of texts by the learned similarity that the card names."""
        ...

    @property
    def ranges(self) -> Sequence[tuple[float, float]]:
        """The range of each of the k coordinates that nearly all texts lie in."""
        ...


@dataclass(frozen=True)
class Wants:
    """What a sampler asks of the harness beside the model; see Aids."""

    graded: bool = False  # whether it looks at answers as they are graded
    trials: bool = False  # whether it runs programs on the examples of their prompts
    similarity: str = ""  # the folder of a learned similarity, of the option `similarity`; a spec has its hash behind it


@runtime_checkable
class Aided(Protocol):
    """A sampler that asks more than the model; its kind says what (SamplerKind.wants)."""

    def aided(self, aids: Aids) -> Sampler:
        """This sampler with `aids`."""
        ...


def wants_nothing(card: SamplerCard) -> Wants:
    """Only the model is asked."""
    return Wants()


def any_n(card: SamplerCard, n: int) -> None:
    """Accept every number of answers."""


def any_model(card: SamplerCard, model: Model) -> None:
    """Accept every model."""


def any_prompts(card: SamplerCard, prompts: Sequence[Prompt]) -> None:
    """Accept all problems."""


def check_chat(card: SamplerCard, model: Model) -> None:
    """Raises ModelError for a model that says that it cannot be asked in messages; others are asked, and may refuse then."""
    if isinstance(model, ChatModel):
        model.check_chat()


def draws_n(card: SamplerCard, n: int) -> int:
    """The number of draws for n answers: n, because all of them are kept."""
    return n


@dataclass(frozen=True, kw_only=True)
class SamplerKind(CardKind[Callable[[SamplerCard, Sequence[Path]], Sampler], SamplerCard]):
    """A kind of sampler. `build` makes one of a card and of the folders of its adapters: none for adapters = "none".

    The checks are made before anything is printed, trained or written.
    """

    table = "sampler"
    # raises UsageError for a number of answers, a multiple of the members, that it cannot give
    check_n: Callable[[SamplerCard, int], None] = field(default=any_n, metadata=beside("check_n"))
    # raises ModelError for a model that it cannot use, and UsageError where it lacks something else, such as a package
    check_model: Callable[[SamplerCard, Model], None] = field(default=any_model, metadata=beside("check_model"))
    # raises UsageError for problems that it cannot answer
    check_prompts: Callable[[SamplerCard, Sequence[Prompt]], None] = field(
        default=any_prompts, metadata=beside("check_prompts")
    )
    # answers that are drawn a problem, of which n are kept
    drawn: Callable[[SamplerCard, int], int] = field(default=draws_n, metadata=beside("drawn"))
    # what it asks beside the model; its sampler is an Aided then
    wants: Callable[[SamplerCard], Wants] = field(default=wants_nothing, metadata=beside("wants"))
    # how its members are made of adapters; None: each adapter is a member
    merging: Callable[[SamplerCard], Merging] | None = field(default=None, metadata=beside("MERGING"))
    # whether it continues writing after the choice of a multiple-choice problem: see Prompt.begun
    goes_on: bool = field(default=False, metadata=beside("BEGUN"))
    # whether the answers to a problem come from one pool, reply or search: a stopped run draws all of them again
    together: bool = field(default=False, metadata=beside("TOGETHER"))
    # whether it asks in words of its own: prompts and replies may be longer than those of the task, up to the context
    asks: bool = field(default=False, metadata=beside("ASKS"))


def sampler_kind(name: str) -> SamplerKind:
    """The kind of that name. Raises UsageError for an unknown one, or for code that cannot be used."""
    return kind_of(SamplerKind, "sampler", name)


def merging_of(card: SamplerCard) -> Merging | None:
    """How the members of `card` are made of adapters; None where each adapter is a member."""
    made = sampler_kind(card.kind).merging
    return None if made is None else made(card)


def one_member(card: SamplerCard) -> None:
    """Raise CardError for more than one member: answers that are chosen or searched for are not r draws from each member."""
    if card.members != 1:
        raise CardError(
            f"sampler {card.name!r}: kind {card.kind!r} has one member, and the card has {card.members}; "
            f'set members = 1 and adapters = "all" or "none"'
        )


def waiting(prompts: Sequence[Prompt], n: int, done: Collection[Key], members: int = 1) -> list[Prompt]:
    """The prompts that lack one of their n answers, of which each member gives as many."""
    each = n // members
    return [p for p in prompts if any(Key(p.problem_id, *divmod(i, each)) not in done for i in range(n))]


def spread(total: int, count: int) -> list[int]:
    """`total` as `count` whole parts that are as equal as possible, the larger ones first."""
    each, left = divmod(total, count)
    return [each + (i < left) for i in range(count)]
