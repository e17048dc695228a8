"""QDAIF (Bradley et al. 2023, arXiv 2310.13032): a search that keeps the best answer of each kind and makes new ones of them.

1. The model drafts some answers.
2. Each answer is placed in an archive whose axes say in what answers differ; a cell keeps the best answer that falls into it.
3. The model is shown elites, drawn uniformly over the cells, and asked for another answer; then 2 again, until the pool is
   drawn.
4. The n best elites are the answers; where fewer cells are filled, the best of the other candidates follow.

Axes are measures of ours (`length`; `syntax`: loops, branches and functions; `behaviour`: what the program does on the examples
in its prompt), a learned `similarity` (QDHF, arXiv 2310.12103), or the model's own judgement (`judged`: one of `labels`), as in
the paper. Quality is the share of the prompt's examples that the program gets right, or the log-probability a token that the
model gives the answer. It never comes from the task's tests, which no sampler sees.

The paper asks the model for quality too, and mutates by few-shot continuation; instruct models are asked in words here. Our
words are in the templates.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.templates import template_file
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import Model
from spa_bench.samplers.asking.archive import AXES, Archive, Axes, Candidate
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Answer, Case, Question, Reply, Steps, failed
from spa_bench.samplers.asking.checks import one_of, within
from spa_bench.samplers.base import Wants, check_chat
from spa_bench.samplers.replies import as_stored
from spa_bench.support.text import did_you_mean

QUALITIES = ("examples", "likelihood")
_OF_PROGRAMS = {"syntax", "behaviour"}
_JUDGEMENT = 16  # tokens of a judgement
_Asked = Generator[Sequence[Question], Sequence[Reply], list[Candidate]]


@dataclass(frozen=True, kw_only=True)
class QdaifOptions:
    """The [options] of kind qdaif."""

    pool: int = 16  # [answers] drawn for a problem, of which n are kept
    drafts: int = 4  # [answers] of the pool that are drafted before any is changed
    batch: int = 4  # [answers] that are made of elites before the archive is looked at again
    parents: int = 2  # [elites] that the model is shown at once
    axes: tuple[str, ...] = ("behaviour", "syntax")  # in what answers differ: length, syntax, behaviour, judged, similarity
    bins: int = 8  # [cells] of an axis that is a number
    quality: str = "examples"  # which of two answers in a cell is kept: by the prompt's examples, or by likelihood
    attribute: str = ""  # of axis `judged`: what the model is asked to tell, e.g. "the approach that the program takes"
    labels: tuple[str, ...] = ()  # of axis `judged`: what it may answer
    similarity: str = ""  # of axis `similarity`: the folder that `spa-bench similarity learn` made
    system: str = ""  # a system message before each question; "": none
    draft: str = template_file("draft", may="answer")  # what is asked for a draft
    change: str = template_file("qdaif-change", needs="prompt parents", may="answer")  # what is asked for another answer
    judge: str = template_file("qdaif-judge", needs="candidate labels", may="prompt attribute")  # for axis `judged`
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers

    def __post_init__(self) -> None:
        within(1, None, pool=self.pool, drafts=self.drafts, batch=self.batch, parents=self.parents, bins=self.bins)
        if self.drafts > self.pool:
            raise ValueError(f"drafts is {self.drafts}, of a pool of {self.pool}")
        if not self.axes:
            raise ValueError("axes is empty; an archive has one axis at least")
        for axis in self.axes:
            if axis not in AXES:
                raise ValueError(f"axes has {axis!r}{did_you_mean(axis, AXES)}")
        if len(set(self.axes)) < len(self.axes):
            raise ValueError(f"axes names one twice: {', '.join(self.axes)}")
        one_of(QUALITIES, quality=self.quality)
        if ("judged" in self.axes) != bool(self.labels) or ("judged" in self.axes) != bool(self.attribute):
            raise ValueError("labels and attribute belong to the axis 'judged': give all three, or none")
        if len(set(map(str.lower, self.labels))) < len(self.labels):
            raise ValueError(f"labels has one twice: {', '.join(self.labels)}")
        if ("similarity" in self.axes) != bool(self.similarity):
            raise ValueError("similarity is the folder of the axis 'similarity': give both, or none")

    @property
    def trials(self) -> bool:
        """Whether programs are tried on the examples of their prompts."""
        return self.quality == "examples" or "behaviour" in self.axes


def search(case: Case, options: QdaifOptions) -> Steps:
    """The procedure; see the top of this file."""
    _check_case(case, options)
    archive = Archive(_axes(case, options), int(case.choices("archive").integers(2**31)))
    drawn = 0
    while drawn < options.pool:
        count = min(options.batch if drawn else options.drafts, options.pool - drawn)
        drafting = case.ask(case.words(options.draft))
        asked = [drafting] * count
        if archive.candidates:
            parents = archive.parents(count, options.parents)
            asked = [case.ask(case.words(options.change, {"parents": _shown(case, some)})) for some in parents]
        replies = yield asked
        drawn += count
        for candidate in (yield from _judged(case, options, drafting, [case.answer(reply) for reply in replies])):
            archive.add(candidate)
    return _answers(case, options, archive)


def _judged(case: Case, options: QdaifOptions, drafting: Question, answers: Sequence[Answer]) -> _Asked:
    """The candidates among `answers`, those that hold an answer, with all that places them."""
    valid = [answer for answer in answers if not answer.failure]
    if not valid:
        return []
    label_of = [0] * len(valid)
    if "judged" in options.axes:
        values = {"attribute": options.attribute, "labels": ", ".join(options.labels)}
        words = [case.words(options.judge, {**values, "candidate": _fenced(case, answer)}) for answer in valid]
        replies = yield [case.ask(text, limit=_JUDGEMENT, temperature=0.0) for text in words]
        label_of = [label_in(reply.text, options.labels) for reply in replies]
    tried = case.aids.tried(case.prompt, [_whole(case, a) for a in valid]) if case.aids and options.trials else None
    if options.quality == "likelihood":
        scored = yield [replace(drafting, scored=answer.text) for answer in valid]
        quality = [
            float("-inf") if reply.logprob is None else reply.logprob / max(1, answer.tokens)
            for reply, answer in zip(scored, valid, strict=True)
        ]
    else:
        quality = [one.right / one.of if one.of else 0.0 for one in tried or ()]
    places = case.aids.coordinates([answer.text for answer in valid]) if case.aids and options.similarity else None
    return [
        Candidate(
            answer=answer,
            quality=max(quality[i], -1e9),  # the archive takes finite numbers alone
            examples=tried[i].of if tried else 0,
            behaviour=tried[i].behaviour if tried else "",
            label=label_of[i],
            place=() if places is None else tuple(map(float, places[i])),
        )
        for i, answer in enumerate(valid)
    ]


def label_in(reply: str, labels: Sequence[str]) -> int:
    """The place of the label that stands first in a reply, as whole words; the number of labels where none does."""
    found = [
        (match.start(), -len(label), i)
        for i, label in enumerate(labels)
        if (match := re.search(rf"(?<!\w){re.escape(label)}(?!\w)", reply, re.IGNORECASE))
    ]
    return min(found)[2] if found else len(labels)


def _answers(case: Case, options: QdaifOptions, archive: Archive) -> list[Answer]:
    chosen = archive.chosen(case.n)
    blind = options.quality == "examples" and not any(candidate.examples for candidate in archive.candidates)
    made = []
    for candidate, is_elite in chosen:
        notes = ["no example in the prompt: the first of a cell was kept"] * blind + ["not an elite"] * (not is_elite)
        made.append(replace(candidate.answer, note="; ".join(notes)))
    held = len(archive.candidates)
    return made + [failed(f"{held} of {options.pool} replies hold an answer")] * (case.n - len(made))


def _axes(case: Case, options: QdaifOptions) -> Axes:
    ranges = tuple(case.aids.ranges) if case.aids and options.similarity else ()
    if options.similarity and len(ranges) < 2:
        raise UsageError(f"the similarity in {options.similarity} has one coordinate; an archive over it needs two: --dims 2")
    return Axes(names=options.axes, bins=options.bins, pool=options.pool, labels=len(options.labels), ranges=ranges)


def _check_case(case: Case, options: QdaifOptions) -> None:
    """Raise UsageError for axes and a quality that are of programs, where the answers are none."""
    used = _OF_PROGRAMS & set(options.axes)
    if not case.prompt.program and (used or options.quality == "examples"):
        what = f"the axis {min(used)!r} is" if used else 'quality = "examples" is'
        raise UsageError(
            f"{what} of programs, and the answers to {case.prompt.problem_id} are none; set options.axes to length, judged or "
            'similarity, and options.quality = "likelihood"'
        )


def _shown(case: Case, candidates: Sequence[Candidate]) -> str:
    return "\n\n".join(f"### Answer {i}\n\n{_fenced(case, c.answer)}" for i, c in enumerate(candidates, 1))


def _fenced(case: Case, answer: Answer) -> str:
    return f"```python\n{answer.text.strip()}\n```" if case.prompt.program else answer.text.strip()


def _whole(case: Case, answer: Answer) -> str:
    """The program of an answer, as it is graded when it is a whole one."""
    text, whole = as_stored(answer.text, case.prompt)
    return text if whole else case.prompt.text + text


def check_n(card: SamplerCard, n: int) -> None:
    """Raises UsageError for more answers than the pool has."""
    pool = card.options_as(QdaifOptions).pool
    if not 1 <= n <= pool:
        raise UsageError(f"n is {n}, but {card.name} keeps answers of a pool of {pool}: choose n between 1 and that")


def check_model(card: SamplerCard, model: Model) -> None:
    """Raises ModelError for a model without chat template, and for one that cannot score where quality is its likelihood."""
    check_chat(card, model)
    if card.options_as(QdaifOptions).quality == "likelihood" and (why := model.unable.get("score")):
        raise ModelError(f'quality = "likelihood" needs log-probabilities of texts: {why}; set options.quality = "examples"')


def drawn(card: SamplerCard, n: int) -> int:
    """The number of answers drawn for a problem, of which n are kept."""
    return card.options_as(QdaifOptions).pool


def wants(card: SamplerCard) -> Wants:
    """Programs tried on their prompts' examples, where quality or an axis asks for it, and the similarity of the card."""
    options = card.options_as(QdaifOptions)
    return Wants(trials=options.trials, similarity=options.similarity)


KIND = asking_kind(QdaifOptions, search, check_n=check_n, check_model=check_model, drawn=drawn, wants=wants)
