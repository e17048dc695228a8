"""The text of an answer token by token is that of all its tokens at once."""

from __future__ import annotations

import random
from functools import cache
from itertools import takewhile
from typing import Any

import pytest

from spa_bench.models.hf.spelling import Spelling, Tail
from tiny_tokenizers import END, EXACT, LOSSY, fast

TEXTS = ["def f(x):\n    return x\n", " x", "    four", "\n\nz", "é", "你好\n", "\t", "🙂🙂 a", "<s>", "the quick", "."]


@cache
def spelling(kind: str) -> Spelling:
    return Spelling(fast({**EXACT, **LOSSY}[kind]()), frozenset([END]))


def answers(kind: str) -> list[list[int]]:
    """Random tokens, encoded texts, and texts into which one random token came; some begin inside a character."""
    made, rng = fast({**EXACT, **LOSSY}[kind]()), random.Random(kind)
    found = []
    for number in range(90):
        text = "".join(rng.choice(TEXTS) for _ in range(6))
        tokens = made(text, add_special_tokens=False)["input_ids"][rng.randrange(3) :]
        if number % 3 == 1:
            tokens = [rng.randrange(len(made)) for _ in range(rng.randrange(1, 30))]
        if number % 3 == 2:
            tokens.insert(rng.randrange(len(tokens) + 1), rng.randrange(len(made)))
        found.append(tokens)
    return found


@pytest.mark.parametrize("kind", [*EXACT, *LOSSY])
def test_each_token_leads_to_the_text_of_all_tokens_so_far(kind: str):
    one = spelling(kind)
    for tokens in answers(kind):
        tail, before = Tail(one), ""
        for count, token in enumerate(tokens, 1):
            place = tail.push(token)
            assert tail.text == one.text(tokens[:count])
            assert tail.text[:place] == before[:place]
            before = tail.text


@pytest.mark.parametrize("kind", [*EXACT, *LOSSY])
@pytest.mark.parametrize("letters", [0, 1, 4])
def test_the_last_text_has_all_that_the_last_token_changed_and_letters_before_it(kind: str, letters: int):
    one = spelling(kind)
    for tokens in answers(kind):
        for count in range(1, len(tokens) + 1):
            whole, before = one.text(tokens[:count]), one.text(tokens[: count - 1])
            last = one.last(tokens[:count], letters)
            assert whole.endswith(last)
            same = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(whole, before, strict=False)))
            assert len(last) >= min(len(whole), len(whole) - same + letters)


def test_tokens_are_separable_where_no_word_end_is_part_of_them():
    assert {kind: spelling(kind).separable for kind in ("byte-level", "bpe legacy", "suffix")} == {
        "byte-level": True,
        "bpe legacy": True,
        "suffix": False,
    }


@pytest.mark.parametrize("kind", ["byte-level", "bpe legacy"])
def test_a_token_costs_the_same_however_long_the_answer_is(kind: str, monkeypatch: pytest.MonkeyPatch):
    one = Spelling(fast(EXACT[kind]()), frozenset([END]))
    made = fast(EXACT[kind]())
    tokens: list[int] = made("x = 你 + 1\n" * 200, add_special_tokens=False)["input_ids"]
    decoded: list[int] = []
    decode = Spelling.decode

    def counted(self: Spelling, ids: Any) -> str:
        decoded.append(len(ids))
        return decode(self, ids)

    assert one.separable
    monkeypatch.setattr(Spelling, "decode", counted)
    tail = Tail(one)
    for token in tokens:
        tail.push(token)
    assert tail.text.endswith("x = 你 + 1\n")
    assert max(decoded) < 12
    assert sum(decoded) < 6 * len(tokens)


def test_an_end_token_and_special_tokens_spell_nothing():
    tail = Tail(spelling("byte-level"))
    assert [tail.push(token) for token in (END, 1)] == [0, 0]
    assert tail.text == ""
