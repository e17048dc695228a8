"""PlanSearch (Wang et al. 2024, arXiv 2409.03733): a search over observations and plans in words, and a program for each plan.

1. The model writes observations about the problem.
2. From each of some combinations of them (none, one or two together), it derives second-order observations.
3. A leaf is a combination of first-order observations, or one of the second-order observations derived from it. n leaves are
   drawn, taken in turn from the combinations of step 2, and all leaves once before any twice.
4. For each leaf the model writes a plan in words that rests on its observations, and then the program.

The authors' code follows all combinations; how many are followed for a given n is left open, and here it is `branches`. A list
comes from one reply, where their code asks for it again in three further turns, and there is no pseudocode between plan and
program. As there, a reply without observations is taken for an empty list: its plan rests on the problem alone, and is noted.
The words of the templates are ours; they ask for what the paper's ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice
from math import comb

from spa_bench.cards.templates import template_file
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Answer, Case, Reply, Steps, failed
from spa_bench.samplers.asking.checks import MOST, within
from spa_bench.samplers.asking.reading import items_in, without_thoughts

Combination = tuple[str, ...]
_MOST_COMBINATIONS = 20_000
_NONE = "(none: the task is enough)"  # in the place of observations, where there are none


@dataclass(frozen=True, kw_only=True)
class PlanSearchOptions:
    """The [options] of kind plan-search."""

    observations: int = 10  # [observations] that are asked for first
    derived: int = 5  # [observations] that are asked for of each combination
    size: int = 2  # [observations] the most in a combination
    branches: int = 0  # [combinations] from which second-order observations are derived; 0: n
    thought_tokens: int = 0  # [tokens] of a reply that is no answer; 0: the task's limit for one answer
    system: str = ""  # a system message before each question; "": none
    first: str = template_file("plan-search-observations", needs="prompt n")  # what is asked for observations, {n} of them
    second: str = template_file("plan-search-derived", needs="prompt n observations")  # and for those derived of them
    plan: str = template_file("plan-search-plan", needs="prompt observations")  # what is asked for a plan
    solution: str = template_file("plan-search-solution", needs="prompt plan", may="answer")  # what is asked for the answer
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers

    def __post_init__(self) -> None:
        within(1, MOST, observations=self.observations, derived=self.derived)
        within(1, 10, size=self.size)
        within(0, MOST, branches=self.branches)
        within(0, None, thought_tokens=self.thought_tokens)
        for name, items in (("observations", self.observations), ("derived", self.derived)):
            if (count := sum(comb(items, k) for k in range(self.size + 1))) > _MOST_COMBINATIONS:
                raise ValueError(
                    f"{name} is {items}, which makes {count:,} combinations of at most {self.size}; {_MOST_COMBINATIONS:,} are "
                    "the most: set options.size or the number lower"
                )


@dataclass(frozen=True)
class _Leaf:
    """The observations that a plan rests on, and what went wrong on the way to them."""

    observations: Combination
    note: str


def procedure(case: Case, options: PlanSearchOptions) -> Steps:
    """The search on one problem; see the module."""
    limit = options.thought_tokens
    [first] = yield [case.ask(case.words(options.first, {"n": options.observations}), limit=limit)]
    if first.failure:
        return [failed(f"observations: {first.failure}", first)] * case.n
    observations = items_in(first.text, options.observations)
    branches = _combinations(observations, options.size)
    case.choices("branches").shuffle(branches)
    branches = branches[: options.branches or case.n]
    asked = [
        case.ask(case.words(options.second, {"n": options.derived, "observations": _listed(branch)}), limit=limit)
        for branch in branches
    ]
    second = yield asked
    leaves = _leaves(case, options, branches, second, "" if observations else "no observation could be read")
    plans = yield [
        case.ask(case.words(options.plan, {"observations": _listed(leaf.observations)}), limit=limit) for leaf in leaves
    ]
    thoughts = [without_thoughts(plan.text).strip() for plan in plans]
    planned = [i for i, plan in enumerate(plans) if thoughts[i] and not plan.failure]
    solved = yield [case.ask(case.words(options.solution, {"plan": thoughts[i]})) for i in planned]
    replies = dict(zip(planned, solved, strict=True))
    return [_answer(case, leaf, plan, replies.get(i)) for i, (leaf, plan) in enumerate(zip(leaves, plans, strict=True))]


def _answer(case: Case, leaf: _Leaf, plan: Reply, solved: Reply | None) -> Answer:
    if solved is None:
        return failed(f"plan: {plan.failure or 'the reply is empty'}", plan)
    return case.answer(solved, note=leaf.note, step="solution")


def _combinations(observations: Sequence[str], size: int) -> list[Combination]:
    """All combinations of at most `size` observations, the empty one first."""
    return [c for k in range(min(size, len(observations)) + 1) for c in combinations(observations, k)]


def _leaves(
    case: Case, options: PlanSearchOptions, branches: Sequence[Combination], second: Sequence[Reply], note: str
) -> list[_Leaf]:
    """n leaves, one from each branch in turn; from the beginning again where all have been taken."""
    choices, queues = case.choices("leaves"), []
    for branch, reply in zip(branches, second, strict=True):
        found = [] if reply.failure else items_in(reply.text, options.derived)
        lack = note or ("" if found else "no second-order observation could be read")
        own = [branch, *(c for c in _combinations(found, options.size) if c)]
        choices.shuffle(own)
        queues.append([_Leaf(observations, lack) for observations in own])
    longest = max(map(len, queues))
    order = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    return list(islice(cycle(order), case.n))


def _listed(observations: Combination) -> str:
    return "\n".join(f"- {one}" for one in observations) or _NONE


KIND = asking_kind(PlanSearchOptions, procedure)
