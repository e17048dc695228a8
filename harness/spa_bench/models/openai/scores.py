"""Log-probabilities of given texts, from a server that gives those of a prompt (`echo` with `logprobs`), as vLLM does.

Tokens and cuts between context and text are lm-eval's (TemplateLM._encode_pair): trailing spaces of the context move to the
text, both are encoded together, and as many tokens are split off as the context alone has. The server counts them: one call
for each context, one for each context with a text. Where an option does not fit, nothing is cut: that needs a tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import OptionScores
from spa_bench.models.openai.asking import PATHS, Dialect, most_tokens
from spa_bench.models.openai.client import Server
from spa_bench.models.openai.probe import echo_fields
from spa_bench.models.openai.wire import Call, Refused, Reply
from spa_bench.types import Asked


@dataclass(frozen=True)
class Scored:
    """What a model gives a text after its context."""

    logprob: float  # in nats
    greedy: bool  # whether every token of the text is the likeliest
    tokens: int


@dataclass(frozen=True)
class Text:
    """A text to score after a context. `name` is for messages."""

    name: str
    context: str
    text: str

    @property
    def moved(self) -> tuple[str, str]:
        """(context, text) with the context's trailing white space in front of the text."""
        kept = self.context.rstrip()
        return kept, self.context[len(kept) :] + self.text


class Scorer:
    """Scores texts. `check` is asked about each reply to a call for a model: Call.check."""

    def __init__(self, server: Server, dialect: Dialect, check: Callable[[str], Callable[[Reply | Refused], None]]):
        self._server, self._dialect, self._check = server, dialect, check
        self._lengths: dict[str, int] = {"": 0}  # context -> its tokens, special ones before it included
        self._counts: dict[str, tuple[str, int]] = {}  # context with a text -> (who counted, its tokens)

    def fits(self, text: Text, model: str) -> None:
        """Raise UsageError where `text` and its context do not fit the server's context together."""
        whole = "".join(text.moved)
        self._reply(self._server.one(self._call(model, whole, echo=False)), text)

    def scores(self, texts: Sequence[tuple[str, Text]]) -> Iterator[tuple[int, Scored]]:
        """(place, scores) of each (model, text), in any order. Raises UsageError where one does not fit, or has no token."""
        first = {text.moved[0]: (model, text) for model, text in reversed(texts)}
        new = [context for context in first if context not in self._lengths]
        for place, answer in self._server.ask([self._call(first[c][0], c, echo=False) for c in new]):
            self._lengths[new[place]] = self._reply(answer, first[new[place]][1]).usage.prompt
        whole: dict[tuple[str, str], list[int]] = {}
        for place, (model, text) in enumerate(texts):
            whole.setdefault((model, "".join(text.moved)), []).append(place)
        asked = list(whole)
        for number, answer in self._server.ask([self._call(model, text, echo=True) for model, text in asked]):
            for place in whole[asked[number]]:
                text = texts[place][1]
                reply = self._reply(answer, text)
                self._counted(text, *asked[number], reply.usage.prompt)
                yield place, self._read(reply, text)

    def _counted(self, text: Text, model: str, whole: str, tokens: int) -> None:
        """Raise UsageError where another model counts other tokens of the `whole`: contexts are counted by one of them."""
        other, before = self._counts.setdefault(whole, (model, tokens))
        if tokens != before:
            raise UsageError(
                f"{text.name}: {other} counts {before} tokens of it and {model} {tokens}, so that they have tokenizers of "
                "their own; options are scored for members of one tokenizer, such as adapters of one model: run them apart"
            )

    def options(self, asked: Sequence[Asked], models: Sequence[str], done: Collection[str]) -> Iterator[OptionScores]:
        """See Model.option_scores. What needs the whole distribution of a token is NaN, but for one member's kl and js: 0."""
        missing = [one for one in asked if one.problem_id not in done]
        cells = [(p, k, o) for p, one in enumerate(missing) for k in range(len(models)) for o in range(len(one.options))]
        texts = [(models[k], Text(missing[p].problem_id, *missing[p].options[o])) for p, k, o in cells]
        rows: dict[int, dict[tuple[int, int], Scored]] = {}
        for place, scored in self.scores(texts):
            p, k, o = cells[place]
            row = rows.setdefault(p, {})
            row[k, o] = scored
            if len(row) == len(models) * len(missing[p].options):
                yield _options(missing[p], rows.pop(p), len(models))

    def _call(self, model: str, text: str, *, echo: bool) -> Call:
        fields = echo_fields(self._dialect)
        if not echo:
            fields = {k: v for k, v in fields.items() if k not in {"echo", "logprobs"}}
        body = {"model": model, "prompt": text, **fields}
        return Call(path=PATHS["completions"], body=body, most=most_tokens(text, 1), check=self._check(model))

    def _reply(self, answer: Reply | Refused, text: Text) -> Reply:
        if isinstance(answer, Reply):
            return answer
        if answer.too_long:
            raise UsageError(
                f"{text.name} does not fit the context of the model on {self._server.url} ({answer.message}); ask with fewer "
                "examples, or take a model with a longer context"
            )
        raise ModelError(f"{self._server.url} does not score {text.name} ({answer.status}: {answer.message})")

    def _read(self, reply: Reply, text: Text) -> Scored:
        context, shown = text.moved[0], reply.logprobs[: reply.usage.prompt]
        before = self._lengths[context]
        if len(reply.logprobs) < reply.usage.prompt:
            raise ModelError(
                f"{self._server.url} counts {reply.usage.prompt} tokens of {text.name} and gives log-probabilities of "
                f"{len(reply.logprobs)}, so that no text can be scored; what is scored is kept"
            )
        if not context and not (reply.text or "").startswith(reply.pieces[0] if reply.pieces else "?"):
            before = 1  # a token that begins every text
        tokens = shown[before:]
        if not tokens:
            raise UsageError(f"{text.name}: {text.text!r} adds no token to its context, so it has no probability")
        pairs = [(own, top) for own, top in tokens if own is not None and top is not None]
        if len(pairs) < len(tokens):
            what = "" if context else ": a text without a context needs a token before it, and the server puts none there"
            raise UsageError(f"{text.name}: {self._server.url} gives no log-probability for some tokens of {text.text!r}{what}")
        return Scored(math.fsum(own for own, _ in pairs), all(own >= top for own, top in pairs), len(pairs))


def _options(one: Asked, scored: dict[tuple[int, int], Scored], members: int) -> OptionScores:
    options, unknown = range(len(one.options)), np.full((members, members), np.nan)
    return OptionScores(
        problem=one.problem_id,
        logprobs=np.array([[scored[k, o].logprob for o in options] for k in range(members)], np.float64),
        greedy=np.array([[scored[k, o].greedy for o in options] for k in range(members)], np.bool_),
        tokens=tuple(scored[0, o].tokens for o in options),
        kl=unknown if members > 1 else np.zeros((1, 1)),
        js=unknown if members > 1 else np.zeros((1, 1)),
        entropy=np.full(members, np.nan),
    )
