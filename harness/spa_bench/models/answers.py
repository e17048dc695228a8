"""Text and tokens of an answer: what a tokenizer must do, and how drawn tokens become a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spa_bench.models.engine import Drawn
from spa_bench.models.options import TextEncoder
from spa_bench.types import Completion, Finish, Messages, Request


class TextCodec(TextEncoder, Protocol):
    """Text to tokens and back; see spa_bench.models.hf.codec.Codec."""

    ends: frozenset[int]  # the tokens that end an answer

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
    text = codec.text(new)
    if any(s in text for s in stop):
        finish = "stop"
        while len(new) > 1 and any(s in codec.text(new[:-1]) for s in stop):
            new = new[:-1]
        text = codec.text(new)
        text = text[: min(p for s in stop if (p := text.find(s)) >= 0)]
    return Completion(key=request.key, text=text, tokens=len(new), finish=finish, seed=request.seed)


def no_room(request: Request, context: int) -> Completion:
    """The skipped completion of a prompt that leaves no room for an answer in the model's context."""
    why = f"the prompt leaves no room in the context of {context} tokens"
    return Completion(key=request.key, text="", tokens=0, finish="skipped", seed=request.seed, failure=why)
