"""Concepts first, then a solution by each: the model names n ways to solve a problem, and solves it in each of them.

Where it names fewer ways than n, they are used again from the first on, each time with another seed, and every answer is noted.
Where none can be read, there is no answer. A concept in which the reply was cut is left out, unless it is the only one; this is
noted. This is PlanSearch without search (its authors' IdeaSearch asks for one idea a draw, without seeing the others): one list
makes the ways differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.cards.templates import template_file
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Case, Steps, failed
from spa_bench.samplers.asking.checks import within


@dataclass(frozen=True, kw_only=True)
class GuidedOptions:
    """The [options] of kind guided."""

    concept_tokens: int = 0  # [tokens] of the reply with the concepts; 0: the task's limit for one answer
    system: str = ""  # a system message before each question; "": none
    concepts: str = template_file("guided-concepts", needs="prompt n")  # what is asked for {n} concepts
    solution: str = template_file("guided-solution", needs="prompt concept", may="answer")  # what is asked for an answer
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers

    def __post_init__(self) -> None:
        within(0, None, concept_tokens=self.concept_tokens)


def procedure(case: Case, options: GuidedOptions) -> Steps:
    """The concepts and solutions for one problem; see the module."""
    [reply] = yield [case.ask(case.words(options.concepts, {"n": case.n}), limit=options.concept_tokens)]
    if reply.failure:
        return [failed(f"concepts: {reply.failure}", reply)] * case.n
    concepts = reply.items(case.n)
    cut = "the list of concepts was cut at its limit" * reply.cut
    if not concepts:
        return [failed("the reply names no concept" + " and was cut at its limit" * reply.cut, reply)] * case.n
    lack = len(concepts) < case.n
    few = f"the reply names {len(concepts)} of {case.n} concepts, which are used again" if lack else ""
    note = "; ".join(filter(None, (cut, few)))
    solved = yield [case.ask(case.words(options.solution, {"concept": concepts[i % len(concepts)]})) for i in range(case.n)]
    return [case.answer(one, note=note, step="solution") for one in solved]


KIND = asking_kind(GuidedOptions, procedure)
