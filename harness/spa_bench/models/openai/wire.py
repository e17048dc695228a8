"""What a server says, read strictly: an answer, a refusal, or nothing that can be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from spa_bench.errors import ModelError
from spa_bench.models.openai.spending import Usage
from spa_bench.support.text import one_line

_CONTEXT = re.compile(r"context[ _](length|size|window)|max_model_len|maximum (input|sequence) length", re.IGNORECASE)
_LIMIT = re.compile(r"(?:context length (?:is|of)|context (?:size|window) (?:is|of)|n_ctx\D{0,4}) ?\(?(\d+)", re.IGNORECASE)

_BROKEN_OFF = {"abort", "error", "insufficient_system_resource"}  # vLLM's and SGLang's, OpenRouter's, DeepSeek's
_MOST = 1 << 53  # a larger count is none

_REASONING = ("reasoning_content", "reasoning")  # DeepSeek's name, which most servers have; OpenRouter's and newer vLLM's


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A server's answer to one call."""

    model: str  # that answered, as the server names it
    text: str | None  # None: there is none
    finish: str  # finish_reason; "": the server gave none
    usage: Usage
    fingerprint: str = ""  # system_fingerprint; "": none
    refusal: str = ""  # why a model of OpenAI's would not answer
    thought: bool = False  # whether there is reasoning beside the text
    # of each token, where logprobs were asked for: its log-probability in nats (None: the first of a text has none), and that
    # of the likeliest token in its place
    logprobs: tuple[tuple[float | None, float | None], ...] = ()
    pieces: tuple[str, ...] = ()  # the tokens' texts

    @property
    def broken_off(self) -> bool:
        """Whether the server broke the answer off, as one does that is stopped or has too much to do."""
        return self.finish in _BROKEN_OFF

    @property
    def silence(self) -> str:
        """How an answer without a text ended, in a few words."""
        return f"finish_reason {self.finish!r}" + (", all of it reasoning" if self.thought else "")

    def without(self, secret: str) -> Reply:
        """The reply without the `secret` in what a server says of itself; its text is as it came."""
        model, mark, why = (told(said, secret) for said in (self.model, self.fingerprint, self.refusal))
        return replace(self, model=model, fingerprint=mark, refusal=why)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What a server says that will not answer one call, however often it is asked."""

    status: int
    message: str  # on one line, without a key

    @property
    def too_long(self) -> bool:
        """Whether prompt and answer do not fit the context."""
        return self.status in {400, 413, 422, 500} and bool(_CONTEXT.search(self.message))

    @property
    def context(self) -> int | None:
        """The context in tokens that the message names; None where it names none."""
        found = _LIMIT.search(self.message)
        return int(found[1]) if found else None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to a server."""

    path: str  # such as /completions
    body: dict[str, object] | None = None  # None: GET, whose reply is the text as it came
    most: Usage = field(default_factory=lambda: Usage(prompt=0, new=0))  # the most tokens that it can take
    tries: int | None = None  # times that it is sent until it is given up; None: as the options say
    # raises ModelError for what came where no call is sent any more after it; those under way are waited for
    check: Callable[[Reply | Refused], None] = lambda _: None

    def reply(self, text: str) -> Reply:
        """The reply in `text`. Raises ValueError for what is no reply: the call is then sent again.

        Raises ModelError as `read_reply`, and where a text is said to have no tokens.
        """
        if self.body is not None:
            reply = read_reply(text)
            if reply.text and not reply.usage.new and not self.body.get("echo"):
                raise ModelError(
                    "the server counts no tokens of a text that it gave, so that nothing could be counted; use one that counts "
                    "prompt_tokens and completion_tokens"
                )
            return reply
        read_json(text)
        return Reply(model="", text=text, finish="stop", usage=Usage(prompt=0, new=0))


