"""Which code stands behind a name: readable tables, loaded on first use."""

from __future__ import annotations

import importlib
from typing import Any

from spa_bench.cards import plugins
from spa_bench.errors import UsageError
from spa_bench.support.text import did_you_mean

TABLES: dict[str, dict[str, str]] = {
    "sampler": {
        "mixture": "spa_bench.samplers.mixture:build",
        "diverse-beam": "spa_bench.samplers.diverse_beam:build",
        "one-reply": "spa_bench.samplers.one_reply:build",
        "oversample-mmr": "spa_bench.samplers.oversample_mmr:build",
        "oversample-dpp": "spa_bench.samplers.oversample_dpp:build",
    },
    "task": {
        "code": "spa_bench.tasks.code:build",
        "lm-eval": "spa_bench.tasks.lm_eval:build",
    },
    "problems": {
        "mini-code": "spa_bench.mini.data:problems",
        "humaneval": "spa_bench.tasks.evalplus:humaneval",
        "humaneval-plus": "spa_bench.tasks.evalplus:humaneval_plus",
        "mbpp-plus": "spa_bench.tasks.evalplus:mbpp_plus",
        "jsonl": "spa_bench.tasks.code:problems_from_file",
    },
    "sanitiser": {
        "stop": "spa_bench.tasks.code:as_cut",
        "evalplus": "spa_bench.tasks.evalplus:sanitiser",
    },
    "attribution": {
        "influence": "spa_bench.spa.attribution.influence:build",
        "bm25": "spa_bench.spa.attribution.bm25:build",
        "embedding": "spa_bench.spa.attribution.embedding:build",
        "random": "spa_bench.spa.attribution.random:build",
    },
    "tracker": {
        "wandb": "spa_bench.publish.trackers.wandb:build",
        "mlflow": "spa_bench.publish.trackers.mlflow:build",
        "trackio": "spa_bench.publish.trackers.trackio:build",
    },
    "partition": {
        "argmax": "spa_bench.spa.partition.argmax:argmax",
        "balanced": "spa_bench.spa.partition.balanced:balanced",
        "kmeans": "spa_bench.spa.partition.kmeans:kmeans",
        "kmeans-embedding": "spa_bench.spa.partition.kmeans_embedding:kmeans_embedding",
        "random": "spa_bench.spa.partition.shuffled:shuffled",
        "file": "spa_bench.spa.partition.labels:from_file",
    },
}


def load(table: str, name: str) -> Any:
    """The object behind `name`: in `table`, in an installed package, or `package.module:attribute` on the import path.

    Raises UsageError with the closest known name, or with what is wrong with the module.
    """
    module, attribute = _place(table, name)
    return getattr(_imported(table, module, name), attribute)


def beside(table: str, name: str, attribute: str, default: Any = None) -> Any:
    """What the module behind `name` calls `attribute`, such as the OPTIONS of a sampler; `default` where it has none."""
    module, _ = _place(table, name)
    return getattr(_imported(table, module, name), attribute, default)


def is_ours(table: str, name: str) -> bool:
    """Whether the code behind `name` comes with spa-bench."""
    return name in TABLES[table]


def known(table: str) -> list[str]:
    """Names that `load` takes, but for those with a colon: ours, then those of installed packages."""
    others = plugins.installed(table) if table in plugins.GROUPS else ()
    return [*TABLES[table], *(plugin.name for plugin in others)]


def _place(table: str, name: str) -> tuple[str, str]:
    """(module, attribute) behind `name`."""
    if is_ours(table, name):
        module, _, attribute = TABLES[table][name].partition(":")
        return module, attribute
    if ":" in name:
        module, _, attribute = name.partition(":")
        if not hasattr(plugins.imported(module, repr(name)), attribute):
            raise UsageError(f"{name!r} leads to the module {module!r}, which has no {attribute!r}")
        return module, attribute
    plugin = plugins.find(table, name) if table in plugins.GROUPS else None
    if plugin is None:
        raise UsageError(f"unknown {table} {name!r}{did_you_mean(name, known(table))}")
    return plugin.kind


def _imported(table: str, module: str, name: str) -> Any:
    return importlib.import_module(module) if is_ours(table, name) else plugins.imported(module, repr(name))
