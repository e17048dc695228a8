"""Self-MoA (Li et al. 2025, arXiv 2502.00674): drafts of one model, which the same model aggregates into an answer.

The m drafts of a problem are drawn once. Each of the n answers aggregates a window of them, drawn for it without repetition, or
all m where `window` is 0. The paper has one answer a problem; n answers from windows of the same drafts are ours, and so the
answers are not exchangeable.

With `sequential` it is Self-MoA-Seq, for more drafts than fit the context: each answer goes through all m drafts in an order of
its own. The first window has `window` drafts; every further one has the answer so far in `reserved` of its places (the paper:
window 6, reserved 3), and new drafts in the others.

The paper aggregates with the words of Mixture-of-Agents in a system message, at temperature 0. Here they are in the question,
in our words, and the temperature is the card's, because at 0 equal windows would give equal answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spa_bench.cards.templates import template_file
from spa_bench.samplers.asking.aggregation import aggregated, drafts_in, lacking, why_none
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Answer, Case, Reply, Steps, failed
from spa_bench.samplers.asking.checks import MOST, is_temperature, within
from spa_bench.support.thoughts import without_thoughts


@dataclass(frozen=True, kw_only=True)
class SelfMoaOptions:
    """The [options] of kind self-moa."""

    drafts: int = 6  # [drafts] m, drawn for a problem
    window: int = 0  # [drafts] aggregated at once; 0: all
    sequential: bool = False  # each answer goes through all drafts, window by window
    reserved: int = 3  # [places of a window] for the answer so far, where sequential
    temperature: float | None = None  # of aggregations; none: the card's, as of the drafts
    system: str = ""  # a system message before each question; "": none
    draft: str = template_file("draft", needs="prompt", may="answer")  # what is asked for a draft
    aggregate: str = template_file("aggregate", needs="prompt responses", may="answer")  # what is asked with {responses}
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers

    def __post_init__(self) -> None:
        within(1, MOST, drafts=self.drafts)
        if not 0 <= self.window <= self.drafts:
            raise ValueError(f"window is {self.window}; it must be between 0, for all, and the {self.drafts} drafts")
        if self.sequential and not 1 <= self.reserved < (self.window or self.drafts + 1):
            raise ValueError(f"reserved is {self.reserved}; it must leave room for a draft in a window of {self.window}")
        is_temperature(self.temperature)


def at_once(case: Case, options: SelfMoaOptions, drafts: Sequence[str], note: str) -> Steps:
    """An aggregation of a window of `drafts` for each answer, which `note` goes with."""
    choices, size = case.choices("windows"), min(options.window or len(drafts), len(drafts))
    windows = [[drafts[i] for i in choices.permutation(len(drafts))[:size]] for _ in range(case.n)]
    made = yield [aggregated(case, options.aggregate, window, temperature=options.temperature) for window in windows]
    return [case.answer(one, note=note, step="aggregation") for one in made]


def in_sequence(case: Case, options: SelfMoaOptions, drafts: Sequence[str], note: str) -> Steps:
    """For each answer a chain of aggregations over all `drafts`; `note` goes with the answers."""
    choices, size = case.choices("windows"), min(options.window or len(drafts), len(drafts))
    orders = [[drafts[i] for i in choices.permutation(len(drafts))] for _ in range(case.n)]
    windows, place, number = {i: order[:size] for i, order in enumerate(orders)}, size, 1
    last: dict[int, Reply] = {}
    ended: dict[int, Answer] = {}
    cut = [0] * case.n  # windows before the last whose answer was cut
    while True:
        asked = [aggregated(case, options.aggregate, window, temperature=options.temperature) for window in windows.values()]
        last.update(zip(windows, (yield asked), strict=True))
        so_far = {i: without_thoughts(last[i].text).strip() for i in windows}
        for i in windows:
            if last[i].failure or (place < len(drafts) and not so_far[i]):
                why = last[i].failure or "the reply is empty"
                ended[i] = failed(f"window {number}: {why}", last[i])
        if place >= len(drafts):
            break
        cut = [cut[i] + (i in windows and last[i].cut) for i in range(case.n)]
        new = options.window - options.reserved
        windows = {i: [so_far[i]] * options.reserved + orders[i][place : place + new] for i in windows if i not in ended}
        place, number = place + new, number + 1
    lack = [f"{k} of {number} windows were cut at their limit" if k else "" for k in cut]
    return [ended.get(i) or case.answer(last[i], note="; ".join(filter(None, (note, lack[i])))) for i in range(case.n)]


def procedure(case: Case, options: SelfMoaOptions) -> Steps:
    """The drafts of one problem and their aggregations; see the module."""
    replies = yield [case.ask(case.words(options.draft)) for _ in range(options.drafts)]
    drafts = drafts_in(replies)
    if not drafts:
        return [failed(why_none(replies), replies[0])] * case.n
    aggregate = in_sequence if options.sequential else at_once
    return (yield from aggregate(case, options, drafts, lacking(replies)))


KIND = asking_kind(SelfMoaOptions, procedure)
