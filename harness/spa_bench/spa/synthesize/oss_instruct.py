"""OSS-Instruct (Magicoder, Wei et al. 2023, arXiv 2312.02120): a problem and its solution, inspired by a piece of real code.

A seed is 1 to `lines` lines in a row of a target's code, drawn with the seed, as the paper draws 1 to 15 lines of files of
GitHub. The model is asked for a problem and a solution in two sections. The paper decodes greedily and has a new seed for each
of 80,000 documents; a few targets give the same seeds again, so the usual temperature is above 0 here. The template
`oss-instruct-tests` also asks for tests, which the code filter then runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spa_bench.cards.templates import filled_in, template_file
from spa_bench.samplers.asking.case import Reply
from spa_bench.samplers.asking.checks import is_share, is_temperature, within
from spa_bench.samplers.asking.reading import answer_in
from spa_bench.spa.synthesize.asking import Asking, Writer, check_chat, fenced, sections
from spa_bench.spa.synthesize.base import Draft, Prepared, Progress, Setting, SynthesisKind
from spa_bench.spa.synthesize.programs import program_in
from spa_bench.support.thoughts import without_thoughts
from spa_bench.types import Example

_NAMES = (
    ("problem description", "problem statement", "problem", "task", "instruction"),
    ("solution", "answer", "response", "implementation"),
    ("tests?", "test cases", "unit tests?"),
)
_BLOCK = re.compile(r"\A(.*?)^([ \t]*```[^`\n]*\n.*?^[ \t]*```)[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class OssInstructOptions:
    """The options of oss-instruct."""

    lines: int = 15  # [lines] the most of a seed
    round: int = 32  # [drafts] that are asked for together; a stopped synthesis loses at most these
    temperature: float = 0.8  # [0 upward] of the model that writes
    top_p: float = 0.95  # [share, above 0 to 1]
    max_new_tokens: int = 1024  # [tokens] the most of a reply
    system: str = ""  # a system message before the question; "": none
    # whether a reply without sections is read too, as weak models write them: the words before its first program, which is
    # fenced and closed, are the problem
    loose: bool = False
    # what is asked: a template of ours (oss-instruct, or oss-instruct-tests for tests too) or a file
    template: str = template_file("oss-instruct", needs="snippet")

    def __post_init__(self) -> None:
        is_temperature(self.temperature)
        is_share(top_p=self.top_p)
        within(1, None, lines=self.lines, round=self.round, max_new_tokens=self.max_new_tokens)


class OssInstruct:
    """See Synthesizer."""

    def __init__(self, setting: Setting):
        self._options = setting.card.options_as(OssInstructOptions)
        o = self._options
        how = Asking(temperature=o.temperature, top_p=o.top_p, max_new_tokens=o.max_new_tokens, system=o.system)
        self._writer = Writer(setting, how)
        self._sources = [_lines(target) for target in setting.targets]

    def prepare(self, *, progress: Progress, kept: Path) -> Prepared:
        """See Synthesizer.prepare: there is nothing to do."""
        return Prepared(facts={"seed_lines": sum(map(len, self._sources))}, round=self._round)

    def _round(self, number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
        """See Prepared.round."""
        choices = self._writer.choices("oss-instruct", number)
        seeds = [self._seed(choices) for _ in range(self._options.round)]
        asked = [filled_in(self._options.template, {"snippet": snippet}) for _, snippet in seeds]
        for (target, _), reply in zip(seeds, self._writer.ask("oss-instruct", number, asked), strict=True):
            draft = draft_of(reply, f"target {target + 1}")
            yield _loosely(draft, reply) if self._options.loose else draft

    def _seed(self, choices: np.random.Generator) -> tuple[int, str]:
        """(the number of a target, some of its lines in a row)."""
        target = int(choices.integers(len(self._sources)))
        lines = self._sources[target]
        count = min(len(lines), int(choices.integers(1, self._options.lines + 1)))
        first = int(choices.integers(len(lines) - count + 1))
        return target, "\n".join(lines[first : first + count])


def _lines(target: Example) -> list[str]:
    """The lines of a target's program, or of its completion where it has none; those without text are left out."""
    text = program_in(target) or answer_in(target.completion, program=True)
    return [line for line in text.splitlines() if line.strip()] or [target.prompt.strip()]


def draft_of(reply: Reply, source: str, names: Sequence[Sequence[str]] = _NAMES) -> Draft:
    """The draft that a reply in sections holds: what is asked, the answer, and tests where there are some."""
    if reply.failure:
        return Draft(text=reply.text, failure=reply.failure, source=source, tokens=reply.tokens)
    asked, answer, *rest = sections(reply.text, names)
    if asked is None or answer is None:
        missing = f"the reply has no section {'for the problem' if asked is None else 'for the answer'}"
        cut = ", and was cut at its limit" if reply.finish == "length" else ""
        return Draft(text=reply.text, failure=missing + cut, source=source, tokens=reply.tokens)
    if reply.finish == "length":
        return Draft(text=reply.text, failure="the reply was cut at its limit", source=source, tokens=reply.tokens)
    tests = fenced(rest[0]) if rest and rest[0] else ""
    return Draft(text=reply.text, example=Example(asked, answer), tests=tests, source=source, tokens=reply.tokens)


def _loosely(draft: Draft, reply: Reply) -> Draft:
    """`draft`, or one of a reply without sections: the words before its first closed fence, and what is in the fence."""
    found = None if draft.example or reply.failure else _BLOCK.search(without_thoughts(reply.text))
    if not found or not found[1].strip():
        return draft
    return replace(draft, example=Example(found[1].strip(), found[2].strip()), failure="")


KIND = SynthesisKind(build=OssInstruct, options=OssInstructOptions, check_model=check_chat, shape="instruction", targets=2)
