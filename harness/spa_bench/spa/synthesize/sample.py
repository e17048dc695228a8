"""Plain sampling: the model writes whole pairs, and nothing but the words with which all targets begin tells it of which kind.

It is what steering is compared with. Without the words with which targets begin alike, as programs do with `def`, a model that
knows other kinds of text too would write these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.errors import DataError, ModelError
from spa_bench.models.base import Model, PairEncoder
from spa_bench.samplers.asking.asker import replies_of
from spa_bench.samplers.asking.case import Reply
from spa_bench.samplers.asking.checks import is_share, is_temperature, within
from spa_bench.spa.synthesize.base import Draft, Prepared, Progress, Setting, SynthesisKind
from spa_bench.spa.synthesize.layout import LAYOUTS, layout_of, pair_in
from spa_bench.support.seeds import derive_seed
from spa_bench.types import Decoding, Example, Member, Request

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The options of sample."""

    lead: str = "auto"  # the words with which each draft begins: auto (those that all targets begin with), or a text of yours
    layout: str = "auto"  # how a text is read as a pair: code, pairs, or auto, by the targets; as softsrv has it
    temperature: float = 1.0  # [0 upward]
    top_p: float = 1.0  # [above 0 to 1]
    max_new_tokens: int = 0  # [tokens] the most of a draft; 0: half as many again as the longest target has
    round: int = 64  # [drafts] of a round

    def __post_init__(self) -> None:
        within(1, None, round=self.round)
        within(0, None, max_new_tokens=self.max_new_tokens)
        is_temperature(self.temperature)
        is_share(top_p=self.top_p)
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}; use {', '.join(LAYOUTS)}")


class Sample:
    """See Synthesizer."""

    def __init__(self, setting: Setting):
        self._model, self._seed, self._options = setting.model, setting.seed, setting.card.options_as(SampleOptions)
        self._layout = layout_of(self._options.layout, setting.targets)
        self._texts = [self._layout.text(target) for target in setting.targets]
        lead = self._options.lead
        self._lead = _words_of_all(self._texts) if lead == AUTO else lead

    def prepare(self, *, progress: Progress, kept: Path) -> Prepared:
        """See Synthesizer.prepare: there is nothing to do."""
        facts = {"layout": self._layout.name, "lead": self._lead, "max_new_tokens": self._most}
        return Prepared(facts=facts, round=self._round)

    @property
    def _most(self) -> int:
        """The most tokens of a draft."""
        model = self._model
        if not isinstance(model, PairEncoder):  # as check_model says
            return self._options.max_new_tokens
        head = len(model.encode_pair(self._lead, "a")[0])
        longest = max(len(model.encode_pair("", text)[1]) for text in self._texts)
        return min(self._options.max_new_tokens or math.ceil(1.5 * longest), model.context - head)

    def _round(self, number: int, pairs: Sequence[Example]) -> Iterator[Draft]:
        """See Prepared.round; `pairs` have no effect."""
        how = self._options
        decoding = Decoding(temperature=how.temperature, top_p=how.top_p, max_new_tokens=self._most)
        requests = [
            Request(
                problem_id=f"synthesis/{number}",
                member=0,
                draw=place,
                kind="generate",
                prompt=self._lead,
                decoding=decoding,
                seed=derive_seed(self._seed, "sample", number, place),
            )
            for place in range(how.round)
        ]
        heard = replies_of(self._model, requests, [Member("writer", None, decoding)])
        for request in requests:
            yield self._draft(heard[request.key][0])

    def _draft(self, reply: Reply) -> Draft:
        text = self._lead + reply.text
        pair, failure = pair_in(self._layout, text, drawn=not reply.failure, ended=reply.finish == "stop")
        return Draft(text=reply.failure or text, example=pair, failure=failure, tokens=reply.tokens)


def _words_of_all(texts: Sequence[str]) -> str:
    """The whole words with which all texts begin. Raises DataError for one text, all of which they would be.

    A space at their end is left out: it would belong to the first token of what follows.
    """
    if len(texts) < 2:
        raise DataError(
            "sample begins each draft with the words that all targets begin with, and there is one target: give more targets, "
            "or set synthesize.options.lead"
        )
    shared = _common(texts)
    if any(re.match(r"\w", text[len(shared) :]) for text in texts):
        shared = re.sub(r"\w+\Z", "", shared)
    return shared.rstrip()


def _common(texts: Sequence[str]) -> str:
    """The beginning that all texts share."""
    first, last = min(texts), max(texts)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(map(len, (first, last))))]


def check_model(card: SynthesisCard, model: Model) -> None:
    """Raises ModelError for a model whose tokens nobody can see, where the most of a draft is to follow from the targets."""
    if not isinstance(model, PairEncoder) and not card.options_as(SampleOptions).max_new_tokens:
        raise ModelError(
            f"sample takes the most tokens of a draft from the targets, and {model.name!r} has no tokenizer here; set "
            "options.max_new_tokens"
        )


KIND = SynthesisKind(build=Sample, options=SampleOptions, check_model=check_model)
