"""Text to tokens and back for a model of transformers: prompts, chats, pairs of training, and the text of new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from spa_bench.models.chat import chat_ending, chat_text, check_template, up_to_end
from spa_bench.types import Messages, Request


class Codec:
    """The tokenizer of the model `name`; `ends` are the tokens that end an answer."""

    def __init__(self, tokenizer: Any, name: str, ends: frozenset[int]):
        self.tokenizer, self._name, self.ends = tokenizer, name, ends
        own = tokenizer.eos_token_id
        self.end_token: int = min(ends) if own is None else own

    def prompt(self, prompt: str | Messages) -> list[int]:
        """Token ids of `prompt` after the special tokens of its tokenizer, unless it begins with them.

        An empty prompt is an end token. For messages, they are those of the chat template's text. Raises ModelError when the
        tokenizer has none, or one that refuses them.
        """
        if isinstance(prompt, str):
            begun = self.tokenizer.bos_token  # a chat template may have written it already: as lm-eval, not a second time
            if begun and prompt.startswith(begun):
                return self.ids(prompt)
            return cast("list[int]", self.tokenizer(prompt)["input_ids"]) or [self.end_token]
        return self.ids(chat_text(self.tokenizer, self._name, prompt)) or [self.end_token]

    def before(self, request: Request) -> list[int]:
        """Token ids before the answer to `request`: those of its messages if it has any, else those of its prompt."""
        return self.prompt(request.messages or request.prompt)

    def check_chat(self) -> None:
        """See ChatModel.check_chat."""
        check_template(self.tokenizer, self._name)

    def pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of its completion with the end token, encoded apart as in generation."""
        return self.prompt(prompt), [*self.ids(completion), self.end_token]

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """See ChatTrainable.as_chat."""
        return chat_text(self.tokenizer, self._name, messages), self._ending

    def chat_pair(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """See ChatTrainable.encode_chat."""
        closing = up_to_end(self.ids(ending), self.ids(completion + ending), self.ends)
        return self.ids(prompt) or [self.end_token], closing or [*self.ids(completion), self.end_token]

    @cached_property
    def _ending(self) -> str:
        return chat_ending(self.tokenizer, self._name)

    def ids(self, text: str) -> list[int]:
        """Token ids of `text` alone, without special tokens around it."""
        return cast("list[int]", self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, before: Sequence[int], new: Sequence[int]) -> str:
        """The text that the tokens `new` add behind the tokens `before`."""
        ids, last = [t for t in new if t not in self.ends], list(before[-4:])
        head: str = self.tokenizer.decode(last, skip_special_tokens=True)
        whole: str = self.tokenizer.decode(last + ids, skip_special_tokens=True)
        return whole[len(head) :] if whole.startswith(head) else cast(str, self.tokenizer.decode(ids, skip_special_tokens=True))
