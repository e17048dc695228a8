"""What a server does with what it is sent, found out with up to 15 answers of a few tokens on each of its two paths.

Servers take fields and ignore them. A draw at another temperature than asked, or from another model, would be wrong silently:
such a server is refused. One that ignores seeds gives other texts when it is asked again: that is marked, and draws continue.
`n` is not looked at, because each draw is a call of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spa_bench.errors import ModelError
from spa_bench.models.openai.asking import PATHS, Api, Dialect, most_tokens
from spa_bench.models.openai.client import GivenUp, Server
from spa_bench.models.openai.spending import Usage
from spa_bench.models.openai.wire import Call, Refused, Reply, told
from spa_bench.types import Decoding, Messages

_TOKENS = 16
_CALLS = 15  # that are answered on one path
_TRIES = 3  # of the first call of a path: a server that has it not may answer as one that is broken
_CHAT = "Write one line of random words."
_QUESTIONS: dict[Api, str | Messages] = {
    "completions": "Once upon a time, in a",
    "chat": (("user", _CHAT),),
}
_SCORED: dict[Api, dict[str, object]] = {"completions": {"logprobs": 1}, "chat": {"logprobs": True, "top_logprobs": 1}}
_SEEDS = (11, 12, 13)
_STOPS = (" ", "Zqxj1", "Zqxj2", "Zqxj3", "Zqxj4")  # the first is in every answer, the others in none
_DATED = re.compile(r"[-@]\d{4}-?\d{2}-?\d{2}|@[\w./-]+|:latest")  # what a server may put behind the name that was asked for
GREEDY = Decoding()
SAMPLED = Decoding(temperature=1.0)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one of a server's two paths does."""

    dialect: Dialect
    model: str  # the name that its answers bear
    greedy: str  # the answer at temperature 0
    fixed: str  # why draws at a temperature above 0 would be wrong; "": they would not
    loose: str  # why draws at any temperature would be; "": they would not
    seed: bool  # whether a seed gives the same text again
    stop: bool  # whether it stops at stop strings
    logprobs: bool  # whether it gives those of an answer
    echo: bool  # whether it gives those of a prompt
    goes_on: bool  # whether it continues an answer that a message begins
    fingerprint: str | None  # that all answers bear; "": none has one; None: they differ


def same_model(asked: str, answered: str, others: Sequence[str] = ()) -> bool:
    """Whether `answered` names the model that was asked for: alike, with a date or revision behind it, or one of `others`."""
    if answered in {asked, *others}:
        return True
    return answered.startswith(asked) and bool(_DATED.fullmatch(answered[len(asked) :]))


def check_model(asked: str, reply: Reply, others: Sequence[str]) -> None:
    """Raise ModelError for an answer of another model."""
    if not same_model(asked, reply.model, others):
        raise ModelError(
            f"the model {reply.model!r} answers, and {asked!r} was asked for; ask for that name, or say with answers_as "
            "that both are one model"
        )


def most(api: str) -> tuple[Usage, int]:
    """(the most tokens of a call, the most calls that are answered) of the probe where the options say `api`."""
    tokens = max((most_tokens(question, _TOKENS) for question in _QUESTIONS.values()), key=lambda usage: usage.prompt)
    return tokens, _CALLS * (len(PATHS) if api == "auto" else 1)


def paths(server: Server, model: str) -> dict[Api, Found | Refused]:
    """What the server does on each path that the options allow, or its refusal; a path that only ever fails has none.

    `transformers serve` answers 500 to a chat with a model that has no chat template. Raises ModelError where the server is
    gone, or no draw would be right.
    """
    allowed: list[Api] = [api for api in PATHS if server.options.api in {"auto", api}]
    found: dict[Api, Found | Refused] = {}
    for api in allowed:
        try:
            found[api] = probe(server, model, api, tries=min(_TRIES, server.options.tries))
        except GivenUp as error:
            if error.status not in {500, 501}:
                found[api] = probe(server, model, api)
            else:
                found[api] = Refused(status=error.status, message=str(error))
    if not any(isinstance(each, Found) for each in found.values()):  # it may be starting
        failing = [api for api, each in found.items() if isinstance(each, Refused) and each.status in {500, 501}]
        found |= {api: probe(server, model, api) for api in failing}
    return found


