"""The windows of a long text, as in lm-eval's log-probability of a whole text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def windows(tokens: Sequence[int], first: int, context: int) -> Iterator[tuple[list[int], list[int]]]:
    """(tokens that are read, tokens that are scored after them), so that each of `tokens` is scored once.

    The first window begins with the token `first`. A window reads one token and scores the next `context`; the last window
    scores the rest after as many tokens as fit. See lm_eval.utils.get_rolling_token_windows with context_len = 1, and
    make_disjoint_window.
    """
    done = min(context, len(tokens))
    yield [first], list(tokens[:done])
    while done < len(tokens):
        scored = min(len(tokens) - done, context)
        end = done + scored
        yield list(tokens[end - context - 1 : end - scored]), list(tokens[end - scored : end])
        done = end
