"""A pool of answers of which some are kept, which the over-sampling samplers share.

The choice sees texts as they are graded and, if wanted, the model's own log-probabilities; it never sees a verdict. The kept
answers are not exchangeable: pass@k over subsets of them describes the chosen set, not a distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spa_bench.cards.sampler import SamplerCard
from spa_bench.errors import ModelError, UsageError
from spa_bench.metrics.vendi import ngram_kernel
from spa_bench.models.base import Model, PairEncoder
from spa_bench.samplers.asking.checks import one_of, within
from spa_bench.samplers.base import Aids, SamplerKind, Wants, one_member, spread, waiting
from spa_bench.samplers.mixture import build as build_mixture
from spa_bench.types import Completion, Key, Member, Prompt, Request

Select = Callable[[NDArray[np.float64], NDArray[np.float64], int], list[int]]
"""(kernel (N, N), relevance (N,) in [0, 1], number to keep) -> the places of the kept answers, best first."""

Options = TypeVar("Options")
RELEVANCE = ("loglikelihood", "none")
_CHUNK = 8  # problems whose pools are drawn together; an interrupted run loses at most this many


def check_pool(pool: int, relevance: str) -> None:
    """Raise ValueError for an impossible pool or relevance."""
    within(1, None, pool=pool)
    one_of(RELEVANCE, relevance=relevance)


@dataclass(frozen=True)
class Pool:
    """The pool that a kind draws, and how it chooses from it."""

    size: int  # draws a problem
    relevance: str  # one of RELEVANCE
    select: Select


def pool_kind(options: type[Options], pool_of: Callable[[Options], Pool]) -> SamplerKind:
    """A kind of one member that draws the pool of its options."""

    def of(card: SamplerCard) -> Pool:
        return pool_of(card.options_as(options))

    return SamplerKind(
        build=lambda card, adapters: Oversampler(card, adapters, of(card)),
        options=options,
        check=one_member,
        check_n=lambda card, n: check_n(card, of(card), n),
        check_model=lambda card, model: check_model(of(card), model),
        drawn=lambda card, n: of(card).size,
        wants=lambda card: Wants(graded=True),
        together=True,
    )


def check_n(card: SamplerCard, pool: Pool, n: int) -> None:
    """Raise UsageError for more answers than the pool of `card` has."""
    if not 1 <= n <= pool.size:
        raise UsageError(f"n is {n}, but {card.name} keeps answers of a pool of {pool.size}: choose n between 1 and that")


def check_model(pool: Pool, model: Model) -> None:
    """Raise ModelError for a model without a usable tokenizer, or one that cannot score, where relevance needs both."""
    if pool.relevance != "loglikelihood":
        return
    if not isinstance(model, PairEncoder):
        raise ModelError(
            f'relevance = "loglikelihood" needs a model with a tokenizer here, and {model.name!r} has none; '
            f'set options.relevance = "none"'
        )
    if why := model.unable.get("score"):
        raise ModelError(f'relevance = "loglikelihood" needs log-probabilities of texts: {why}; set options.relevance = "none"')


class Oversampler:
    """Draws the `pool` from one member and keeps the n that it selects, numbered in the order of choice."""

    def __init__(self, card: SamplerCard, adapters: Sequence[Path], pool: Pool):
        self.name, self._card, self._pool = card.name, card, pool
        self._mixture = build_mixture(card, adapters)
        self.members = self._mixture.members
        self._aids: Aids | None = None

    def aided(self, aids: Aids) -> Oversampler:
        """See spa_bench.samplers.base.Aided."""
        other = copy(self)
        other._aids = aids
        return other

    def sample(
        self, model: Model, prompts: Sequence[Prompt], n: int, seed: int, *, task: str, done: Collection[Key] = ()
    ) -> Iterator[Completion]:
        """See Sampler.sample. A problem that lacks an answer is drawn again, which gives the same answers."""
        check_n(self._card, self._pool, n)
        check_model(self._pool, model)
        left = waiting(prompts, n, done)
        for first in range(0, len(left), _CHUNK):
            chunk = left[first : first + _CHUNK]
            requests = self._mixture.requests(chunk, self._pool.size, seed, task=task)
            drawn = {c.key: c for c in model.generate(requests, self.members)}
            for prompt in chunk:
                mine = [r for r in requests if r.problem_id == prompt.problem_id]
                chosen = self._chosen(model, mine, [drawn[r.key] for r in mine], n)
                yield from (c for c in chosen if c.key not in done)

    def _chosen(self, model: Model, requests: Sequence[Request], drawn: Sequence[Completion], n: int) -> list[Completion]:
        """The n kept answers, followed by empty ones and failures where there are fewer.

        Together they account for all tokens drawn. Texts are compared as they are graded, as metrics compare them; of an empty
        one, which is unlike any other, nothing can be graded.
        """
        there = [i for i, c in enumerate(drawn) if not c.failure]
        compared = self._compared([drawn[i] for i in there])
        good = [i for i, text in zip(there, compared, strict=True) if text]
        order: list[int] = []
        if good:
            relevance = np.ones(len(good))
            if self._pool.relevance == "loglikelihood":
                texts = [drawn[i].text for i in good]
                relevance = token_probabilities(model, [requests[i] for i in good], texts, self.members)
            kernel = ngram_kernel([text for text in compared if text])
            order = [good[place] for place in self._pool.select(kernel, relevance, min(n, len(good)))]
        others = sorted(set(range(len(drawn))) - set(good), key=lambda i: (bool(drawn[i].failure), i))
        order += others[: n - len(order)]
        tokens = sum(c.tokens if c.spent is None else c.spent for c in drawn)
        problem = requests[0].problem_id
        return [
            replace(drawn[i], key=Key(problem, 0, rank), spent=spent)
            for rank, (i, spent) in enumerate(zip(order, spread(tokens, n), strict=True))
        ]

    def _compared(self, drawn: Sequence[Completion]) -> list[str]:
        """The texts of answers as they are graded; as they are without aids."""
        return [one.text for one in self._aids.graded(drawn)] if self._aids else [c.text.strip() for c in drawn]


def token_probabilities(
    model: Model, requests: Sequence[Request], texts: Sequence[str], members: Sequence[Member]
) -> NDArray[np.float64]:
    """The geometric mean of the probabilities of the tokens of each text, (texts,), in [0, 1]: exp of the mean log-probability.

    Each text is tokenised again behind its prompt, without an end token. The mean is 0 for a text without tokens, and for one
    that does not fit the context in this form.
    """
    assert isinstance(model, PairEncoder)  # check_model
    scored: list[Request] = []
    place: dict[int, tuple[int, int]] = {}  # draw -> (index, tokens)
    for i, (request, text) in enumerate(zip(requests, texts, strict=True)):
        head, tail = model.encode_pair(request.messages or request.prompt, text)
        if len(tail) > 1 and len(head) + len(tail) <= model.context:
            scored.append(replace(request, kind="loglikelihood", continuation=text, apart=True))
            place[request.draw] = (i, len(tail) - 1)
    means = np.zeros(len(texts))
    for request, total, _ in model.loglikelihood(scored, members):
        i, tokens = place[request.draw]
        means[i] = np.exp(total / tokens)
    return means
