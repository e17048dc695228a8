"""A model on a server of the OpenAI protocol: completions for texts, chat for messages, one call a draw.

A member is a model name: a server such as vLLM's serves each adapter under a name of its own. Nothing is trained and no weights
are read, so what the names stand for is not known here: the server's word for it is in the spec.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import Batches, OptionScores, Spending, dollars
from spa_bench.models.engine import STAGES, Stage
from spa_bench.models.openai import probe
from spa_bench.models.openai.answers import completion_of, failed, skipped
from spa_bench.models.openai.asking import PATHS, Api, Sent, begun, most_tokens
from spa_bench.models.openai.client import Server
from spa_bench.models.openai.options import OpenAIOptions
from spa_bench.models.openai.probe import Found
from spa_bench.models.openai.scores import Scorer, Text
from spa_bench.models.openai.spending import Usage
from spa_bench.models.openai.wire import Call, Refused, Reply
from spa_bench.types import RARE, Asked, Completion, Decoding, DivergenceSums, Member, Messages, Request

NAME = "openai"
UNKNOWN_CONTEXT = sys.maxsize  # tokens, where the server does not say how many
_KNOBS = ("top_p", "top_k", "min_p", *RARE)  # that a server may ignore


_OFF = Decoding()


class ServedModel:
    """See spa_bench.models.base.Model. Raises UsageError or ModelError where the server cannot be used; it is probed here."""

    def __init__(self, name: str, options: OpenAIOptions | None = None, earlier: Spending | None = None):
        """`earlier`: what earlier parts of the runs took, which counts against max_cost."""
        self.name = name
        self._options = options = options or OpenAIOptions()
        self._server = Server(options, earlier)
        self._afford(*probe.most(options.api), "to look at what the server does")
        self._taken = Spending()  # that a run has counted
        listed = probe.served(self._server)
        self._found: dict[Api, Found] = {}
        self._refused: dict[Api, Refused] = {}
        for api, found in probe.paths(self._server, name).items():
            if isinstance(found, Found):
                self._found[api] = found
            else:
                self._refused[api] = found
        if not self._found:
            said = "; ".join(f"{PATHS[api]}: {r.status} {r.message}" for api, r in self._refused.items())
            names = f"; it serves {', '.join(sorted(listed))}" if listed and name not in listed else ""
            if not listed and all(r.status in {404, 405} for r in self._refused.values()):
                names = "; base_url is the address under which /models and /chat/completions lie, and mostly ends in /v1"
            raise ModelError(f"{self._server.url} gives no answers of {name!r} ({said}){names}")
        self.context = options.context or listed.get(name) or UNKNOWN_CONTEXT
        self._served: tuple[str, ...] = ()  # names that check_served has found
        self._ids: dict[str, str] = {}  # served name -> the name that its answers bear, of the members of one card
        self._checked: set[tuple[Api, str]] = set()  # knobs that are known to be done
        self.notes = self._notes()

    # what it is ------------------------------------------------------------------------------------------------

    @property
    def _main(self) -> Found:
        return next(iter(self._found.values()))

    def _notes(self, alike: Sequence[str] = ()) -> tuple[str, ...]:
        """Lines on what the server does not do, and on names that may be one model."""
        found = list(self._found.values())
        fewest = min((f.dialect.stops for f in found if f.dialect.stops is not None), default=None)
        lines = [
            ("the server ignores seeds: the same command would draw other texts", not all(f.seed for f in found)),
            (
                "the server takes no top-k and no repetition penalty: where it has some of its own, draws are made with them",
                any(f.dialect.knobs == "none" for f in found),
            ),
            (
                "the server does not stop at stop strings: answers are cut here, and their tokens are counted to their end",
                not all(f.stop for f in found),
            ),
            (
                f"the server takes {fewest} stop strings: an answer that ends at another is cut here, and its tokens are "
                "counted beyond (vLLM takes more with VLLM_MAX_STOP_STRINGS=32)",
                fewest is not None and all(f.stop for f in found),
            ),
            (
                "the server's fingerprint changes from answer to answer: more than one machine or version draws",
                any(f.fingerprint is None for f in found),
            ),
            ("the server does not say how long its context is", self.context == UNKNOWN_CONTEXT),
        ]
        return (*(line for line, true in lines if true), *alike)

    def describe(self) -> dict[str, object]:
        """The name that is asked for, where, and the name that answers bear. What stands behind it the server knows alone."""
        context = None if self.context == UNKNOWN_CONTEXT else self.context
        served = {"served": dict(sorted(self._ids.items()))} if self._ids else {}
        return {"name": self.name, "base_url": self._server.url, "id": self._main.model, "context": context, **served}

    def numerics(self) -> dict[str, object]:
        """What the probe found that can change a text, the package that asks, and the server's fingerprint."""
        found = list(self._found.values())
        marks = sorted({"changes" if f.fingerprint is None else f.fingerprint for f in found} - {""})
        said: dict[str, object] = {
            "device": "server",
            "client": self._server.client,
            "api": self._options.api if self._options.api == "chat" else ", ".join(self._found),
            "seed": "kept" if all(f.seed for f in found) else "ignored",
            "top_k": "the server's own" if any(f.dialect.knobs == "none" for f in found) else "as asked",
        }
        return said | ({"fingerprint": ", ".join(marks)} if marks else {})

    def batches(self) -> Batches:
        """See Model.batches: rows are calls that are under way at once."""
        return Batches(self._options.concurrency, 0, self._server.together)

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """See Model.batch_free: a server batches as it likes."""
        return False

    def close(self) -> None:
        """See Model.close: there is nothing to free, as each call of a method opens connections of its own and closes them."""

    @property
    def engines(self) -> dict[str, str]:
        """See Model.engines."""
        return {stage: "none" if stage in self.unable else NAME for stage in STAGES}

    @property
    def unable(self) -> Mapping[Stage, str]:
        """The stages that it cannot do, each with the reason on one line."""
        why: dict[Stage, str] = {
            "train": "a model on a server cannot be trained: its weights are not here",
            "divergence": "a server does not give the whole distribution of a token, so divergence cannot be measured",
        }
        return why if self._scores_texts else why | {"score": self._no_scores}

    @property
    def _scores_texts(self) -> bool:
        return "completions" in self._found and self._found["completions"].echo

    @property
    def _no_scores(self) -> str:
        return f"{self._server.url} gives no log-probabilities of given texts (echo with logprobs on /completions)"

    def spent(self) -> Spending:
        """What the calls of this object took, those of the probe included."""
        return self._server.ledger.spent

    def take_spent(self) -> Spending:
        """See PaidModel.take_spent: the first time, what the probe took is in it."""
        now = self.spent()
        new, self._taken = now.since(self._taken), now
        return new

    def watch_spent(self, write: Callable[[Spending], None] | None) -> None:
        """See PaidModel.watch_spent."""
        self._server.watch = None if write is None else lambda: write(self.spent().since(self._taken))

    def _afford(self, most: Usage, calls: int, what: str) -> None:
        """Raise ModelError, before any of these calls is sent, where the budget may not last for all of them."""
        ledger = self._server.ledger
        if not ledger.lasts(most, calls):
            raise ModelError(
                f"the budget of max_cost = ${self._options.max_cost:g} does not last {what}: {dollars(ledger.total)} are "
                f"spent, and {calls} calls could cost {dollars(calls * ledger.cost(most))}; give a larger max_cost"
            )

    # members ---------------------------------------------------------------------------------------------------

    def check_served(self, names: Sequence[str]) -> None:
        """See ServesMembers.check_served. Names that give a text the same log-probabilities are marked in `notes`.

        Raises ModelError for a name that the server does not serve, and where the budget does not pay for the requests.
        """
        if tuple(names) == self._served:
            return
        found = self._main
        api = found.dialect.api
        self._ids, self._served = {}, ()
        self._afford(probe.greedy_call(found, max(names, key=len, default=""))[1], len(set(names)), "to ask for the members")
        scored: dict[tuple[tuple[float | None, float | None], ...], list[str]] = {}
        for name in dict.fromkeys(names):
            body, most = probe.greedy_call(found, name)
            answer = self._server.one(Call(path=PATHS[api], body=body, most=most))
            if isinstance(answer, Refused):
                raise ModelError(f"{self._server.url} serves no model {name!r} ({answer.status}: {answer.message})")
            probe.check_model(name, answer, self._options.answers_as)
            self._ids[name] = answer.model
            if answer.logprobs:
                scored.setdefault(answer.logprobs, []).append(name)
        self._served = tuple(names)
        same = [group for group in scored.values() if len(group) > 1]
        self.notes = self._notes(
            [f"the served models {', '.join(group)} give the same log-probabilities: they may be one model" for group in same]
        )

    def check_chat(self) -> None:
        """See ChatModel.check_chat."""
        self._path((("user", ""),))

    def _path(self, prompt: str | Messages) -> Found:
        """What the probe found of the path that a prompt takes. Raises ModelError where the server has it not."""
        chat = not isinstance(prompt, str) or self._options.api == "chat"
        api: Api = "chat" if chat else "completions"
        if api in self._found:
            return self._found[api]
        what = "messages" if chat else "texts without messages"
        if api in self._refused:
            said = f"{self._refused[api].status}: {self._refused[api].message}"
            other = "" if chat else '; with api = "chat" each text is the only message of a chat'
            raise ModelError(f"{self.name} on {self._server.url} takes no {what} ({said}){other}")
        raise ModelError(f'{self.name} takes no {what}, because api is {self._options.api!r}; set api = "auto"')

    # draws -----------------------------------------------------------------------------------------------------

    def check_decoding(self, decoding: Decoding) -> None:
        """See ChecksDecoding; whether the server does what it takes is looked at when it draws first."""
        for found in self._found.values():
            found.dialect.check(decoding)

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate. Each completion comes with the server's answer.

        Raises ModelError, before anything is drawn, where a path is missing or a knob is ignored; and later where the server is
        gone, another model or fingerprint answers, or the budget is spent: everything that has come by then is given first.
        """
        sent = [self._sent(request, members[request.member]) for request in requests]
        for api, decoding in dict.fromkeys((one.dialect.api, replace(one.request.decoding, stop=())) for one in sent):
            probe.check_temperature(self._found[api], decoding, self._server.url)
            for name in _KNOBS:
                if (
                    getattr(decoding, name) != getattr(_OFF, name)
                    and decoding.temperature > 0
                    and (api, name) not in self._checked
                ):
                    probe.check_knob(self._server, self.name, self._found[api], name)
                    self._checked.add((api, name))
        long: list[tuple[Sent, Refused]] = []
        yield from self._drawn(sent, long)
        yield from self._shortened(long)

    def _sent(self, request: Request, member: Member) -> Sent:
        """How a request is sent. Raises ModelError where it cannot be."""
        if member.adapter is not None:
            raise ModelError(
                f"{self._server.url} cannot draw from the adapter in {member.adapter}; let it serve the adapter under a name, "
                'and use a card with adapters = "served"'
            )
        prompt = request.messages or request.prompt
        found = self._path(prompt)
        if begun(prompt) and not found.goes_on:
            raise ModelError(
                f"{self._server.url} cannot continue an answer that is begun (continue_final_message, which vLLM has), and "
                'the task begins its answers; ask with task.prompt = "completion", or set task.response = ""'
            )
        sent = Sent(
            request=request,
            model=member.served or self.name,
            dialect=found.dialect,
            limit=request.decoding.max_new_tokens,
            prompt=prompt,
        )
        _ = sent.body  # raises for a knob that the server has not
        return sent

    def _drawn(self, sent: Sequence[Sent], long: list[tuple[Sent, Refused]]) -> Iterator[Completion]:
        """The completions of `sent`, but for those that do not fit the context as they are, which go to `long`."""
        for one, answer in self._answers(sent):
            if isinstance(answer, Reply):
                yield completion_of(one.request, answer, self._server.hidden)
            elif answer.too_long:
                long.append((one, answer))
            else:
                yield failed(one.request, f"the server refuses the request ({answer.status}: {answer.message})")

    def _answers(self, sent: Sequence[Sent]) -> Iterator[tuple[Sent, Reply | Refused]]:
        calls = [
            Call(
                path=PATHS[one.dialect.api],
                body=one.body,
                most=most_tokens(one.prompt, one.limit),
                check=self._check(one.model, one.dialect.api),
            )
            for one in sent
        ]
        for place, answer in self._server.ask(calls):
            yield sent[place], answer

    def _shortened(self, long: Sequence[tuple[Sent, Refused]]) -> Iterator[Completion]:
        """The completions of requests that do not fit the context as they are: answers as long as there is room.

        How long a prompt is, the server says with an answer of one token.
        """
        refusals = {one.request.key: refused for one, refused in long}
        rooms: list[Sent] = []
        for one, answer in self._answers([replace(one, limit=1) for one, _ in long]):
            refused = refusals[one.request.key]
            context = refused.context or (None if self.context == UNKNOWN_CONTEXT else self.context)
            room = context - answer.usage.prompt if context and isinstance(answer, Reply) else 0
            if 0 < room < one.request.decoding.max_new_tokens:
                rooms.append(replace(one, limit=room))
            else:
                yield skipped(one.request, refused, context)
        again: list[tuple[Sent, Refused]] = []
        yield from self._drawn(rooms, again)
        for one, refused in again:
            yield skipped(one.request, refused, refused.context)

    def _check(self, model: str, api: Api) -> Callable[[Reply | Refused], None]:
        """A check of what came: the model is still there, and replies are of the model and fingerprint that the probe saw."""
        found, url = self._found[api], self._server.url
        known = found.model if model == self.name else self._ids.get(model)

        def check(came: Reply | Refused) -> None:
            kept = "what is drawn is kept, and the same command begins a run of its own"
            if isinstance(came, Refused):
                if came.status in {404, 405}:
                    raise ModelError(
                        f"{url} serves {model!r} no more ({came.status}: {came.message}); what is drawn is kept, and the same "
                        "command resumes from there once it does"
                    )
                return
            if known is None:
                probe.check_model(model, came, self._options.answers_as)
            elif came.model != known:
                raise ModelError(f"{url} began as {known!r} and answers as {came.model!r}: it is another model; {kept}")
            if found.fingerprint is not None and came.fingerprint != found.fingerprint:
                old, new = found.fingerprint or "none", came.fingerprint or "none"
                raise ModelError(f"the fingerprint of {url} was {old} and is {new}: the server has changed; {kept}")

        return check

    # given texts -----------------------------------------------------------------------------------------------

    def _scorer(self) -> Scorer:
        """Raises UsageError where the server scores no texts."""
        if not self._scores_texts:
            raise UsageError(f"{self._no_scores}; use a server that does, such as vLLM's, or a model that is loaded here")
        return Scorer(self._server, self._found["completions"].dialect, lambda model: self._check(model, "completions"))

    def check_options(self, asked: Sequence[Asked]) -> None:
        """See Model.check_options: the longest text is sent once. Raises UsageError where the server scores no texts, too."""
        scorer = self._scorer()
        texts = [Text(one.problem_id, *option) for one in asked for option in one.options]
        if texts:
            scorer.fits(max(texts, key=lambda t: most_tokens(t.context + t.text, 0).prompt), self.name)

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """See Model.option_scores and spa_bench.models.openai.scores: kl, js and entropy are NaN where they cannot be known."""
        yield from self._scorer().options(asked, [member.served or self.name for member in members], done)

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """See Model.loglikelihood. Raises UsageError for requests that need a tokenizer: of messages, or encoded apart."""
        scorer = self._scorer()
        if any(request.messages or request.apart for request in requests):
            raise UsageError(f"{self._server.url} has no tokenizer to be used, as texts after messages or encoded apart need")
        texts = [(members[r.member].served or self.name, Text(r.problem_id, r.prompt, r.continuation)) for r in requests]
        for place, scored in scorer.scores(texts):
            yield requests[place], scored.logprob, scored.greedy

    def divergence(
        self,
        contexts: Sequence[tuple[str | Messages, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums | None]:
        """Raises ModelError: see `unable`."""
        raise ModelError(self.unable["divergence"])