def probe(server: Server, model: str, api: Api, *, tries: int | None = None) -> Found | Refused:
    """What the server does on one path; its refusal where it has none there. Raises ModelError where no draw would be right.

    `tries` is for the first call.
    """
    opened = _dialect(server, model, api, tries)
    if isinstance(opened, Refused):
        return opened
    dialect, first = opened
    others = server.options.answers_as
    check_model(model, first, others)
    question = _QUESTIONS[api]
    bodies = [
        *(_body(dialect, model, GREEDY, seed) for seed in _SEEDS[1:]),
        *(_body(dialect, model, SAMPLED, seed) for seed in (*_SEEDS, *_SEEDS)),
        _body(dialect, model, replace(SAMPLED, top_k=1) if dialect.knobs != "none" else GREEDY),
        _body(dialect, model, GREEDY) | _SCORED[api],
        _body(dialect, model, GREEDY) | {"stop": list(_STOPS)},
        _body(dialect, model, GREEDY) | {"stop": list(_STOPS[:4])},
        *_begun(dialect, model),
    ]
    if api == "completions":
        bodies.append(_body(dialect, model, GREEDY) | echo_fields(dialect))
    calls = [Call(path=PATHS[api], body=body, most=most_tokens(question, _TOKENS)) for body in bodies]
    answers = dict(server.ask(calls))
    greedy1, greedy2, a1, b1, c1, a2, b2, c2, sharp, scored, five, four, *rest = (answers[i] for i in range(len(calls)))
    texts = [_text(r, server, model) for r in (first, greedy1, greedy2, a1, b1, c1, a2, b2, c2)]
    stops = None if isinstance(five, Reply) else 4 if isinstance(four, Reply) else 0
    stopped = five if isinstance(five, Reply) else four
    marks = {answer.fingerprint for answer in (first, *answers.values()) if isinstance(answer, Reply)}
    return Found(
        dialect=replace(dialect, stops=stops, knobs=dialect.knobs if _text(sharp, server, model) in texts[:3] else "none"),
        model=first.model,
        greedy=texts[0],
        fixed=_fixed(texts[3:6]),
        loose=_loose(texts[:3]),
        seed=any(one == other for one, other in zip(texts[3:6], texts[6:9], strict=True)),
        stop=isinstance(stopped, Reply) and not (stopped.text or "").strip(" ").count(" "),
        logprobs=isinstance(scored, Reply) and bool(scored.logprobs),
        echo=len(rest) == 1 and gives_echo(rest[0], str(question)),
        goes_on=len(rest) == 2 and _goes_on(*rest),
        fingerprint=marks.pop() if len(marks) == 1 else None,
    )


def _dialect(server: Server, model: str, api: Api, tries: int | None) -> tuple[Dialect, Reply] | Refused:
    """The first dialect that the server takes, with its answer at temperature 0; else its last refusal."""
    dialect, refused = Dialect(api=api), Refused(status=0, message="")
    for _ in range(6):
        body = _body(dialect, model, GREEDY)
        answer = server.one(Call(path=PATHS[api], body=body, most=most_tokens(_QUESTIONS[api], _TOKENS), tries=tries))
        if isinstance(answer, Reply):
            return dialect, answer
        refused = answer
        if answer.status in {404, 405}:
            break
        if "max_completion_tokens" in answer.message and dialect.limit == "max_tokens":
            dialect = replace(dialect, limit="max_completion_tokens")
        elif dialect.seed and re.search(r"\bseed\b", answer.message):
            dialect = replace(dialect, seed=False)
        elif dialect.knobs == "fields":
            dialect = replace(dialect, knobs="generation_config")
        elif dialect.knobs == "generation_config":
            dialect = replace(dialect, knobs="none")
        else:
            break
    return refused


def _body(dialect: Dialect, model: str, decoding: Decoding, seed: int = _SEEDS[0]) -> dict[str, object]:
    return {"model": model, **dialect.text(_QUESTIONS[dialect.api]), **dialect.decoding(decoding, seed, _TOKENS)}


def greedy_call(found: Found, model: str) -> tuple[dict[str, object], Usage]:
    """(body, most tokens) of a call that shows whether a model is served, with log-probabilities where there are some."""
    api, body = found.dialect.api, _body(found.dialect, model, GREEDY)
    return body | (_SCORED[api] if found.logprobs else {}), most_tokens(_QUESTIONS[api], _TOKENS)


def _text(answer: Reply | Refused, server: Server, model: str) -> str:
    """The text of an answer to the probe. Raises ModelError where there is none, or from another model."""
    if isinstance(answer, Refused):
        raise ModelError(f"{server.url} answers, and then refuses another seed or temperature ({answer.message})")
    check_model(model, answer, server.options.answers_as)
    if answer.text is None:
        why = answer.refusal or answer.silence
        raise ModelError(f"{server.url} gives answers of {model!r} that have no text ({why}); nothing could be drawn")
    return answer.text


def _fixed(sampled: Sequence[str]) -> str:
    """What is wrong with answers to several seeds at temperature 1; "" where nothing is."""
    if len({*sampled}) > 1:
        return ""
    return (
        f"gives one text for {len(sampled)} seeds at temperature 1 ({sampled[0]!r}): it ignores the temperature, or the seeds"
    )


def _loose(greedy: Sequence[str]) -> str:
    """What is wrong with answers to several seeds at temperature 0; "" where nothing is."""
    if len({*greedy}) < len(greedy):
        return ""
    return f"gives {len(greedy)} different texts for {len(greedy)} seeds at temperature 0: it ignores the temperature"


