"""Text to tokens and back for a model of transformers: prompts, chats, pairs of training, and the text of new tokens.

A text that continues another one is encoded behind an anchor, whose tokens are taken away (`Codec.continuation`), because many
tokenizers put a space in front of a text that stands alone. Training, divergences, scoring and relevance encode an answer by
this one function, so that what is learned and scored is what generation writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from spa_bench.errors import ModelError
from spa_bench.models.chat import chat_ending, chat_text, check_template, up_to_end
from spa_bench.models.hf.loading import of_others, told
from spa_bench.models.hf.spelling import Spelling, Tail
from spa_bench.types import Messages, Request

_ANCHORS = ("\n", "a", "(", ":", "0", ".", "é", "x\n")
_PREFIXES = ("# a\n", "f(", "x =")  # of texts on which an anchor is tried
_CONTINUATIONS = ("def f", " x", "  x", "    x", "\n  x", "\n\n", "\tx", "1", "(x)", ".", "é", "你", " ")
_SAMPLE = "def f(x):\n    return x + 1\n"


class _Anchor(NamedTuple):
    """A text that is put in front of a continuation, and its tokens."""

    text: str
    tokens: list[int]


class Codec:
    """The tokenizer of the model `name`; `ends` are the tokens that end an answer, `rows` the embedding's rows.

    Raises ModelError for a tokenizer that cannot be used: one without tokens for plain text, with special tokens that the
    embedding lacks, or by which no text can be continued.
    """

    def __init__(self, tokenizer: Any, name: str, ends: frozenset[int], rows: int):
        self.tokenizer, self._name, self.ends, self._rows = tokenizer, name, ends, rows
        own = tokenizer.eos_token_id
        self.end_token: int = min(ends) if own is None else own
        self._check([self.end_token])
        self._spelling = Spelling(tokenizer, ends)
        self._specials: dict[tuple[str, ...], frozenset[int]] = {}
        self._front = self._around()
        self._anchors = self._chosen()

    @cached_property
    def first(self) -> tuple[int, str]:
        """The token of an empty text, which is that of the beginning or else of the end, and its text."""
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.end_token)
        token: int = next(t for t in known if t is not None)
        return token, str(self.tokenizer.decode(token, clean_up_tokenization_spaces=False))

    @cached_property
    def note(self) -> str:
        """A line where the tokenizer does not give back a text as it was encoded, such as its line ends; else ""."""
        try:
            back = self.text(self.continuation(_SAMPLE))
        except ModelError:  # it is said where a text needs it
            return ""
        return "" if back == _SAMPLE else f"tokenizer: it does not keep texts as they are: {_SAMPLE!r} comes back as {back!r}"

    # texts -----------------------------------------------------------------------------------------------------

    def ids(self, text: str) -> list[int]:
        """Token ids of `text` as a whole text, without special tokens around it."""
        return self.ids_of([text])[0]

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, as `ids`. Raises ModelError where the tokenizer fails or the embedding lacks a token."""
        found = self._encoded(texts, around=False) if texts else []
        for ids in found:
            self._check(ids)
        return found

    def whole(self, texts: Sequence[str], *, begun: str | None = None) -> list[list[int]]:
        """Token ids of whole texts behind the special tokens that the tokenizer puts in front.

        They are not put in front of a text that begins with them or with the text `begun`. Tokens that a tokenizer puts
        behind a text, such as an end token, are left out: each text is continued.
        """
        front = self._front
        return [
            ids if ids[: len(front)] == front or (begun and text.startswith(begun)) else [*front, *ids]
            for text, ids in zip(texts, self.ids_of(texts), strict=True)
        ]

    def continuation(self, text: str) -> list[int]:
        """Token ids of `text` behind another text: they add exactly `text` to it, with no space in front.

        Raises ModelError when the tokenizer has no such tokens.
        """
        if not text:
            return []
        for anchor in self._anchors:
            ids = self.ids(anchor.text + text)
            if ids[: len(anchor.tokens)] == anchor.tokens:
                return ids[len(anchor.tokens) :]
        raise ModelError(
            f"the tokenizer of model {self._name!r} cannot continue a text with {text[:20]!r}: "
            f"its first letters merge with whatever stands before them; use another model"
        )

    def text(self, new: Sequence[int]) -> str:
        """The text that the tokens `new` add behind a prompt."""
        return self._spelling.text(new)

    def last_text(self, new: Sequence[int], letters: int) -> str:
        """The end of the text of `new`: what the last token can have changed, and `letters` letters before it at least."""
        return self._spelling.last(new, letters)

    def tail(self) -> Tail:
        """The text of an answer, to which tokens are added one by one."""
        return Tail(self._spelling)

    def ends_by(self, stop: tuple[str, ...]) -> frozenset[int]:
        """The tokens that end an answer with these stop strings: `ends`, and each special token that one of them spells.

        No text of an answer shows a special token.
        """
        if stop not in self._specials:
            self._specials[stop] = frozenset().union(*map(self._special, stop))
        special = self._specials[stop]
        return self.ends | special if special else self.ends  # asked for at every token that is drawn

    # prompts and pairs -----------------------------------------------------------------------------------------

    def prompt(self, prompt: str | Messages) -> list[int]:
        """Token ids of `prompt` after the special tokens that its tokenizer puts in front, unless it begins with them.

        An empty prompt is an end token. For messages, they are those of the chat template's text. Raises ModelError when the
        tokenizer has none, or one that refuses them.
        """
        if isinstance(prompt, str):  # a chat template may have written the first token already: as lm-eval, not a second time
            return self.whole([prompt], begun=self.tokenizer.bos_token)[0] or [self.end_token]
        return self.ids(chat_text(self.tokenizer, self._name, prompt)) or [self.end_token]

    def before(self, request: Request) -> list[int]:
        """Token ids before the answer to `request`: those of its messages if it has any, else those of its prompt."""
        return self.prompt(request.messages or request.prompt)

    def pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of its completion with the end token, encoded apart as in generation."""
        return self.prompt(prompt), [*self.continuation(completion), self.end_token]

    def check_chat(self) -> None:
        """See ChatModel.check_chat."""
        check_template(self.tokenizer, self._name)

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """See ChatTrainable.as_chat."""
        return chat_text(self.tokenizer, self._name, messages), self._ending

    def chat_pair(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """See ChatTrainable.encode_chat."""
        closing = up_to_end(self.continuation(ending), self.continuation(completion + ending), self.ends)
        return self.ids(prompt) or [self.end_token], closing or [*self.continuation(completion), self.end_token]

    @cached_property
    def _ending(self) -> str:
        return chat_ending(self.tokenizer, self._name)

    # what the tokenizer does -----------------------------------------------------------------------------------

    def _encoded(self, texts: Sequence[str], *, around: bool) -> list[list[int]]:
        """Token ids of each text, with the special tokens `around` it or without."""
        try:
            found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=around)["input_ids"]
        except BaseException as error:  # a tokenizer is code of others, and raises what it likes
            if not of_others(error):
                raise
            raise ModelError(f"the tokenizer of model {self._name!r} cannot encode a text: {told(error)}") from error
        return found

    def _special(self, text: str) -> list[int]:
        """The special token that is spelled as `text`; none where it is plain text, or the embedding lacks that token."""
        try:
            ids = self.ids(text)
        except ModelError:
            return []
        alone = len(ids) == 1 and self.tokenizer.convert_ids_to_tokens(ids[0]) == text
        return ids if alone and not self.text(ids) else []

    def _check(self, ids: Sequence[int]) -> None:
        if ids and max(ids) >= self._rows:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise ModelError(
                f"the tokenizer of model {self._name!r} has the token {token!r} with the number {max(ids)}, but the model's "
                f"embedding has {self._rows} rows: resize the embedding, or remove the token from the tokenizer's files"
            )

    def _around(self) -> list[int]:
        """The special tokens that the tokenizer puts in front of a text."""
        bare = self.ids("a")
        if not bare or set(bare) <= {self.tokenizer.unk_token_id}:
            raise ModelError(f"the tokenizer of model {self._name!r} has no token for plain text; its files are broken")
        if "".join((back := self._spelling.decode(self.ids("a b"))).split()).lower() != "ab":
            raise ModelError(
                f"the tokenizer of model {self._name!r} does not give back the text that it encodes: 'a b' comes back as "
                f"{back!r}; its files are broken"
            )
        [whole] = self._encoded(["a"], around=True)
        places = [i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare]
        if not places:
            raise ModelError(
                f"the tokenizer of model {self._name!r} encodes a text otherwise when it adds special tokens, so it cannot be "
                f"said which of them stand in front; use another model"
            )
        self._check(whole[: places[0]])
        return whole[: places[0]]

    def _chosen(self) -> list[_Anchor]:
        """The anchors behind which a continuation adds its text and nothing else: none but "" where that is enough."""
        wanted = {(p, c): self._spelling.decode(self.ids(p + c)) for p in _PREFIXES for c in _CONTINUATIONS}
        before = {p: self.whole([p])[0] for p in _PREFIXES}
        # a tokenizer that cannot spell a prefix, as one without line ends, says nothing about what continues it
        spelled = {p: ids for p, ids in before.items() if self._spelling.decode(ids).endswith(p)} or before
        chosen = []
        for anchor in self._candidates():
            found = {c: self.ids(anchor.text + c) for c in _CONTINUATIONS}
            tails = {c: ids[len(anchor.tokens) :] for c, ids in found.items() if ids[: len(anchor.tokens)] == anchor.tokens}
            if tails and all(
                self._spelling.decode([*ids, *tail]) == wanted[p, c] for p, ids in spelled.items() for c, tail in tails.items()
            ):
                if not anchor.text:
                    return [anchor]
                chosen.append(anchor)
        if not chosen:
            raise ModelError(
                f"the tokenizer of model {self._name!r} cannot continue a text: the tokens of what follows add other text when "
                f"they are put behind it; use another model"
            )
        return chosen

    def _candidates(self) -> Iterator[_Anchor]:
        yield _Anchor("", [])
        # no token reaches over a special one, but some tokenizers begin a new text behind it
        for text in dict.fromkeys([*map(str, self.tokenizer.all_special_tokens[:4]), *_ANCHORS]):
            try:
                yield _Anchor(text, self.ids(text))
            except ModelError:  # a special token that the embedding lacks
                continue
