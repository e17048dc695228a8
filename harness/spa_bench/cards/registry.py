"""The code behind each name: readable tables, whose modules are loaded on first use.

A name leads to the object that declares its kind, or to a function: a function is a kind that declares nothing else.
"""

from __future__ import annotations

import importlib
from typing import TypeVar

from spa_bench.cards import plugins
from spa_bench.cards.kinds import Kind
from spa_bench.cards.objects import given_object, is_object
from spa_bench.errors import UsageError
from spa_bench.support.text import did_you_mean

K = TypeVar("K", bound=Kind[object])

TABLES: dict[str, dict[str, str]] = {
    "sampler": {
        "mixture": "spa_bench.samplers.mixture:KIND",
        "diverse-beam": "spa_bench.samplers.diverse_beam:KIND",
        "one-reply": "spa_bench.samplers.one_reply:KIND",
        "verbalized": "spa_bench.samplers.asking.verbalized:KIND",
        "plan-search": "spa_bench.samplers.asking.plan_search:KIND",
        "guided": "spa_bench.samplers.asking.guided:KIND",
        "personas": "spa_bench.samplers.asking.personas:KIND",
        "self-moa": "spa_bench.samplers.asking.self_moa:KIND",
        "moa": "spa_bench.samplers.asking.moa:KIND",
        "qdaif": "spa_bench.samplers.asking.qdaif:KIND",
        "oversample-mmr": "spa_bench.samplers.oversample_mmr:KIND",
        "oversample-dpp": "spa_bench.samplers.oversample_dpp:KIND",
        "merge": "spa_bench.samplers.merge:KIND",
    },
    "task": {
        "code": "spa_bench.tasks.code:KIND",
        "lm-eval": "spa_bench.tasks.lm_eval:KIND",
        "open": "spa_bench.tasks.open_ended:KIND",
    },
    "problems": {
        "mini-code": "spa_bench.mini.data:problems",
        "humaneval": "spa_bench.tasks.evalplus:humaneval",
        "humaneval-plus": "spa_bench.tasks.evalplus:humaneval_plus",
        "mbpp-plus": "spa_bench.tasks.evalplus:mbpp_plus",
        "jsonl": "spa_bench.tasks.code:problems_from_file",
    },
    "sanitiser": {
        "program": "spa_bench.tasks.code:as_program",
        "stop": "spa_bench.tasks.code:as_cut",
        "evalplus": "spa_bench.tasks.evalplus:sanitiser",
    },
    "attribution": {
        "influence": "spa_bench.spa.attribution.influence:build",
        "bm25": "spa_bench.spa.attribution.bm25:build",
        "embedding": "spa_bench.spa.attribution.embedding:build",
        "random": "spa_bench.spa.attribution.random:build",
    },
    "engine": {
        "hf": "spa_bench.runs.builtin_engines:HF_KIND",
        "mock": "spa_bench.runs.builtin_engines:MOCK_KIND",
        "openai": "spa_bench.runs.builtin_engines:OPENAI_KIND",
        "vllm": "spa_bench.runs.builtin_engines:VLLM_KIND",
    },
    "tracker": {
        "wandb": "spa_bench.publish.trackers.wandb:KIND",
        "mlflow": "spa_bench.publish.trackers.mlflow:KIND",
        "trackio": "spa_bench.publish.trackers.trackio:KIND",
    },
    "partition": {
        "argmax": "spa_bench.spa.partition.argmax:KIND",
        "balanced": "spa_bench.spa.partition.balanced:KIND",
        "kmeans": "spa_bench.spa.partition.kmeans:KIND",
        "kmeans-embedding": "spa_bench.spa.partition.kmeans_embedding:KIND",
        "random": "spa_bench.spa.partition.shuffled:KIND",
        "file": "spa_bench.spa.partition.labels:KIND",
    },
    "synthesis": {
        "template": "spa_bench.spa.synthesize.template:KIND",
        "sample": "spa_bench.spa.synthesize.sample:KIND",
        "softsrv": "spa_bench.spa.synthesize.softsrv:KIND",
        "oss-instruct": "spa_bench.spa.synthesize.oss_instruct:KIND",
        "self-instruct": "spa_bench.spa.synthesize.self_instruct:KIND",
        "skill-mix": "spa_bench.spa.synthesize.skill_mix:KIND",
    },
}


def kind_of(cls: type[K], table: str, name: str) -> K:
    """The kind behind `name`: a name in `table` or of an installed package, `package.module:attribute` on the import path, or
    the name of an object that this program has given.

    Raises UsageError that gives the closest known name, or says what is wrong with the module.
    """
    if is_object(name):
        given = given_object(table, name).target
        if not isinstance(given, cls):
            raise UsageError(f"{table} {name!r} is a {type(given).__name__}; it must be a {cls.__name__}")
        return given
    module, attribute = _place(table, name)
    loaded = importlib.import_module(module) if is_ours(table, name) else plugins.imported(module, repr(name))
    kind = plugins.declared(cls, plugins.attribute_of(loaded, attribute, repr(name)), loaded, f"{table} {name!r}", table=table)
    if kind.table not in {"", table}:
        raise UsageError(f"{table} {name!r} leads to a kind of {kind.table}: {type(kind).__name__}")
    return kind


def is_ours(table: str, name: str) -> bool:
    """Whether the code behind `name` comes with spa-bench."""
    return name in TABLES[table]


def known(table: str) -> list[str]:
    """The names that `kind_of` takes, without those that have a colon: ours, then those of installed packages."""
    others = plugins.installed(table) if table in plugins.GROUPS else ()
    return [*TABLES[table], *(plugin.name for plugin in others)]


def _place(table: str, name: str) -> tuple[str, str]:
    """(module, attribute) behind `name`."""
    if is_ours(table, name):
        module, _, attribute = TABLES[table][name].partition(":")
        return module, attribute
    if ":" in name:
        module, _, attribute = name.partition(":")
        return module, attribute
    plugin = plugins.find(table, name) if table in plugins.GROUPS else None
    if plugin is None:
        raise UsageError(f"unknown {table} {name!r}{did_you_mean(name, known(table))}")
    return plugin.kind
