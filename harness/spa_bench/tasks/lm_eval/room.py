"""Whether prompts and answers fit a model, before anything is computed for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from spa_bench.errors import UsageError
from spa_bench.tasks.lm_eval.asking import Question

_NEAR = 16  # letters around a cut in which lm-eval's own cut is searched
_EXTRA = 8  # tokens that a tokenizer may put around a text


class _Need(NamedTuple):
    """The tokens that one problem needs."""

    total: int
    prompt: int
    answer: int
    problem: str


@runtime_checkable
class Tokenized(Protocol):
    """A model whose tokenizer can be used; see spa_bench.models.base.PairEncoder."""

    name: str
    context: int

    def encode_pair(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of its completion with the end token; encoded apart. See PairEncoder."""
        ...


class Room:
    """The context of one model, with room for `after` tokens after a choice."""

    def __init__(self, model: Tokenized, after: int):
        self._model, self._after = model, after

    def checked(self, asked: Sequence[Question], *, cut: bool) -> tuple[dict[str, str], frozenset[str]]:
        """(prompts that were cut, by problem; multiple-choice problems to cut); both are empty where all fit.

        Raises UsageError, with the longest, where one does not fit and `cut` is False, or where no prompt could be cut to
        fit.
        """
        long = [(q, need) for q in asked if (need := self._need(q)) is not None]
        if not long:
            return {}, frozenset()
        worst = max(need for _, need in long)
        if not cut or worst.answer >= self._model.context:
            raise UsageError(self._told(worst, len(long), len(asked), cut=cut))
        return (
            {q.problem.id: self._end(q.texts[0][0], need.answer) for q, need in long if q.kind == "written"},
            frozenset(q.problem.id for q, _ in long if q.kind != "written"),
        )

    def _need(self, question: Question) -> _Need | None:
        """The need of a document's longest request where it exceeds the context; else None."""
        worst = None
        for context, text, answer in self._requests(question):
            # no token is shorter than a byte, so most documents fit without a count of tokens
            if len((context + text).encode()) + _EXTRA + answer <= self._model.context:
                continue
            head, tail = self._model.encode_pair(context, text)  # the tail with an end token
            need = _Need(len(head) + len(tail) - 1 + answer, len(head), len(tail) - 1 + answer, question.problem.id)
            if need.total > self._model.context and (worst is None or need > worst):
                worst = need
        return worst

    def _requests(self, question: Question) -> Iterator[tuple[str, str, int]]:
        """(context, text, tokens after them) of each request; of options that share a context, only the longest."""
        if question.kind == "written":
            yield question.texts[0][0], "", question.max_new_tokens
            return
        longest: dict[str, str] = {}
        for context, text in question.texts:
            if len(text) > len(longest.get(context, "")):
                longest[context] = text
        for context, text in longest.items():
            yield context, text, self._after

    def _end(self, context: str, answer: int) -> str:
        """The end of `context` that leaves room for `answer` tokens.

        It is the text of exactly those tokens that lm-eval keeps, where there is such a text, else as many letters as fit.
        """
        room, low, high = self._model.context - answer, 0, len(context)
        kept = self._model.encode_pair(context, "")[0][-room:]
        while low < high:  # the fewest letters to leave out
            middle = (low + high) // 2
            if len(self._model.encode_pair(context[middle:], "")[0]) > room:
                low = middle + 1
            else:
                high = middle
        near = (context[i:] for i in range(max(0, low - _NEAR), min(len(context), low + _NEAR)))
        return next((text for text in near if self._model.encode_pair(text, "")[0] == kept), context[low:])

    def _told(self, worst: _Need, long: int, of: int, *, cut: bool) -> str:
        shorter = "a shorter answer (task.max_new_tokens after a choice, task.options.max_gen_toks for a generated one)"
        if cut:
            return (
                f"{worst.problem} needs {worst.answer} tokens for the answer alone, and model {self._model.name!r} has a "
                f"context of {self._model.context}: no prompt can be cut to fit; ask for {shorter}"
            )
        return (
            f"{worst.problem} needs {worst.total} tokens ({worst.prompt} of its prompt, {worst.answer} for the answer), and "
            f"model {self._model.name!r} has a context of {self._model.context}; it is the longest of {long} (of {of}) that do "
            f"not fit: ask with fewer examples (task.options.fewshot), if there are any, or {shorter}, or "
            'task.options.too_long = "cut", which cuts prompts on the left'
        )
