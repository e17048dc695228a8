"""The embedded world's own generator: pairs of mini-code and of the text world, drawn from the seed without a model.

It draws as the embedded sets were drawn, so its programs are right and its answers true, and none is a problem of mini-code
or of mini-nlu. The targets say which world is wanted, and with families = ["targets"] also which families of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import CardError, DataError
from spa_bench.mini import families
from spa_bench.mini.data import forbidden
from spa_bench.mini.text import world as text
from spa_bench.mini.world import Task, draw_family, draw_style, draw_training_task
from spa_bench.samplers.asking.checks import within
from spa_bench.spa.synthesize.base import Draft, Prepared, Progress, Setting, SynthesisKind
from spa_bench.support.seeds import derive_seed
from spa_bench.support.text import did_you_mean
from spa_bench.types import Example

PIPELINES = ("int", "str", "char")  # pipelines over numbers, words and characters
_STANDALONE = {family.name: family for family in families.FAMILIES}
CODE = (*PIPELINES, *_STANDALONE)
TEXT = tuple(text.FAMILIES)
_OF_TARGETS = "targets"
_NOUNS = {"numbers": "int", "words": "str", "characters": "char"}
_TELLING = {  # of a question of the text world: what its family alone says
    "table": r"\A\w+: \d",
    "boolean": r"\b(True|False)\b",
    "counting": r"How many",
    "dates": r"days (earlier|later|after|before)",
    "navigate": r"at the start|where you began|back at|\b(walk|Go)\b",
    "ordering": r"middle|est\?|tallest",
    "pick": r"Name one|Which of",
    "tracking": r"swap",
}


@dataclass(frozen=True, kw_only=True)
class TemplateOptions:
    """The options of template."""

    # which families are drawn: names (int, str and char are the pipelines), equally often; "targets": those of the targets, as
    # often as they are there; empty: all of the targets' world, as often as in the embedded set
    families: tuple[str, ...] = ()
    round: int = 64  # [drafts] of a round

    def __post_init__(self) -> None:
        within(1, None, round=self.round)
        known = (_OF_TARGETS, *CODE, *TEXT)
        for name in self.families:
            if name not in known:
                raise ValueError(f"families has {name!r}{did_you_mean(name, known)}")
        if _OF_TARGETS in self.families and len(self.families) > 1:
            raise ValueError('families has "targets" and others; "targets" stands alone')


class Template:
    """See Synthesizer."""

    def __init__(self, setting: Setting):
        self._seed, self._options = setting.seed, setting.card.options_as(TemplateOptions)
        self._code = sum(target.prompt.lstrip().startswith("def ") for target in setting.targets) * 2 > len(setting.targets)
        names = self._options.families
        self._families = _families_of(setting.targets) if names == (_OF_TARGETS,) else list(names)

    def prepare(self, *, progress: Progress, kept: Path) -> Prepared:
        """See Synthesizer.prepare: there is nothing to do."""
        world = "code" if self._code else "text"
        return Prepared(facts={"families": self._families or f"all of the {world} world"}, round=self._round)

    def _round(self, number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
        """See Prepared.round."""
        for place in range(self._options.round):
            rng = random.Random(derive_seed(self._seed, "template", number, place))
            family = rng.choice(self._families) if self._families else ""
            example, source = _draw(rng, family, code=family in CODE if family else self._code)
            yield Draft(text=example.prompt + example.completion, example=example, source=source)


def _draw(rng: random.Random, family: str, *, code: bool) -> tuple[Example, str]:
    """(a pair, what it was drawn of); of `family` where one is given."""
    if not code:
        item = text.draw_item(rng, family or None)
        answer, _, why = text.draw_answer(item, rng)
        return Example(item.prompt, item.answer(answer) + why), item.family
    while True:
        task = _task(rng, family)
        if task.identity not in forbidden():
            return Example(task.prompt, task.solution(draw_style(task, rng), rng)), task.key


def _task(rng: random.Random, family: str) -> Task:
    if family in _STANDALONE:
        return draw_family(rng, _STANDALONE[family])
    while True:
        task = draw_training_task(rng)
        if not family or task.element == family:
            return task


def _families_of(targets: Sequence[Example]) -> list[str]:
    """The families of the targets, each as often as it is there. Raises DataError where a target is of none."""
    found = []
    for number, target in enumerate(targets, 1):
        family = family_of(target.prompt)
        if family is None:
            raise DataError(
                f"template draws texts of the embedded world, and target {number} ({target.prompt[:60]!r}) is of none of its "
                'families; use targets = "mini" or "mini-nlu", or name families'
            )
        found.append(family)
    return found


def family_of(prompt: str) -> str | None:
    """The family of the embedded world of which a prompt is; None: it is of none."""
    for name, wording in _wordings():
        if wording.search(prompt):
            return name
    if prompt.lstrip().startswith("def "):
        noun = re.search(r"\b(?:From|Of|of) the (numbers|words|characters)\b", prompt)
        return _NOUNS[noun[1]] if noun else None
    for name, telling in _TELLING.items():
        if re.search(telling, prompt):
            return name
    return "pronoun" if re.fullmatch(r"[A-Z]\w+ [^:?]+", prompt) else None


@lru_cache(maxsize=1)
def _wordings() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(family, pattern of its docstrings) of the standalone families of code."""
    return tuple(
        (family.name, re.compile('"""' + re.escape(words).replace(r"\{p\}", r"\w+") + '"""'))
        for family in families.FAMILIES
        for words in family.wording
    )


def check(card: SynthesisCard) -> None:
    """Raises CardError for families of both worlds."""
    names = card.options_as(TemplateOptions).families
    if set(names) & set(CODE) and set(names) & set(TEXT):
        raise CardError(f"template: families are of code and of text: {', '.join(names)}; take those of one world")


KIND = SynthesisKind(build=Template, options=TemplateOptions, check=check)
