"""A model of texts: a tokenizer, and an engine for each stage below it.

Requests become token ids, an engine draws or scores them, and ids become texts, which are cut at stop strings. What an engine
knows is in models/engine.py, so that transformers, vLLM and servers that take token ids all answer by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.answers import TextCodec, Tokenized, completed, no_room
from spa_bench.models.base import Batches, OptionScores
from spa_bench.models.engine import (
    STAGES,
    Draw,
    Engine,
    LoraAdapter,
    Pair,
    Stage,
    Target,
    adapters_of,
    check_decoding,
)
from spa_bench.models.options import Encoded, IntArray, encoded
from spa_bench.models.rolling import windows
from spa_bench.support.interrupt import pause_point
from spa_bench.types import Asked, Completion, Decoding, DivergenceSums, Member, Messages, Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOGETHER = 8  # problems whose options are scored in one call of an engine that scores token by token


@runtime_checkable
class OptionReader(Protocol):
    """An engine that reads all options of a problem by all members in one pass, and compares their distributions."""

    def options(
        self, problems: Sequence[Encoded], adapters: Sequence[LoraAdapter | None], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """The scores of each problem that is not `done`, in any order."""
        ...


class TextModel(Tokenized):
    """See spa_bench.models.base.Model. `engines` has the engine of each stage; a stage without one is in `unable`."""

    def __init__(
        self,
        *,
        name: str,
        codec: TextCodec,
        context: int,
        engines: Mapping[Stage, Engine],
        notes: Sequence[str] = (),
        exclusive: bool = False,  # whether one engine at a time holds the device
    ):
        super().__init__(codec, context)
        self.name, self.notes = name, tuple(notes)
        self._engines: dict[Stage, Engine] = dict(engines)
        self.exclusive = exclusive

    # engines ---------------------------------------------------------------------------------------------------

    def use(self, engine: Engine, stages: Collection[Stage]) -> None:
        """Give `stages` to `engine`. Raises UsageError for a stage that it cannot do, naming those that it can."""
        for stage in stages:
            if stage not in engine.can:
                able = ", ".join(s for s in STAGES if s in engine.can) or "nothing"
                raise UsageError(f"engine {engine.name} cannot do {stage}; it can do {able}")
            self._engines[stage] = engine
        if engine.context is not None and engine.context < self.context:
            self.shorten(engine.context)

    @property
    def engines(self) -> dict[str, str]:
        """See Model.engines."""
        return {stage: self._engines[stage].name if stage in self._engines else "none" for stage in STAGES}

    @property
    def unable(self) -> dict[Stage, str]:
        """See Model.unable."""
        return {}

    def close(self) -> None:
        """See Model.close: the engines free what they hold, such as a process of vLLM."""
        with ExitStack() as stack:  # an engine that fails to close keeps none of the others open
            for engine in dict.fromkeys(self._engines.values()):
                stack.callback(engine.close)

    def _engine(self, stage: Stage) -> Engine:
        if stage not in self._engines:
            raise ModelError(f"model {self.name!r} cannot do {stage} here: {self.unable.get(stage, 'it has no engine for it')}")
        return self._engines[stage]

    def _opened(self, stage: Stage, adapters: Sequence[LoraAdapter | None]) -> Engine:
        """The engine of `stage`, ready for `adapters`."""
        engine = self._engine(stage)
        self._ready(engine, adapters)
        return engine

    def _ready(self, engine: Engine, adapters: Sequence[LoraAdapter | None]) -> None:
        self.turn_to(engine)
        engine.open([a for a in dict.fromkeys(adapters) if a is not None])

    def turn_to(self, engine: Engine) -> None:
        """Close the others where engines share a GPU that has no room for two."""
        if self.exclusive:
            for other in dict.fromkeys(self._engines.values()):
                if other is not engine:
                    other.close()

    def training_numerics(self) -> dict[str, object]:
        """See StageModel.training_numerics; nothing where no engine trains."""
        engine = self._engines.get("train")
        return engine.fingerprint() if engine else {}

    def numerics(self) -> dict[str, object]:
        """See Model.numerics: those of training, and under its name the fingerprint of each other engine."""
        others = {e.name: e for e in self._engines.values() if e is not self._engines.get("train")}
        return {**self.training_numerics(), **{name: engine.fingerprint() for name, engine in others.items()}}

    def batches(self) -> Batches:
        """See Model.batches."""
        return Batches(None, 0)

    # draws -----------------------------------------------------------------------------------------------------

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """See Model.batch_free."""
        columns = [min(len(self.codec.prompt(text)) + new, self.context) for text, new in prompts]
        return self._engine("draw").batch_free(columns)

    def check_decoding(self, decoding: Decoding) -> None:
        """See ChecksDecoding: by the engine that draws."""
        engine = self._engine("draw")
        check_decoding(f"engine {engine.name}", engine, decoding)

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate."""
        by_key = {request.key: request for request in requests}
        adapters = adapters_of(members)
        draws, skipped = self.draws_of(requests, lambda request: adapters[request.member])
        yield from skipped
        if draws:
            for drawn in self._opened("draw", adapters).draw(draws):
                yield completed(self.codec, by_key[drawn.key], drawn)

    def draws_of(
        self, requests: Sequence[Request], adapter_of: Callable[[Request], LoraAdapter | None]
    ) -> tuple[list[Draw], list[Completion]]:
        """(`requests` in tokens, the completions of those whose prompt leaves no room)."""
        draws: list[Draw] = []
        skipped: list[Completion] = []
        for request in requests:
            prompt = self.codec.before(request)
            limit = min(request.decoding.max_new_tokens, self.context - len(prompt))
            if limit < 1:
                skipped.append(no_room(request, self.context))
                continue
            draws.append(
                Draw(
                    key=request.key,
                    prompt=tuple(prompt),
                    adapter=adapter_of(request),
                    decoding=request.decoding,
                    seed=request.seed,
                    limit=limit,
                )
            )
        return draws, skipped

    # divergence ------------------------------------------------------------------------------------------------

    def divergence(
        self,
        contexts: Sequence[tuple[str | Messages, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums | None]:
        """See Model.divergence."""
        pairs, fits = self.forced_pairs(contexts)
        adapters = adapters_of(members)
        twice = {sum(fits[:place]) for place in again if fits[place]}
        answers = self._opened("divergence", adapters).divergence(pairs, adapters, base=base, top=top, again=twice)
        for fit in fits:
            yield next(answers) if fit else None

    def forced_pairs(self, contexts: Sequence[tuple[str | Messages, str]]) -> tuple[list[Pair], list[bool]]:
        """The tokens of the contexts that fit, and which of all contexts these are."""
        pairs = [self.encode_pair(prompt, continuation) for prompt, continuation in contexts]
        fits = [len(head) + len(tail) <= self.context for head, tail in pairs]
        return [pair for pair, fit in zip(pairs, fits, strict=True) if fit], fits

    # scores ----------------------------------------------------------------------------------------------------

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """See Model.option_scores. Problems are read in groups of similar length, which `done` does not change."""
        yield from self._scores(self.encoded(asked), adapters_of(members), done, spread=True)

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """See Model.loglikelihood; the continuation is scored without an end token."""
        pairs = [
            (self.codec.before(r), self.codec.continuation(r.continuation))
            if r.apart or r.messages
            else self.encoder.pairs([(r.prompt, r.continuation)])[0]
            for r in requests
        ]
        yield from self._likelihoods(requests, pairs, members)

    def rolling(self, request: Request, member: Member) -> float:
        """The log-probability in nats of the whole prompt of `request`, however long; see spa_bench.models.rolling."""
        first, begun = self.codec.first
        pairs = list(windows(self.codec.whole([request.prompt], begun=begun)[0], first, self.context))
        part = replace(request, member=0)
        return sum(logprob for _, logprob, _ in self._likelihoods([part] * len(pairs), pairs, [member]))

    def _likelihoods(
        self, requests: Sequence[Request], pairs: Sequence[tuple[Sequence[int], Sequence[int]]], members: Sequence[Member]
    ) -> Iterator[tuple[Request, float, bool]]:
        for request, (head, tail) in zip(requests, pairs, strict=True):
            if len(head) + len(tail) > self.context + 1:
                raise UsageError(
                    f"problem {request.problem_id}: {len(head) + len(tail)} tokens do not fit the context of {self.context}"
                )
        adapters = adapters_of(members)
        for member in sorted({r.member for r in requests}):
            mine = {str(i): request for i, request in enumerate(requests) if request.member == member}
            problems = [encoded(i, [pairs[int(i)]], self.context) for i in mine]
            for scored in self._scores(problems, [adapters[member]], spread=False):
                yield mine[scored.problem], float(scored.logprobs[0, 0]), bool(scored.greedy[0, 0])

    def _scores(
        self,
        problems: Sequence[Encoded],
        adapters: Sequence[LoraAdapter | None],
        done: Collection[str] = (),
        *,
        spread: bool,
    ) -> Iterator[OptionScores]:
        """The scores of problems; `spread` says whether the distributions of the first token are compared too."""
        engine = self._opened("score", adapters)
        if isinstance(engine, OptionReader):
            yield from engine.options(problems, adapters, done)
            return
        waiting = [p for p in problems if p.problem not in done]
        for start in range(0, len(waiting), _TOGETHER):
            pause_point()
            part = waiting[start : start + _TOGETHER]
            likelihoods = _token_scores(engine, part, adapters)
            first = self._first_tokens(part, adapters) if spread else {}
            for problem in part:
                logprobs, greedy = likelihoods[problem.problem]
                unknown = np.full((len(adapters), len(adapters)), np.nan)
                seen = first.get(problem.problem)
                yield OptionScores(
                    problem=problem.problem,
                    logprobs=logprobs,
                    greedy=greedy,
                    tokens=tuple(len(text) for _, text in problem.options),
                    kl=seen.kl if seen else unknown,
                    js=seen.js if seen else unknown,
                    entropy=seen.entropy if seen else unknown[0],
                )

    def _first_tokens(self, problems: Sequence[Encoded], adapters: Sequence[LoraAdapter | None]) -> dict[str, OptionScores]:
        """Scores of the first token after each context, by the engine that measures divergence; empty where none compares."""
        engine = self._engines.get("divergence")
        if engine is None or not isinstance(engine, OptionReader):
            return {}
        self._ready(engine, adapters)
        return {scored.problem: scored for scored in engine.options([_contexts_of(p) for p in problems], adapters)}


def _token_scores(
    engine: Engine, problems: Sequence[Encoded], adapters: Sequence[LoraAdapter | None]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Problem -> log-probabilities (K, O) of its options in nats, and whether each is the greedy text."""
    found = {
        p.problem: (np.full((len(adapters), len(p.options)), np.nan), np.zeros((len(adapters), len(p.options)), bool))
        for p in problems
    }
    places: dict[str, tuple[str, int, int]] = {}
    targets: list[Target] = []
    for problem in problems:
        for option, (row, text) in enumerate(problem.options):
            context = _before(problem.rows[row], text)
            for member, adapter in enumerate(adapters):
                name = f"{len(targets)}"
                places[name] = problem.problem, member, option
                targets.append(Target(name=name, context=context, tokens=tuple(map(int, text)), adapter=adapter))
    for scored in engine.score(targets):
        problem_id, member, option = places[scored.name]
        logprobs, greedy = found[problem_id]
        logprobs[member, option] = scored.logprobs.sum()
        greedy[member, option] = bool((scored.ranks == 1).all())
    for problem_id, (logprobs, _) in found.items():
        if not np.isfinite(logprobs).all():
            raise ModelError(f"problem {problem_id}: engine {engine.name} gave no finite log-probability for every option")
    return found


def _before(row: IntArray, text: IntArray) -> tuple[int, ...]:
    """The context of an option in a row of `models.options.Encoded`, which has all but the last token of its text."""
    return tuple(map(int, row[: len(row) - len(text) + 1]))


def _contexts_of(problem: Encoded) -> Encoded:
    """The contexts of a problem alone, each before any one token: what is read where only the next token is compared."""
    rows = [problem.rows[row][: len(problem.rows[row]) - back] for row, back in problem.contexts]
    one = np.zeros(1, np.int32)
    return Encoded(
        problem.problem,
        tuple(rows),
        tuple((row, one) for row in range(len(rows))),
        tuple((row, 0) for row in range(len(rows))),
    )
