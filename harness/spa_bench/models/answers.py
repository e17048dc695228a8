"""Text and tokens of an answer: what a tokenizer must do, and how drawn tokens become a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spa_bench.models.engine import Drawn
from spa_bench.models.options import Encoded, OptionEncoder, TextEncoder
from spa_bench.support.text import before_stop
from spa_bench.types import Asked, Completion, Finish, Messages, Request


class TextCodec(TextEncoder, Protocol):
    """Text to tokens and back; see spa_bench.models.hf.codec.Codec."""

    ends: frozenset[int]  # the tokens that end an answer

    def ends_by(self, stop: tuple[str, ...]) -> frozenset[int]:
        """The tokens that end an answer with these stop strings: `ends`, and special tokens that are spelled as one of them."""
        ...

    def before(self, request: Request) -> list[int]:
        """Token ids before the answer to `request`."""
        ...

    def prompt(self, prompt: str | Messages) -> list[int]:
        """Token ids of a prompt or of messages."""
        ...

    def continuation(self, text: str) -> list[int]:
        """Token ids that add exactly `text` to what stands before them."""
        ...

    def text(self, new: Sequence[int]) -> str:
        """The text that the tokens `new` add behind a prompt."""
        ...

    def pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of its completion with the end token."""
        ...

    def check_chat(self) -> None:
        """Raise ModelError when there is no chat template."""
        ...

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """See ChatTrainable.as_chat."""
        ...

    def chat_pair(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """See ChatTrainable.encode_chat."""
        ...


class Tokenized:
    """What a model does with texts by its tokenizer, whoever computes."""

    def __init__(self, codec: TextCodec, context: int):
        self.codec = codec
        self.shorten(context)

    def shorten(self, context: int) -> None:
        """Let prompt and answer have `context` tokens together."""
        self.context = context
        self.encoder = OptionEncoder(self.codec, context)
        self._encoded_before: tuple[list[Asked], list[Encoded]] | None = None

    def check_options(self, asked: Sequence[Asked]) -> None:
        """See Model.check_options."""
        self.encoded(asked)

    def encoded(self, asked: Sequence[Asked]) -> list[Encoded]:
        """The problems in `asked` as tokens; those of the last call are kept, so that the seeds of a run tokenise once."""
        if self._encoded_before is None or list(asked) != self._encoded_before[0]:
            self._encoded_before = list(asked), self.encoder.encode(asked)
        return self._encoded_before[1]

    def encode_pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """See PairEncoder.encode_pair."""
        return self.codec.pair(prompt, completion)

    def check_chat(self) -> None:
        """See ChatModel.check_chat."""
        self.codec.check_chat()

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """See ChatTrainable.as_chat."""
        return self.codec.as_chat(messages)

    def encode_chat(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """See ChatTrainable.encode_chat."""
        return self.codec.chat_pair(prompt, completion, ending)


def completed(codec: TextCodec, request: Request, drawn: Drawn) -> Completion:
    """The completion up to the first stop string, counting all tokens that were drawn before it was complete."""
    new, stop = drawn.tokens, request.decoding.stop
    finish: Finish = drawn.finish
    if drawn.finish == "failed":
        return Completion(
            key=request.key,
            text="",
            tokens=0,
            finish="failed",
            seed=request.seed,
            failure=drawn.failure,
            spent=drawn.spent,
        )
    ends = codec.ends_by(stop)
    if (last := next((i for i, token in enumerate(new) if token in ends), None)) is not None:
        new, finish = new[: last + 1], "stop"  # not every engine knows special tokens as stop strings
    text = codec.text(new)
    if any(s in text for s in stop):
        finish = "stop"
        while len(new) > 1 and any(s in codec.text(new[:-1]) for s in stop):
            new = new[:-1]
        text = before_stop(codec.text(new), stop)
    return Completion(key=request.key, text=text, tokens=len(new), finish=finish, seed=request.seed)


def no_room(request: Request, context: int) -> Completion:
    """The skipped completion of a prompt that leaves no room for an answer in the model's context."""
    why = f"the prompt leaves no room in the context of {context} tokens"
    return Completion(key=request.key, text="", tokens=0, finish="skipped", seed=request.seed, failure=why)
