"""How a card has a model asked: by a text that it continues, or by messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spa_bench.cards.task import TaskCard
from spa_bench.types import Messages, Problem, Prompt


def stops_of(card: TaskCard) -> tuple[str, ...]:
    """The stop strings of answers that are asked for as `card` says."""
    return card.stop_instruct if card.prompt == "instruct" else card.stop


def prompts_of(
    card: TaskCard, problems: Sequence[Problem], question: Callable[[Problem], str], *, program: bool = False
) -> list[Prompt]:
    """The prompt of each problem. `question` gives the text that a model continues; `program`: an answer is a program.

    Messages to a program's author have the prompt without white space around it, and always the beginning of the answer.
    """
    return [
        Prompt(
            problem_id=problem.id,
            text=question(problem),
            max_new_tokens=card.max_new_tokens,
            stop=stops_of(card),
            messages=_messages(card, problem.prompt.strip() if program else problem.prompt, begun=program),
            program=program,
        )
        for problem in problems
    ]


def _messages(card: TaskCard, prompt: str, *, begun: bool) -> Messages:
    if card.prompt != "instruct":
        return ()
    asked = ("user", card.instruction.replace("{prompt}", prompt))
    return (asked, ("assistant", card.response)) if card.response or begun else (asked,)
