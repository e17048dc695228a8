"""PlanSearch (Wang et al. 2024, arXiv 2409.03733): a search over observations and plans in words, and a program for each plan.

1. The model writes observations about the problem.
2. From each of some combinations of them (none, one or two together), it derives second-order observations.
3. A leaf is a combination of first-order observations, or one of the second-order observations derived from it. n leaves are
   drawn, taken in turn from the combinations of step 2, and all leaves once before any twice.
4. For each leaf the model writes a plan in words that rests on its observations.
5. With `criticise` it then criticises the plan, which is taken for wrong, and writes a second plan that answers the criticism.
   There are half as many leaves then; where n is odd, the last one has one plan.
6. For each plan it writes the program.

Other than in the paper and its authors' code:

- They follow all combinations; how many are followed for a given n is left open, and here it is `branches`.
- They criticise every idea and code both; here `criticise` is off unless a card sets it. Their code asks for fixes and then has
  them merged into the idea; here one reply makes the second plan of plan and criticism.
- They write pseudocode between plan and program; here the program is written of the plan.
- A list comes from one reply, where their code asks for it again in three further turns, of which one keeps the useful items.

As there, a reply without observations is taken for an empty list: its plan rests on the problem alone, and is noted. An item in
which a list was cut is left out, unless it is the only one; a plan that was cut is used; both are noted. The words of the
templates are ours; they ask for what the paper's ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, cycle, islice, zip_longest
from math import comb

from spa_bench.cards.templates import template_file
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Answer, Case, Question, Reply, Steps, failed
from spa_bench.samplers.asking.checks import MOST, within
from spa_bench.support.thoughts import without_thoughts

Combination = tuple[str, ...]
_MOST_COMBINATIONS = 20_000
_NONE = "(none: the task is enough)"  # in the place of observations, where there are none


@dataclass(frozen=True, kw_only=True)
class PlanSearchOptions:
    """The [options] of kind plan-search."""

    observations: int = 10  # [observations] that are asked for first
    derived: int = 5  # [observations] that are asked for of each combination
    size: int = 2  # [observations] the most in a combination
    branches: int = 0  # [combinations] from which second-order observations are derived; 0: as many as leaves
    # whether each plan is criticised, as if it were wrong, and a second one made of both: two answers of a leaf
    criticise: bool = False
    thought_tokens: int = 0  # [tokens] of a reply that is no answer; 0: the task's limit for one answer
    system: str = ""  # a system message before each question; "": none
    first: str = template_file("plan-search-observations", needs="prompt n")  # what is asked for observations, {n} of them
    second: str = template_file("plan-search-derived", needs="prompt n observations")  # and for those derived of them
    plan: str = template_file("plan-search-plan", needs="prompt observations")  # what is asked for a plan
    criticism: str = template_file("plan-search-criticism", needs="prompt plan")  # where `criticise`: what is asked of a plan
    revised: str = template_file("plan-search-revised", needs="prompt plan criticism")  # and for the second plan
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

    def leaves(self, n: int) -> int:
        """The leaves for n answers."""
        return -(-n // 2) if self.criticise else n


@dataclass(frozen=True)
class _Leaf:
    """The observations that a plan rests on, and what went wrong on the way to them."""

    observations: Combination
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Text:
    """A plan or a criticism, with what went wrong on the way to it."""

    text: str
    notes: tuple[str, ...]
    missing: Answer | None = None  # what there is in the place of an answer, where there is no text


_Written = Generator[Sequence[Question], Sequence[Reply], list[_Text]]


def procedure(case: Case, options: PlanSearchOptions) -> Steps:
    """The search on one problem; see the module."""
    limit = options.thought_tokens
    [first] = yield [case.ask(case.words(options.first, {"n": options.observations}), limit=limit)]
    if first.failure:
        return [failed(f"observations: {first.failure}", first)] * case.n
    observations = first.items(options.observations)
    lacks = ["no observation could be read"] * (not observations) + [
        "the list of observations was cut at its limit"
    ] * first.cut
    branches = _combinations(observations, options.size)
    case.choices("branches").shuffle(branches)
    branches = branches[: options.branches or options.leaves(case.n)]
    asked = [
        case.ask(case.words(options.second, {"n": options.derived, "observations": _listed(branch)}), limit=limit)
        for branch in branches
    ]
    leaves = _leaves(case, options, branches, (yield asked), lacks)
    plans = yield from _plans(case, options, leaves)
    planned = [i for i, plan in enumerate(plans) if not plan.missing]
    solved = yield [case.ask(case.words(options.solution, {"plan": plans[i].text})) for i in planned]
    replies = dict(zip(planned, solved, strict=True))
    return [
        plan.missing or case.answer(replies[i], note="; ".join(plan.notes), step="solution") for i, plan in enumerate(plans)
    ]


def _plans(case: Case, options: PlanSearchOptions, leaves: Sequence[_Leaf]) -> _Written:
    """n plans: one of each leaf or, with `criticise`, its plan and the second one."""
    begun = [_Text(_listed(leaf.observations), leaf.notes) for leaf in leaves]
    limit, ask = options.thought_tokens, case.words
    plans = yield from _written(case, "plan", begun, lambda i: ask(options.plan, {"observations": begun[i].text}), limit)
    if not options.criticise:
        return plans
    twice = plans[: case.n // 2]
    said = yield from _written(case, "criticism", twice, lambda i: ask(options.criticism, {"plan": plans[i].text}), limit)
    values = [{"plan": plan.text, "criticism": one.text} for plan, one in zip(twice, said, strict=True)]
    second = yield from _written(case, "second plan", said, lambda i: ask(options.revised, values[i]), limit)
    return [plan for plan in chain.from_iterable(zip_longest(plans, second)) if plan]


def _written(case: Case, what: str, before: Sequence[_Text], words: Callable[[int], str], limit: int) -> _Written:
    """The text that follows each of `before`, asked for in words by place; where one is missing, so is the next."""
    there = [i for i, text in enumerate(before) if not text.missing]
    replies = yield [case.ask(words(i), limit=limit) for i in there]
    made = list(before)
    for i, reply in zip(there, replies, strict=True):
        text = without_thoughts(reply.text).strip()
        missing = failed(f"{what}: {reply.failure or 'the reply is empty'}", reply) if reply.failure or not text else None
        made[i] = _Text(text, (*before[i].notes, *[f"the {what} was cut at its limit"] * reply.cut), missing)
    return made


def _combinations(observations: Sequence[str], size: int) -> list[Combination]:
    """All combinations of at most `size` observations, the empty one first."""
    return [c for k in range(min(size, len(observations)) + 1) for c in combinations(observations, k)]


def _leaves(
    case: Case, options: PlanSearchOptions, branches: Sequence[Combination], second: Sequence[Reply], lacks: Sequence[str]
) -> list[_Leaf]:
    """The leaves for n plans, one from each branch in turn; from the beginning again where all have been taken."""
    choices, queues = case.choices("leaves"), []
    for branch, reply in zip(branches, second, strict=True):
        found = [] if reply.failure else reply.items(options.derived)
        none = ("no second-order observation could be read",) * (not found)
        cut = ("the list of second-order observations was cut at its limit",) * reply.cut
        own = [branch, *(c for c in _combinations(found, options.size) if c)]
        choices.shuffle(own)
        queues.append([_Leaf(observations, (*lacks, *none, *cut)) for observations in own])
    longest = max(map(len, queues))
    order = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    return list(islice(cycle(order), options.leaves(case.n)))


def _listed(observations: Combination) -> str:
    return "\n".join(f"- {one}" for one in observations) or _NONE


KIND = asking_kind(PlanSearchOptions, procedure)
