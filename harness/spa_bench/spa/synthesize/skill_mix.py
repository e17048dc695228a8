"""Instruct-SkillMix (Kaur et al. 2024, arXiv 2408.14774): skills are extracted first, then pairs of them become tasks.

Before the first round the model is shown the targets, `shown` at a time, and names the skills that they need. In a round each
draft gets `mixed` different skills, drawn with the seed, and the model writes an instruction that needs all of them, with its
answer. The paper also has a model merge skills of one meaning, and draws a type of query beside the skills; here equal names
are merged, and a target that is shown says what kind of text is wanted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spa_bench.cards.templates import filled_in, template_file
from spa_bench.errors import DataError
from spa_bench.samplers.asking.checks import is_share, is_temperature, within
from spa_bench.spa.synthesize.asking import Asking, Writer, check_chat, shown
from spa_bench.spa.synthesize.base import Draft, Prepared, Progress, Setting, SynthesisKind
from spa_bench.spa.synthesize.oss_instruct import draft_of
from spa_bench.support.files import replace_file
from spa_bench.types import Example

_NAMES = (("instruction", "task", "problem", "query", "question"), ("response", "answer", "solution"))
_LONGEST = 80  # characters of the name of a skill: what is longer is a sentence about something else


@dataclass(frozen=True, kw_only=True)
class SkillMixOptions:
    """The options of skill-mix."""

    shown: int = 4  # [targets] from which one reply names skills
    listed: int = 8  # [skills] that one reply may name
    skills: int = 64  # [skills] that are kept, the most frequent first
    mixed: int = 2  # [skills] of one task
    round: int = 32  # [drafts] that are asked for together; a stopped synthesis loses at most these
    temperature: float = 0.8  # [0 upward] of the model that writes
    top_p: float = 0.95  # [share, above 0 to 1]
    max_new_tokens: int = 1024  # [tokens] the most of a reply
    system: str = ""  # a system message before each question; "": none
    list: str = template_file("skill-list", needs="examples", may="n")  # what is asked for skills
    template: str = template_file("skill-mix", needs="skills", may="example")  # what is asked for a task and its answer

    def __post_init__(self) -> None:
        is_temperature(self.temperature)
        is_share(top_p=self.top_p)
        counts = {name: getattr(self, name) for name in ("shown", "listed", "skills", "mixed", "round", "max_new_tokens")}
        within(1, None, **counts)
        if self.mixed > self.skills:
            raise ValueError(f"mixed is {self.mixed}, of {self.skills} skills that are kept")


class SkillMix:
    """See Synthesizer."""

    def __init__(self, setting: Setting):
        self._options, self._targets = setting.card.options_as(SkillMixOptions), setting.targets
        o = self._options
        how = Asking(temperature=o.temperature, top_p=o.top_p, max_new_tokens=o.max_new_tokens, system=o.system)
        self._writer = Writer(setting, how)

    def prepare(self, *, progress: Progress, kept: Path) -> Prepared:
        """See Synthesizer.prepare: the skills, one call of the model after another. Raises DataError for too few."""
        groups = [self._targets[i : i + self._options.shown] for i in range(0, len(self._targets), self._options.shown)]
        counts, tokens = Counter[str](), 0
        for number, group in enumerate(groups):
            file = kept / f"skills-{number:05}.json"
            if not file.exists():
                values = {"examples": shown(group, "Task", "Answer"), "n": self._options.listed}
                [reply] = self._writer.ask("skill-list", number, [filled_in(self._options.list, values)])
                said = [] if reply.failure else reply.items(self._options.listed)
                content = {"skills": [skill for skill in said if len(skill) <= _LONGEST], "tokens": reply.tokens}
                replace_file(file, (json.dumps(content) + "\n").encode())
            read = json.loads(file.read_text(encoding="utf-8"))
            names = (" ".join(skill.lower().strip(".").split()) for skill in read["skills"])
            counts.update(list(dict.fromkeys(name for name in names if name)))
            tokens += read["tokens"]
            progress(number + 1, len(groups))
        order = sorted(counts, key=lambda skill: -counts[skill])  # of equally frequent ones the earlier first
        skills = order[: self._options.skills]
        if len(skills) < self._options.mixed:
            raise DataError(
                f"skill-mix found {len(skills)} skills in {len(self._targets)} targets, and a task mixes "
                f"{self._options.mixed}: use a model that can name them, or another synthesize.options.list"
            )
        facts = {"skills": skills, "skills_found": len(counts), "tokens_for_skills": tokens}
        return Prepared(facts=facts, round=partial(self._round, skills))

    def _round(self, skills: Sequence[str], number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
        """See Prepared.round."""
        choices = self._writer.choices("skill-mix", number)
        mixes, asked = list[list[str]](), list[str]()
        for _ in range(self._options.round):
            places = choices.choice(len(skills), self._options.mixed, replace=False)
            mixes.append([skills[place] for place in places])
            example = shown([self._targets[int(choices.integers(len(self._targets)))]], "Instruction", "Response")
            values = {"skills": "\n".join(f"- {skill}" for skill in mixes[-1]), "example": example}
            asked.append(filled_in(self._options.template, values))
        for mix, reply in zip(mixes, self._writer.ask("skill-mix", number, asked), strict=True):
            yield draft_of(reply, f"skills {', '.join(mix)}", _NAMES)


KIND = SynthesisKind(build=SkillMix, options=SkillMixOptions, check_model=check_chat, shape="instruction", targets=2)
