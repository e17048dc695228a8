"""Prompts that have no right answer, in NoveltyBench's file shape (Zhang et al. 2025, arXiv 2504.05228).

`options` is the card's part, `prompts` reads prompts, `partition` puts answers into classes, `asking` has the questions to a
judge model and reads its replies, `tables` reads files about answers, and `task` joins these parts.
"""

from spa_bench.cards.task import TaskCard
from spa_bench.errors import CardError
from spa_bench.tasks.base import TaskKind
from spa_bench.tasks.open_ended.options import OpenOptions
from spa_bench.tasks.open_ended.task import build


def _check(card: TaskCard) -> None:
    """Raises CardError for a file of prompts in the wrong key."""
    if card.file:
        raise CardError(f"task {card.name!r}: file is {card.file!r}; the prompts of kind 'open' are options.prompts")


KIND = TaskKind(
    build=build,
    options=OpenOptions,
    check=_check,
    unsaid={"prompt": "auto", "instruction": "{prompt}", "response": ""},
    reads=frozenset({"prompt", "stop_instruct"}),
)
