"""Sampler and task cards: how they are read, what they may contain, and the code behind their names."""

from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.cards.task import TaskCard, load_task_card

__all__ = ["SamplerCard", "TaskCard", "load_sampler_card", "load_task_card"]
