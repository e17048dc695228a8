"""Verbalized Sampling (Zhang et al. 2025, arXiv 2510.01171): the model states several answers with their probabilities.

A conversation has `turns` replies with `answers` answers each, and draws are made from all of them together. One turn is the
paper's VS-Standard, several are VS-Multi. The template `verbalized-chain` asks for thoughts first, which is VS-CoT. The words
of the templates are ours, with the paper's parts; the paper has others for each of its tasks.

Left open by the paper, and done so here:

- A draw takes an answer with its stated probability, divided by the sum over the conversation; an answer may be drawn again
  unless `repeat` is false. `draw = "all"` takes the answers in their order, as the paper's measures of diversity do.
- The tail is what is stated to be below the threshold, before any division. Where nothing is, the draws have no answer.
- An answer without a valid probability counts as much as the others on average; it is in no tail.
- An answer in which the reply ended is left out, unless there is no other. Answers beyond those asked for are left out.

What a reply lacks is noted with each of its answers, and metrics.json counts these notes. Draws are not exchangeable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spa_bench.cards.checks import one_of
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.templates import template_file
from spa_bench.errors import UsageError
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Answer, Case, Question, Reply, Steps, failed
from spa_bench.samplers.asking.checks import MOST, within
from spa_bench.samplers.asking.reading import unfenced, without_wrapping
from spa_bench.samplers.asking.stated import Stated, is_below, stated_in, weights
from spa_bench.samplers.base import one_member, spread

_DRAWS = ("probabilities", "tail", "all")


@dataclass(frozen=True, kw_only=True)
class VerbalizedOptions:
    """The [options] of kind verbalized."""

    answers: int = 5  # [answers] k, that one reply states
    turns: int = 1  # [replies] of one conversation, each with k answers more; 1: one call
    calls: int = 1  # [conversations] about a problem, between which the n draws are spread
    draw: str = "probabilities"  # probabilities: by them; tail: by them, of answers below the threshold; all: in order
    threshold: float = 0.1  # [probability, above 0 to 1] of draw = "tail", and {threshold} of the template
    repeat: bool = True  # whether one answer may be drawn several times
    max_new_tokens: int = 0  # [tokens] of a reply; 0: k times the task's limit for one answer
    system: str = ""  # a system message before the conversation; "": none
    # what is asked first, with {n} for k: a template of ours (verbalized, verbalized-tail, verbalized-chain) or a file
    template: str = template_file("verbalized", needs="prompt n", may="answer threshold")
    next: str = template_file("verbalized-next", needs="n", may="prompt answer threshold")  # what is asked in later turns
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers

    def __post_init__(self) -> None:
        within(1, MOST, answers=self.answers, turns=self.turns, calls=self.calls)
        within(0, None, max_new_tokens=self.max_new_tokens)
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it must be a probability above 0")

    @property
    def stated(self) -> int:
        """The answers that all replies state about a problem."""
        return self.answers * self.turns * self.calls

    @property
    def once(self) -> bool:
        """Whether each answer is taken once at most."""
        return self.draw == "all" or not self.repeat


def check(card: SamplerCard) -> None:
    """Raise CardError for several members, or an unknown way to draw."""
    one_member(card)
    one_of(f"sampler {card.name!r}", "options.draw", card.options_as(VerbalizedOptions).draw, _DRAWS)


def check_n(card: SamplerCard, n: int) -> None:
    """Raise UsageError for more answers than are stated, or fewer than there are conversations."""
    options = card.options_as(VerbalizedOptions)
    if options.once and n > options.stated:
        raise UsageError(
            f"n is {n}, and {card.name} takes each of {options.stated} stated answers once (calls x turns x answers = "
            f"{options.calls} x {options.turns} x {options.answers}); set options.calls to more"
        )
    if n < options.calls:
        raise UsageError(f"n is {n}, and options.calls is {options.calls}: some conversations would give no answer; set fewer")


class _Conversation:
    """What one conversation gave: the answers that are stated, and what went wrong."""

    def __init__(self, program: bool):
        self._program = program
        self.replies: list[Reply] = []
        self.stated: list[tuple[Stated, Reply]] = []
        self.lacks: list[str] = []
        self.failure = ""  # why nothing was stated
        self.unread: Reply | None = None  # the reply that says nothing

    def hear(self, reply: Reply, wanted: int, turn: int) -> None:
        """Take in the reply of a turn."""
        self.replies.append(reply)
        where = f"turn {turn + 1}: " if turn else ""
        if reply.failure:
            self._fails(f"{where}{reply.failure}", reply)
            return
        found = stated_in(reply.text, program=self._program, finished=reply.finish != "length")
        cut = " and was cut at its limit" if reply.finish == "length" else ""
        if not found:
            self._fails(f"{where}the reply states no answer{cut}", reply)
            return
        whole = [one for one in found if one.whole] or found
        if len(whole) != wanted:
            self.lacks.append(f"{where}the reply states {len(whole)} of {wanted} answers{cut}")
        kept = whole[:wanted]
        if unsaid := sum(one.probability is None for one in kept):
            self.lacks.append(f"{where}{unsaid} of {len(kept)} answers have no valid probability")
        self.stated += [(one, reply) for one in kept]

    def _fails(self, why: str, reply: Reply) -> None:
        if self.stated:
            self.lacks.append(why)
        elif not self.failure:
            self.failure, self.unread = why, reply

    def goes_on(self) -> bool:
        """Whether another turn can be asked."""
        return not self.replies[-1].failure and bool(self.replies[-1].text.strip())

    def drawn(self, count: int, options: VerbalizedOptions, choices: np.random.Generator) -> Iterator[Answer]:
        """`count` answers of the conversation; failures where there are none."""
        if not self.stated:
            yield from [failed(self.failure, self.unread)] * count
            return
        pool = self.stated
        if options.draw == "tail":
            pool = [pair for pair in pool if is_below(pair[0], options.threshold)]
            if not pool:
                why = f"none of the stated answers has a probability below {options.threshold:g}"
                yield from [failed(why, self.stated[0][1])] * count
                return
        chosen = _chosen([one for one, _ in pool], count, options, choices)
        for place in chosen:
            yield self._answer(*pool[place])
        lack = f"{len(pool)} answers {'below the threshold ' * (options.draw == 'tail')}are stated, each is taken once"
        yield from [failed(lack, pool[0][1])] * (count - len(chosen))

    def _answer(self, one: Stated, reply: Reply) -> Answer:
        text = unfenced(one.text) if self._program else without_wrapping(one.text).strip()
        tokens = round(reply.tokens * min(1.0, len(text) / max(1, len(reply.text))))
        return Answer(text=text, tokens=tokens, finish="stop" if one.whole else "length", note="; ".join(self.lacks))


def _chosen(answers: Sequence[Stated], count: int, options: VerbalizedOptions, choices: np.random.Generator) -> list[int]:
    """The places of at most `count` answers: in order, or drawn."""
    if options.draw == "all":
        return list(range(min(count, len(answers))))
    left, chosen = list(range(len(answers))), list[int]()
    while left and len(chosen) < count:
        shares = np.cumsum(weights([answers[i] for i in left]))
        at = min(int(np.searchsorted(shares, choices.random() * shares[-1], side="right")), len(left) - 1)
        chosen.append(left[at] if options.repeat else left.pop(at))
    return chosen


def procedure(case: Case, options: VerbalizedOptions) -> Steps:
    """The conversations about one problem, side by side; see the module."""
    limit = options.max_new_tokens or options.answers * case.limit
    values = {"n": options.answers, "threshold": f"{options.threshold:g}"}
    talks = [_Conversation(case.prompt.program) for _ in range(options.calls)]
    turns: list[list[tuple[str, str]]] = [[] for _ in talks]
    for turn in range(options.turns):
        words = case.words(options.next if turn else options.template, values)
        asked = [i for i, talk in enumerate(talks) if not turn or talk.goes_on()]
        questions: list[Question] = [case.ask(words, limit=limit, before=turns[i]) for i in asked]
        for i, reply in zip(asked, (yield questions), strict=True):
            talks[i].hear(reply, options.answers, turn)
            turns[i] += [("user", words), ("assistant", reply.text)]
    made: list[Answer] = []
    for i, (talk, count) in enumerate(zip(talks, spread(case.n, options.calls), strict=True)):
        made += talk.drawn(count, options, case.choices(f"draws of conversation {i}"))
    return made


def drawn(card: SamplerCard, n: int) -> int:
    """The answers that are stated, of which n are kept."""
    return max(n, card.options_as(VerbalizedOptions).stated)


KIND = asking_kind(VerbalizedOptions, procedure, check=check, check_n=check_n, drawn=drawn)
