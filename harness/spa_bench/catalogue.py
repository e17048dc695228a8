"""What there is to choose from, as tables: samplers, tasks, metrics, models."""

from __future__ import annotations

from tabulate import tabulate

from spa_bench.cards import card_names, load_sampler_card, load_task_card
from spa_bench.metrics.suite import ALIASES, AT_SIZES, CHOICE_METRICS, METRICS
from spa_bench.options import EMBEDDED


def catalogue(what: str) -> str:
    """What `spa-bench list` prints of `what`: samplers, tasks, metrics or models."""
    return {"samplers": _samplers, "tasks": _tasks, "metrics": _metrics, "models": _models}[what]()


def _samplers() -> str:
    cards = [load_sampler_card(name) for name in card_names("baselines")]
    return tabulate([[c.name, c.members, c.draws, c.description] for c in cards], ["sampler", "K", "n", "what it does"])


def _tasks() -> str:
    cards = [load_task_card(name) for name in card_names("tasks")]
    rows = [[c.name, c.version, c.description] for c in cards]
    return tabulate(rows, ["task", "version", "what it is"], disable_numparse=True)


def _metrics() -> str:
    short = {name: alias for alias, name in ALIASES.items()}
    described = {m.name: m.description for m in (*METRICS, *CHOICE_METRICS)} | {m.name: m.description for m in AT_SIZES}
    rows = [[name, short.get(name, ""), description] for name, description in described.items()]
    return tabulate(rows, ["metric", "alias", "definition"])


def _models() -> str:
    rows = [
        [EMBEDDED, "2.9 M parameters, Llama architecture, 256 tokens; inside the package"],
        ["PATH", "a folder with a causal LM of transformers (safetensors)"],
        ["HUB-ID", "the same on the hub, e.g. codellama/CodeLlama-7b-hf"],
    ]
    return tabulate(rows, ["--model", "what it is"])
