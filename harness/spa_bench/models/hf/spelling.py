"""The text that tokens spell behind other text, at once or token by token.

A tokenizer of the SentencePiece kind drops a space where a text begins, so tokens are decoded behind those of a letter, whose
text is then taken away. Special tokens spell nothing. Nothing depends on a default of transformers: white space is never
cleaned up.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

from spa_bench.errors import ModelError
from spa_bench.models.hf.loading import of_others, told

_LETTERS = ("a", "0", ".", "x")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token that stands for one byte
_BROKEN = "\ufffd"  # in place of bytes that are no character, or not one yet
_SAMPLE = "def f(x):\n    return [x, 1]  # An example's text."
_TRIED = 48  # tokens of the vocabulary that are decoded in pairs


class _Piece(NamedTuple):
    """What one token spells behind a letter."""

    text: str
    begins: bool  # whether a character begins with it, whatever comes before
    ends: bool  # whether its last character is complete, whatever comes after


class Spelling:
    """The text of tokens of `tokenizer`; the tokens in `ends` spell nothing."""

    def __init__(self, tokenizer: Any, ends: Container[int]):
        self._tokenizer, self.ends = tokenizer, ends
        self._pieces: dict[int, _Piece] = {}

    def text(self, tokens: Sequence[int]) -> str:
        """The text that `tokens` add behind a text; bytes that are no character are U+FFFD."""
        behind, head = self._letter
        ids = [t for t in tokens if t not in self.ends]
        whole = self.decode([*behind, *ids])
        return whole[len(head) :] if whole.startswith(head) else self.decode(ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens` as a whole text, without special tokens. Raises ModelError where the tokenizer fails."""
        try:
            return cast(str, self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))
        except BaseException as error:  # a tokenizer is code of others, and raises what it likes
            if not of_others(error):
                raise
            name = self._tokenizer.name_or_path
            raise ModelError(f"the tokenizer of model {name!r} cannot give the text of tokens: {told(error)}") from error

    def last(self, tokens: Sequence[int], letters: int) -> str:
        """The end of `text(tokens)`: what the last token can have changed, and `letters` letters before it at least."""
        if not tokens or not self.separable:
            return self.text(tokens)
        start, found = len(tokens) - 1, 0
        while start and (found < letters or not self.piece(tokens[start]).begins):
            start -= 1
            piece = self.piece(tokens[start])
            found += len(piece.text) if piece.begins and piece.ends else 0
        return self.text(tokens[start:])

    def piece(self, token: int) -> _Piece:
        """What `token` spells, and whether whole characters begin and end with it."""
        if token not in self._pieces:
            text = self.text([token])
            # a run of byte tokens is decoded as one, so that each of them can break the others
            loose = not text or _BYTE.fullmatch(str(self._tokenizer.convert_ids_to_tokens(token))) is not None
            self._pieces[token] = _Piece(text, not loose and text[0] != _BROKEN, not loose and text[-1] != _BROKEN)
        return self._pieces[token]

    @cached_property
    def separable(self) -> bool:
        """Whether tokens that are whole characters spell the same beside any others.

        It is tried with the tokens of a text and some of the whole vocabulary. False for tokenizers in which the end of a word
        is part of a token, and joins the next word to it with a space.
        """
        size = len(self._tokenizer)
        tokens = [*self._tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"], *range(0, size, max(1, size // _TRIED))]
        whole = [t for t in tokens if self.piece(t).begins and self.piece(t).ends]
        return all(
            self.text([one, other]) == self.piece(one).text + self.piece(other).text
            for one, other in zip(whole, [*whole[1:], *whole[:1]], strict=True)
        )

    @cached_property
    def _letter(self) -> tuple[list[int], str]:
        """(tokens of a letter, their text)."""
        for letter in _LETTERS:
            ids = self._tokenizer(letter, add_special_tokens=False)["input_ids"]
            text = self.decode(ids)
            if text.endswith(letter):
                return ids, text
        return [], ""


class Tail:
    """The text of an answer while its tokens come: the same as `Spelling.text` of all of them.

    A token costs the same however long the answer is; bytes of a character that is not complete are decoded again.
    """

    def __init__(self, spelling: Spelling):
        self._spelling, self._settled = spelling, ""
        self._open: list[int] = []  # tokens whose text can still change
        self._spelled = ""  # their text so far

    @property
    def text(self) -> str:
        """The text of all tokens so far."""
        return self._settled + self._spelled

    def push(self, token: int) -> int:
        """Add a token. Returns the place in `text` behind which the token can have changed it."""
        place = len(self._settled)
        if token in self._spelling.ends:
            return len(self.text)
        if not self._spelling.separable:
            self._open.append(token)
            self._spelled = self._spelling.text(self._open)
            return place
        piece = self._spelling.piece(token)
        if piece.begins:
            self._settle()
        if piece.ends and not self._open:
            self._settled += piece.text
            return place
        self._open.append(token)
        self._spelled = self._spelling.text(self._open)
        if piece.ends:
            self._settle()
        return place

    def _settle(self) -> None:
        self._settled, self._spelled = self._settled + self._spelled, ""
        self._open.clear()
