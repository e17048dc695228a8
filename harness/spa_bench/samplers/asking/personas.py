"""Another prompt for each draw: the problem put to another persona, or in other words.

With `form = "roles"` each draw asks somebody else of a list of personas, in an order of the problem's own. Where n is larger
than the list, it begins again, with other seeds. With `form = "paraphrases"` the model first says the problem in other words,
once for each draw, and then solves it as it stands there. It does not see the original again, so what a paraphrase loses is
lost. Draws are independent of each other, but come from different prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.cards.checks import one_of
from spa_bench.cards.sampler import SamplerCard
from spa_bench.cards.templates import entries, list_file, template_file
from spa_bench.samplers.asking.asker import asking_kind
from spa_bench.samplers.asking.case import Case, Steps, failed
from spa_bench.samplers.base import one_member
from spa_bench.support.thoughts import without_thoughts

_FORMS = ("roles", "paraphrases")


@dataclass(frozen=True, kw_only=True)
class PersonasOptions:
    """The [options] of kind personas."""

    form: str = "roles"  # roles: another persona for each draw; paraphrases: other words for each draw
    system: str = ""  # a system message before each question; "": none
    personas: str = list_file("personas")  # who is asked: one persona a line, of ours or in a file
    role: str = template_file("persona", needs="prompt persona", may="answer")  # what a persona is asked
    paraphrase: str = template_file("paraphrase", needs="prompt")  # what is asked for other words
    paraphrased: str = template_file("paraphrased", needs="paraphrase", may="prompt answer")  # what is asked in other words
    program: str = template_file("answer-program", needs="")  # {answer} where an answer is a program
    text: str = template_file("answer-text", needs="")  # {answer} of other answers


def roles(case: Case, options: PersonasOptions) -> Steps:
    """A question to another persona for each draw."""
    personas = list(entries(options.personas))
    case.choices("personas").shuffle(personas)
    said = yield [case.ask(case.words(options.role, {"persona": personas[i % len(personas)]})) for i in range(case.n)]
    return [case.answer(one) for one in said]


def paraphrases(case: Case, options: PersonasOptions) -> Steps:
    """A paraphrase for each draw, then the question in its words."""
    replies = yield [case.ask(case.words(options.paraphrase)) for _ in range(case.n)]
    words = [without_thoughts(one.text).strip() for one in replies]
    given = [i for i, one in enumerate(replies) if words[i] and not one.failure]
    said = yield [case.ask(case.words(options.paraphrased, {"paraphrase": words[i]})) for i in given]
    solved = dict(zip(given, said, strict=True))
    return [
        case.answer(solved[i], note="the paraphrase was cut at its limit" * one.cut, step="solution")
        if i in solved
        else failed(f"paraphrase: {one.failure or 'the reply is empty'}", one)
        for i, one in enumerate(replies)
    ]


def check(card: SamplerCard) -> None:
    """Raise CardError for several members, or an unknown form."""
    one_member(card)
    one_of(f"sampler {card.name!r}", "options.form", card.options_as(PersonasOptions).form, _FORMS)


def procedure(case: Case, options: PersonasOptions) -> Steps:
    """The questions of the form that is chosen; see the module."""
    return roles(case, options) if options.form == "roles" else paraphrases(case, options)


KIND = asking_kind(PersonasOptions, procedure, check=check)
