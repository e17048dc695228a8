"""Options of multiple-choice problems as tokens, which are encoded, cut and counted as in lm-eval 0.4.13.

As in TemplateLM._encode_pair, trailing spaces of the context move to the text, both are encoded together, and the tokens of the
context alone are split off. An empty context is the beginning-of-text token, or the end token where there is none. A text that
begins with that token gets no second one. As in HFLM._loglikelihood_tokens, the network reads context + text[:-1], so the two
may be one token longer together than its context; longer ones are cut on the left.

One thing differs: tokens that a tokenizer puts behind a text (`add_eos_token`, BERT's `[SEP]`) are left out. lm-eval leaves
them in: a context ends with one, an option loses its first token, and options of one token all score alike.

Options with the same tokens to read, such as those of one context with texts of one token, share a row that is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import UsageError
from spa_bench.types import Asked

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of the text after it."""
IntArray = NDArray[np.int32]
_TOGETHER = 64  # problems tokenised in one call
TOKENS = {"cpu": 4096, "cuda": 32768}  # tokens of all rows that are read together
ROWS = {"cpu": 128, "cuda": 1024}  # rows that are read together, unless the user chooses a number


@dataclass(frozen=True)
class Encoded:
    """One problem as tokens."""

    problem: str
    rows: tuple[IntArray, ...]  # the rows that a network reads, context + text[:-1], each once
    options: tuple[
        tuple[int, IntArray], ...
    ]  # of each option: its row and its text's tokens, each of which follows one of the row's last tokens
    contexts: tuple[tuple[int, int], ...]  # of each different context: a row, and how far before its end the context ends

    @property
    def longest(self) -> int:
        """The number of tokens of the longest row."""
        return max(map(len, self.rows))

    @property
    def keep(self) -> int:
        """The number of places at the end of a row whose logits are needed."""
        return max(len(text) for _, text in self.options)


class TextEncoder(Protocol):
    """A tokenizer of whole texts; see spa_bench.models.hf.codec.Codec."""

    @property
    def first(self) -> tuple[int, str]:
        """The token of an empty text, and its own text."""
        ...

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole texts, without special tokens around them."""
        ...

    def whole(self, texts: Sequence[str], *, begun: str | None = None) -> list[list[int]]:
        """Token ids of whole texts behind the tokenizer's first special tokens, unless they begin with them or with `begun`."""
        ...


class OptionEncoder:
    """Encodes options for a model that reads `context` tokens at most."""

    def __init__(self, encoder: TextEncoder, context: int):
        self._encoder, self._context = encoder, context

    def encode(self, asked: Sequence[Asked]) -> list[Encoded]:
        """`asked` as tokens, in order; each text is tokenised once.

        Raises UsageError, naming the longest problem, where an option does not fit and may not be cut, and for an option
        without a token.
        """
        problems: list[Encoded] = []
        long: list[tuple[int, str, int]] = []  # tokens, problem, option
        for start in range(0, len(asked), _TOGETHER):
            part = asked[start : start + _TOGETHER]
            pairs = iter(self.pairs([option for one in part for option in one.options]))
            for one in part:
                mine = [next(pairs) for _ in one.options]
                long += [
                    (len(context) + len(text), one.problem_id, i)
                    for i, (context, text) in enumerate(mine)
                    if len(text) > self._context or (not one.cut and len(context) + len(text) > self._context + 1)
                ]
                problems.append(encoded(one.problem_id, mine, self._context))
        if long:
            tokens, problem, option = max(long, key=lambda each: each[0])
            many = len({each[1] for each in long})
            raise UsageError(
                f"{many} of {len(asked)} problems do not fit the model's context of {self._context} tokens: with option "
                f"{option}, {problem} has {tokens}; ask with fewer examples, take a model with a longer context, or let the "
                f"task cut on the left as lm-eval does"
            )
        return problems

    def pairs(self, options: Sequence[tuple[str, str]]) -> list[Pair]:
        """Token ids of (context, text), in order."""
        moved = [_spaces_moved(context, text) if context else (context, text) for context, text in options]
        first, begun = self._encoder.first
        joint = list(dict.fromkeys([c for c, _ in moved if c] + [c + t for c, t in moved if c]))
        ids = dict(zip(joint, self._encoder.whole(joint, begun=begun), strict=True))
        bare = list(dict.fromkeys(t for c, t in moved if not c))
        alone = dict(zip(bare, self._encoder.ids_of(bare), strict=True))
        pairs: list[Pair] = []
        for context, text in moved:
            if context:
                before, whole = ids[context], ids[context + text]
                pairs.append((before, whole[len(before) :]))
            else:
                tokens = alone[text]
                pairs.append((tokens[:1], tokens[1:]) if tokens[:1] == [first] else ([first], tokens))
        return pairs


def _spaces_moved(context: str, text: str) -> tuple[str, str]:
    """(context, text) with the context's trailing white space in front of the text."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + text


def encoded(problem: str, pairs: Sequence[Pair], context: int) -> Encoded:
    """The rows that answer `pairs` for a network that reads `context` tokens. Raises UsageError for a text without a token."""
    rows: dict[bytes, int] = {}
    kept: list[IntArray] = []
    options: list[tuple[int, IntArray]] = []
    contexts: dict[bytes, tuple[int, int]] = {}
    for number, (before, text) in enumerate(pairs):
        if not len(text):
            raise UsageError(f"problem {problem}: option {number} adds no token to its context, so it has no probability")
        row = np.array([*before, *text][-(context + 1) :][:-1], np.int32)
        place = rows.setdefault(row.tobytes(), len(rows))
        if place == len(kept):
            kept.append(row)
        options.append((place, np.array(text, np.int32)))
        back = len(text) - 1
        contexts.setdefault(row[: len(row) - back].tobytes(), (place, back))
    return Encoded(problem, tuple(kept), tuple(options), tuple(contexts.values()))


def groups(problems: Sequence[Encoded], most: int, tokens: int) -> Iterator[list[Encoded]]:
    """`problems`, longest first, in groups of at most `most` rows and `tokens` tokens together, but of one problem at least.

    The groups do not depend on which problems are done, so that a run that was stopped resumes with the same bytes.
    """
    group: list[Encoded] = []
    rows = width = 0
    for problem in sorted(problems, key=lambda p: (-p.longest, p.keep, p.problem)):
        if group and rows + len(problem.rows) > min(most, tokens // width):
            yield group
            group, rows = [], 0
        if not group:
            width = problem.longest
        group.append(problem)
        rows += len(problem.rows)
    if group:
        yield group
