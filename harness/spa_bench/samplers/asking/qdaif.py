"""QDAIF (Bradley et al. 2023, arXiv 2310.13032): a search that keeps the best answer of each kind and makes new ones of them.

1. The model drafts some answers.
2. Each answer is placed in an archive whose axes say in what answers differ; a cell keeps the best answer that falls into it.
3. The model is shown elites, drawn uniformly over the cells, and asked for another answer; then 2 again, until the pool is
   drawn.
4. The n best elites are the answers; where fewer cells are filled, the best of the other candidates follow.

Axes are measures of ours (`length`; `syntax`: loops, branches and functions; `behaviour`: what the program does on the examples
in its prompt), a learned `similarity` (QDHF, arXiv 2310.12103), or the model's own judgement (`judged`: one of `labels`), as in
the paper. Quality is the share of the prompt's examples that the program gets right, the log-probability a token that the model
gives the answer, or the same for all, so that the first of a cell stays. It never comes from the task's tests, which no sampler
sees. Of an answer that has prose or an example of use beside its program, all of this looks at the program as it is graded. The
log-probability is that of the answer alone, behind the question for a draft and the beginning of a reply to it: a
line `### Answer` and, where the answer is a program, the fence. It is divided by the answer's tokens; no end token is scored.

The paper asks the model for quality too, and mutates by few-shot continuation; instruct models are asked in words here. Our
words are in the templates.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.templates import template_file
from spa_bench.errors import ModelError, UsageError
from spa_bench.models.base import Model
from spa_bench.models.learned import found_similarity, ranges_of
from spa_bench.samplers.asking.archive import AXES, MOST_CELLS, Archive, Axes, Candidate, check_installed
from spa_bench.samplers.asking.asker import asking_kind, pair_encoder
from spa_bench.samplers.asking.case import Answer, Case, Question, Reply, Steps
from spa_bench.samplers.asking.checks import MOST, one_of, within
from spa_bench.samplers.base import Graded, Wants, check_chat
from spa_bench.support.text import did_you_mean
from spa_bench.support.thoughts import without_thoughts
from spa_bench.types import Key, Prompt

QUALITIES = ("examples", "likelihood", "none")
_OF_PROGRAMS = {"syntax", "behaviour"}
_LEAST = -1e9  # nats a token, of a text that cannot be scored
_SQUARE = ((0.0, 1.0), (0.0, 1.0))  # any two ranges, where only cells are counted
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
    # which of two answers in a cell is kept: by the prompt's examples, by likelihood, or (none) the first
    quality: str = "examples"
    attribute: str = ""  # of axis `judged`: what the model is asked to tell, e.g. "the approach that the program takes"
    labels: tuple[str, ...] = ()  # of axis `judged`: what it may answer
    judgement_tokens: int = 16  # [tokens] of axis `judged`: of a judgement; a model that thinks first needs more
    similarity: str = ""  # of axis `similarity`: the folder that `spa-bench similarity learn` made
    system: str = ""  # a system message before each question; "": none
    draft: str = template_file("draft", may="answer")  # what is asked for a draft
    change: str = template_file("qdaif-change", needs="prompt parents", may="answer")  # what is asked for another answer
    judge: str = template_file("qdaif-judge", needs="candidate labels", may="prompt attribute")  # for axis `judged`
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers

    def __post_init__(self) -> None:
        within(1, MOST, pool=self.pool, drafts=self.drafts, batch=self.batch, parents=self.parents, bins=self.bins)
        within(1, None, judgement_tokens=self.judgement_tokens)
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
        if (cells := self.archive(_SQUARE).cells) > MOST_CELLS:
            raise ValueError(
                f"axes is {', '.join(self.axes)}, which makes an archive of {cells:,} cells; {MOST_CELLS:,} are the most: set "
                "options.bins or options.pool lower, or name fewer axes"
            )

    def archive(self, ranges: tuple[tuple[float, float], ...]) -> Axes:
        """The axes of an archive; `ranges` are those of a learned similarity, where it is an axis."""
        return Axes(names=self.axes, bins=self.bins, pool=self.pool, labels=len(self.labels), ranges=ranges)

    @property
    def trials(self) -> bool:
        """Whether programs are tried on the examples of their prompts."""
        return self.quality == "examples" or "behaviour" in self.axes


def search(case: Case, options: QdaifOptions) -> Steps:
    """The procedure; see the top of this file."""
    ranges = tuple(case.aids.ranges) if case.aids and options.similarity else ()
    archive = Archive(options.archive(ranges), int(case.choices("archive").integers(2**31)))
    lost: list[Answer] = []
    drawn = 0
    while drawn < options.pool:
        count = min(options.batch if drawn else options.drafts, options.pool - drawn)
        drafting = case.ask(case.words(options.draft))
        asked = [drafting] * count
        if archive.candidates:
            parents = archive.parents(count, options.parents)
            asked = [case.ask(case.words(options.change, {"parents": _shown(case, some)})) for some in parents]
        answers = [case.answer(reply) for reply in (yield asked)]
        drawn += count
        lost += [answer for answer in answers if answer.failure]
        for candidate in (yield from _judged(case, options, drafting, [one for one in answers if not one.failure])):
            archive.add(candidate)
    return _answers(case, options, archive, lost)


def _judged(case: Case, options: QdaifOptions, drafting: Question, answers: Sequence[Answer]) -> _Asked:
    """The answers as candidates, with all that places them."""
    if not answers:
        return []
    graded = _graded(case, answers)
    texts = [one.whole for one in graded]
    labels = [(0, "")] * len(answers)
    if "judged" in options.axes:
        values = {"attribute": options.attribute, "labels": ", ".join(options.labels)}
        words = [case.words(options.judge, {**values, "candidate": _fenced(case, text)}) for text in texts]
        replies = yield [case.ask(text, limit=options.judgement_tokens, temperature=0.0) for text in words]
        labels = [_label(reply, options.labels) for reply in replies]
    tried = case.aids.tried(case.prompt, texts) if case.aids and options.trials else None
    quality = [0.0] * len(answers)
    if options.quality == "likelihood":
        opening = _opening(case)
        begun, *scored = yield [replace(drafting, scored=opening + text) for text in ("", *texts)]
        quality = [_likelihood(begun, reply) for reply in scored]
    elif options.quality == "examples":
        quality = [one.right / one.of if one.of else 0.0 for one in tried or ()]
    places = case.aids.coordinates([one.text for one in graded]) if case.aids and options.similarity else None
    return [
        Candidate(
            answer=answer,
            quality=quality[i],
            program=texts[i],
            examples=tried[i].of if tried else 0,
            behaviour=tried[i].behaviour if tried else "",
            label=labels[i][0],
            unjudged=labels[i][1],
            place=() if places is None else tuple(map(float, places[i])),
        )
        for i, answer in enumerate(answers)
    ]


def _graded(case: Case, answers: Sequence[Answer]) -> list[Graded]:
    """The answers as they are graded; one as it is where nothing of it is, and without aids."""
    own = [Graded(answer.text.strip(), answer.text) for answer in answers]
    key = Key(case.prompt.problem_id, 0, 0)
    found = case.aids.graded([answer.completion(key, case.prompt) for answer in answers]) if case.aids else own
    return [one if one.text and one.whole else mine for one, mine in zip(found, own, strict=True)]


def _label(reply: Reply, labels: Sequence[str]) -> tuple[int, str]:
    """The place of the label that a judgement names, and why it names none; see Candidate."""
    place = label_in(reply.text, labels)
    if reply.failure or place == len(labels):
        return len(labels), "failed" if reply.failure else "cut" if reply.cut else "none"
    return place, ""


def _likelihood(begun: Reply, whole: Reply) -> float:
    """The log-probability a token of what `whole` has behind `begun`; where one does not fit the context, a very low number.

    The archive takes finite numbers alone.
    """
    if begun.logprob is None or whole.logprob is None:
        return _LEAST
    return max((whole.logprob - begun.logprob) / max(1, whole.scored - begun.scored), _LEAST)


def label_in(reply: str, labels: Sequence[str]) -> int:
    """The place of the only label in a reply behind its thoughts, as whole words, or of the one that the reply begins with.

    A label behind a `not` is none that is named. It is the number of labels where none is, or several are.
    """
    said = without_thoughts(reply)
    longest = sorted(labels, key=len, reverse=True)  # of labels within labels
    named = re.compile(
        rf"(?<!\w)(?:(not?|without)\s+)?(?:an?\s+|the\s+)?({'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE
    )
    found = [match for match in named.finditer(said) if not match[1]]
    names = [match[2].lower() for match in found]
    several = len(set(names)) > 1 and (len(set(names)) == len(labels) > 2 or re.search(r"\w", said[: found[0].start()]))
    if not names or several:
        return len(labels)
    return [label.lower() for label in labels].index(names[0])


def _answers(case: Case, options: QdaifOptions, archive: Archive, lost: Sequence[Answer]) -> list[Answer]:
    blind = options.quality == "examples" and not any(candidate.examples for candidate in archive.candidates)
    notes = ["no example in the prompt: the first of a cell was kept"] * blind + _unjudged(archive.candidates)
    if cut := sum(candidate.answer.finish == "length" for candidate in archive.candidates):
        notes.append(f"{cut} of {len(archive.candidates)} answers of the pool were cut at their limit")
    made = [
        replace(candidate.answer, note="; ".join(notes + ["not an elite"] * (not is_elite)))
        for candidate, is_elite in archive.chosen(case.n)
    ]
    if len(made) < case.n:
        held = f"{len(archive.candidates)} of {options.pool} replies hold an answer"
        made += [replace(lost[0], failure=f"{held}; of the others, the first: {lost[0].failure}")] * (case.n - len(made))
    return made


def _unjudged(candidates: Sequence[Candidate]) -> list[str]:
    """A note where judgements name no label."""
    why = Counter(candidate.unjudged for candidate in candidates if candidate.unjudged)
    known = (("cut", "cut at the limit"), ("failed", "not answered"))
    told = ", ".join(f"{why[kind]} {words}" for kind, words in known if why[kind])
    return [f"{why.total()} of {len(candidates)} judgements name no label{f' ({told})' if told else ''}"] * bool(why)


def _opening(case: Case) -> str:
    """The beginning of a reply that holds an answer, as templates ask for it."""
    return "### Answer\n\n```python\n" if case.prompt.program else "### Answer\n\n"


def _shown(case: Case, candidates: Sequence[Candidate]) -> str:
    return "\n\n".join(f"### Answer {i}\n\n{_fenced(case, c.text)}" for i, c in enumerate(candidates, 1))


def _fenced(case: Case, text: str) -> str:
    return f"```python\n{text.strip()}\n```" if case.prompt.program else text.strip()


def check_n(card: SamplerCard, n: int) -> None:
    """Raises UsageError for more answers than the pool has."""
    pool = card.options_as(QdaifOptions).pool
    if not 1 <= n <= pool:
        raise UsageError(f"n is {n}, but {card.name} keeps answers of a pool of {pool}: choose n between 1 and that")


def check_model(card: SamplerCard, model: Model) -> None:
    """Raises ModelError for a model without chat template, or one that cannot score where quality is its likelihood.

    Raises it too for a similarity that cannot be used, and UsageError for one with a single coordinate and without pyribs.
    """
    check_chat(card, model)
    options = card.options_as(QdaifOptions)
    if options.quality == "likelihood" and (why := model.unable.get("score")):
        raise ModelError(
            f'quality = "likelihood" needs log-probabilities of texts: {why}; set options.quality = "none", or "examples" '
            "where answers are programs"
        )
    if options.quality == "likelihood":
        pair_encoder(model)
    if options.similarity and len(ranges_of(found_similarity(options.similarity))) < 2:
        raise UsageError(f"the similarity in {options.similarity} has one coordinate; an archive over it needs two: --dims 2")
    check_installed()


def check_prompts(card: SamplerCard, prompts: Sequence[Prompt]) -> None:
    """Raises UsageError for axes and a quality that are of programs, where some answers are none."""
    options = card.options_as(QdaifOptions)
    used = _OF_PROGRAMS & set(options.axes)
    others = [prompt for prompt in prompts if not prompt.program]
    if others and (used or options.quality == "examples"):
        what = f"the axis {min(used)!r} is" if used else 'quality = "examples" is'
        raise UsageError(
            f"{what} of programs, and the answers to {others[0].problem_id} are none; set options.axes to length, judged or "
            'similarity, and options.quality to "likelihood" or "none"'
        )


def drawn(card: SamplerCard, n: int) -> int:
    """The number of answers drawn for a problem, of which n are kept."""
    return card.options_as(QdaifOptions).pool


def wants(card: SamplerCard) -> Wants:
    """Answers as they are graded, trials on their prompts' examples where these are asked for, and the card's similarity."""
    options = card.options_as(QdaifOptions)
    return Wants(graded=True, trials=options.trials, similarity=options.similarity)


KIND = asking_kind(
    QdaifOptions, search, check_n=check_n, check_model=check_model, check_prompts=check_prompts, drawn=drawn, wants=wants
)
