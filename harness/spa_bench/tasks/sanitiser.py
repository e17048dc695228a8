"""The default sanitiser: an answer's program, which loses nothing that its entry point needs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from spa_bench.support.text import before_stop
from spa_bench.tasks.answer_text import before_fence, line_ends, statements, unfenced, without_drafts
from spa_bench.tasks.program_choice import Chosen, choose

_INDENTED = re.compile(r"^(?![^\n]*\bself\b)([ \t]+)(?:async def|def|class|import|from|@)\b", re.MULTILINE)
_THINKING = re.compile(r"^\s*<(think|thinking|thought|reasoning)>", re.IGNORECASE | re.MULTILINE)

# tokens that end the answers of well-known models, as some servers leave them behind the last line
_ENDS = ("</s>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>")


@lru_cache(maxsize=4096)  # greedy members often agree
def program(prompt: str, answer: str, entry_point: str, stops: Sequence[str]) -> tuple[str, bool]:
    """(the program of `answer`, which goes on from `prompt` if there is one; whether it stands without the prompt).

    Of the text that parses, it keeps the last definition of `entry_point` and all that this needs, as written: imports,
    decorators and statements at module level. It drops chat, fences, drafts, and what only drives the program: prints, what
    reads input, asserts, a main guard. A stop string ends the answer where what is before it is a program. In a reply
    (no prompt), those that begin with a line end are for the model that writes alone: the last definition counts.
    A token that ends the answers of models ends this one where the whole is no program.
    Where nothing defines the entry point, it gives the text before a stop string and a closing fence, without drafts.
    """
    answer, name = line_ends(answer), unicodedata.normalize("NFKC", entry_point)
    hard = [stop for stop in stops if not stop.startswith("\n")]
    texts = [before_stop(answer, stops)] if prompt else []
    best: _Reading | None = None
    for text in dict.fromkeys([*texts, before_stop(answer, hard), answer, before_stop(answer, _ENDS)]):
        found = _program(prompt, text.rstrip(), name)
        if found is not None and (best is None or found.lacks < best.lacks):
            best = found
        if best is not None and not any(best.lacks):
            break
    if best is None:
        return before_fence(without_drafts(before_stop(answer, stops)).rstrip()), not prompt
    code = best.chosen.text
    if prompt and code.startswith(prompt):
        return code[len(prompt) :].rstrip(), False
    return code.rstrip(), True


class _Reading(NamedTuple):
    """A program that an answer can be read as."""

    chosen: Chosen
    broken: bool = False  # the entry point was left without its end

    @property
    def lacks(self) -> tuple[bool, bool]:
        """Whether the program lacks the end of its entry point, and names that it reads."""
        return self.broken, bool(self.chosen.missing)


def _program(prompt: str, answer: str, entry_point: str) -> _Reading | None:
    """The program of one reading of `answer`; see `program`."""
    for text in _begun(prompt, answer):
        if found := choose(prompt + text, len(prompt), entry_point):
            return _Reading(found)
    best: _Reading | None = None
    begin = prompt.rstrip()
    for text in _begun(prompt, answer):
        for first, *rest in _parted(text):
            codes, ends = zip(statements(prompt + first), *map(statements, rest), strict=True)
            code = "\n".join(filter(None, codes))
            if found := choose(code, len(begin) if code.startswith(begin) else 0, entry_point):
                one = _Reading(found, broken=any(entry_point in unicodedata.normalize("NFKC", end) for end in ends))
                best = one if best is None or one.lacks < best.lacks else best
            if best is not None and not any(best.lacks):
                return best
    return best


def _begun(prompt: str, answer: str) -> Iterator[str]:
    """`answer`, and where it goes on from a function: with the prompt's kind of indent, also in its first line."""
    yield answer
    if not prompt.strip():
        return
    last = prompt.rstrip().rpartition("\n")[2]
    indent = last[: len(last) - len(last.lstrip())] or "    "
    spaces = re.sub(r"^\t+", lambda tabs: indent * len(tabs[0]), answer, flags=re.MULTILINE)
    if "\t" not in indent and spaces != answer:
        yield spaces
    if answer[:1] not in " \t\n":
        yield indent + answer


def _parted(answer: str) -> Iterator[list[str]]:
    """The readings of a reply, each in the parts that its fences make."""
    thought = without_drafts(answer)
    yield unfenced(thought)
    if "```" in thought or "~~~" in thought:
        yield unfenced(thought, strings=False)
    if thought != answer and not _THINKING.search(answer):
        yield unfenced(answer)
    if indented := _INDENTED.search(thought):  # a block of code by its indent alone
        yield [re.sub(f"^{indented[1]}", "", thought, flags=re.MULTILINE)]
