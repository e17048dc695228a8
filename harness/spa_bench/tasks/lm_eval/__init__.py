"""Any task or group of lm-eval as a task of ours: its prompts, its scoring, its weighting of groups.

`options` is the card's part, `local` puts files in the place of the hub, `library` finds and loads what a card names,
`asking` turns the documents of its tasks into problems, `scoring` lets lm-eval judge answers, and `task` is the whole.
lm-eval is imported by functions alone: what only looks at cards does not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spa_bench.cards.task import TaskCard
from spa_bench.tasks.base import TaskKind
from spa_bench.tasks.lm_eval.options import LmEvalOptions

if TYPE_CHECKING:
    from spa_bench.tasks.lm_eval.task import LmEvalTask


def build(card: TaskCard) -> LmEvalTask:
    """The task of `card`, its prompts built. Raises DataError, CardError or UsageError."""
    from spa_bench.tasks.lm_eval.task import load

    return load(card)


# max_new_tokens: 0 tokens are AFTER after a choice, and none where there is no choice
KIND = TaskKind(build=build, options=LmEvalOptions, unsaid={"max_new_tokens": 0})
