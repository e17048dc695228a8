"""A judge model rates pairs from 1 to 10, with the template of tasks that have no right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spa_bench.datasets.pairs import Item
from spa_bench.models.base import Model
from spa_bench.runs.judge_model import JudgeQuestion, replies
from spa_bench.tasks.open_ended.asking import QUALITY, fill, rating, read_template

TEMPLATE = "answer-quality"
_TOKENS = 256  # of a reply


def rate(
    items: Sequence[Item],
    model: Model,
    *,
    template: str = TEMPLATE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float | None]:
    """The rating of each pair by `model`, greedily drawn; None where its reply holds no verdict, or there is no reply.

    `template` is a name of ours, a file or the text, with {prompt} and {answer}. Raises CardError for one that cannot be used.
    """
    text = read_template(template, QUALITY)
    questions = [
        JudgeQuestion(
            problem=f"pair {number}",
            draw=0,
            text=fill(text, {"prompt": item.asked, "answer": item.answer}),
            about=(QUALITY, item.asked, item.answer),
        )
        for number, item in enumerate(items)
    ]
    found: list[float | None] = [None] * len(items)
    for done, (place, reply) in enumerate(replies(model, questions, _TOKENS), 1):
        said = "" if reply.failure else rating(reply.text)
        found[place] = float(said) if said else None
        progress(done, len(items))
    return found