def read_json(text: str) -> dict[str, object]:
    """The JSON object in `text`. Raises ValueError, which says in a few words what is there instead."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"answered with no JSON ({_shown(text)})" if text.strip() else "answered with nothing") from None
    if not isinstance(content, dict):
        raise ValueError(f"answered with no JSON object ({_shown(text)})")
    return content


def read_reply(text: str) -> Reply:
    """The reply of either path. Raises ValueError for anything else, and ModelError where it says nothing of tokens."""
    content = read_json(text)
    choices, model = content.get("choices"), content.get("model")
    if not isinstance(choices, list) or len(choices) > 1 or not isinstance(model, str):
        raise ValueError(f"gave no choice and model of the OpenAI protocol ({_shown(text)})")
    usage, fingerprint = _usage(content.get("usage")), content.get("system_fingerprint")
    mark = fingerprint if isinstance(fingerprint, str) else ""
    if not choices:
        return Reply(model=model, text=None, finish="", usage=usage, fingerprint=mark)
    [choice] = choices
    if not isinstance(choice, dict):
        raise ValueError(f"gave a choice that is no object ({_shown(text)})")
    finish = choice.get("finish_reason")
    message = choice.get("message")
    spoken = message.get("content") if isinstance(message, dict) else choice.get("text")
    refusal = message.get("refusal") if isinstance(message, dict) else None
    thought = isinstance(message, dict) and any(message.get(name) for name in _REASONING)
    if thought and not spoken:  # servers say null or ""
        spoken = None
    pieces, logprobs = _logprobs(choice.get("logprobs"))
    return Reply(
        model=model,
        text=spoken if isinstance(spoken, str) else None,
        finish=finish if isinstance(finish, str) else "",
        usage=usage,
        fingerprint=mark,
        refusal=refusal if isinstance(refusal, str) else "",
        thought=thought,
        logprobs=logprobs,
        pieces=pieces,
    )


def _usage(said: object) -> Usage:
    """Raises ModelError where the counts of tokens are missing, or are none."""
    if not isinstance(said, dict):
        raise ModelError(
            "the server says nothing of tokens (its answers have no usage), so that nothing could be counted; use one that does"
        )
    prompt, new, details = said.get("prompt_tokens"), said.get("completion_tokens", 0), said.get("prompt_tokens_details")
    if not (_is_count(prompt) and _is_count(new)):
        raise ModelError(
            f"the server's usage is no count of tokens ({_shown(json.dumps(said))}), so that nothing could be counted; use one "
            "that counts prompt_tokens and completion_tokens"
        )
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(prompt=prompt, new=new, cached=min(cached, prompt) if _is_count(cached) else 0)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _logprobs(said: object) -> tuple[tuple[str, ...], tuple[tuple[float | None, float | None], ...]]:
    """(texts, log-probabilities) of tokens, as completions or chat gives them; both empty where there are none."""
    if not isinstance(said, dict):
        return (), ()
    content = said.get("content")
    if isinstance(content, list):
        rows = [row for row in content if isinstance(row, dict)]
        above = [row.get("top_logprobs") for row in rows]
        best = [[t.get("logprob") for t in top if isinstance(t, dict)] if isinstance(top, list) else [] for top in above]
        own, texts = [row.get("logprob") for row in rows], [str(row.get("token", "")) for row in rows]
    else:
        listed, tops, tokens = said.get("token_logprobs"), said.get("top_logprobs"), said.get("tokens")
        if not isinstance(listed, list):
            return (), ()
        own, texts = listed, [str(t) for t in tokens] if isinstance(tokens, list) else [""] * len(listed)
        above = tops if isinstance(tops, list) and len(tops) == len(own) else [None] * len(own)
        best = [list(top.values()) if isinstance(top, dict) else [] for top in above]
    return tuple(texts), tuple((_number(value), max(_numbers(row), default=None)) for value, row in zip(own, best, strict=True))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and -_MOST < value < _MOST else None


def _numbers(values: list[object]) -> list[float]:
    return [number for value in values if (number := _number(value)) is not None]


def _shown(text: str) -> str:
    """The beginning of `text`, on one line."""
    return repr(one_line(text, 80))


def told(text: str, secret: str, most: int = 300) -> str:
    """`text` of a server on one line of at most `most` characters, without the `secret`."""
    line = one_line(text)
    return one_line(line.replace(secret, "***") if secret else line, most)