def check_temperature(found: Found, decoding: Decoding, url: str) -> None:
    """Raise ModelError where a server does not do the temperature that is asked for."""
    wrong = found.loose or (found.fixed if decoding.temperature > 0 else "")
    if wrong:
        raise ModelError(f"{url} {wrong}; its draws would not be those of temperature {decoding.temperature:g}")


_SHARP = {
    "top_p": replace(SAMPLED, top_p=1e-6),
    "top_k": replace(SAMPLED, top_k=1),
    "min_p": replace(SAMPLED, min_p=1.0),
    "typical_p": replace(SAMPLED, typical_p=1e-6),
    "epsilon_cutoff": replace(SAMPLED, epsilon_cutoff=1 - 1e-6),
    "eta_cutoff": replace(SAMPLED, epsilon_cutoff=1 - 1e-6),  # said in one text with it; eta alone leaves several tokens
    "top_n_sigma": replace(SAMPLED, top_n_sigma=1e-6),
    "mirostat_tau": replace(SAMPLED, mirostat_tau=1e-6),
}


def check_knob(server: Server, model: str, found: Found, name: str) -> None:
    """Raise ModelError where a server ignores a knob: at its sharpest, each leaves one token alone, typical_p any one."""
    api = found.dialect.api
    bodies = [_body(found.dialect, model, _SHARP[name], seed) for seed in _SEEDS[:2]]
    calls = [Call(path=PATHS[api], body=body, most=most_tokens(_QUESTIONS[api], _TOKENS)) for body in bodies]
    answers = [answer for _, answer in server.ask(calls)]
    refusals = [answer.message for answer in answers if isinstance(answer, Refused)]
    if refusals:
        raise ModelError(f"{server.url} refuses {name} ({refusals[0]}); use a sampler without it, or a server that takes it")
    texts = [answer.text or "" for answer in answers if isinstance(answer, Reply)]
    if found.greedy not in texts and not (name == "typical_p" and len({*texts}) < len(texts)):
        raise ModelError(f"{server.url} takes {name} and ignores it; use a sampler without it, or a server that does it")


def _begun(dialect: Dialect, model: str) -> list[dict[str, object]]:
    """The bodies that show whether a chat continues an answer that is begun: with the fields for that, and without."""
    if dialect.api != "chat":
        return []
    asked = dialect.text((("user", _CHAT), ("assistant", "Sea")))
    body = {"model": model, **asked, **dialect.decoding(GREEDY, _SEEDS[0], 1)}
    return [body, {k: v for k, v in body.items() if k not in {"continue_final_message", "add_generation_prompt"}}]


def _goes_on(with_fields: Reply | Refused, without: Reply | Refused) -> bool:
    """Whether a server continues an answer: its prompt is then shorter by the end of a turn and the start of the next."""
    if isinstance(with_fields, Refused) or isinstance(without, Refused):
        return False
    return with_fields.usage.prompt < without.usage.prompt


def echo_fields(dialect: Dialect) -> dict[str, object]:
    """The fields that ask for the log-probabilities of the prompt; one token is drawn, because not every server draws none."""
    return {"echo": True, "logprobs": 1, dialect.limit: 1, "temperature": 0.0}


def gives_echo(answer: Reply | Refused, prompt: str) -> bool:
    """Whether an answer has a log-probability for each token that the server counts in the prompt, but for the first.

    llama-cpp-python counts a token that begins the text and gives none for it: all would be read one place too far.
    """
    if isinstance(answer, Refused) or not (answer.text or "").startswith(prompt):
        return False
    tokens = answer.logprobs[: answer.usage.prompt]
    spelled = answer.pieces[: answer.usage.prompt]
    unspelled = all(piece.startswith("token_id:") for piece in spelled)  # as vLLM writes them where it is started so
    if not (unspelled or _letters("".join(spelled)).endswith(_letters(prompt))):
        return False
    return len(tokens) == answer.usage.prompt > 1 and all(own is not None and top is not None for own, top in tokens[1:])


def _letters(text: str) -> str:
    """`text` without white space and the marks of tokenizers for it."""
    return re.sub(r"[\s▁Ġ]", "", text)


def served(server: Server) -> dict[str, int | None]:
    """The models that the server lists, each with its context in tokens where it says so; empty where it lists none.

    A list is not needed, and `transformers serve` fails at it without a cache of the hub: it is asked for once.
    """
    try:
        answer = server.one(Call(path="/models", tries=1))
    except ModelError:
        return {}
    if isinstance(answer, Refused):
        return {}
    listed = json.loads(answer.text or "{}").get("data")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    lengths = {told(str(row.get("id")), server.hidden): row.get("max_model_len") for row in rows}
    return {name: length if isinstance(length, int) else None for name, length in lengths.items()}
