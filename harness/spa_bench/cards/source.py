"""The code that is not ours: the hashes by which a spec tells its versions apart.

The hash covers the module's own file. What that file imports is not in it: keep an extension in one file, or raise a
number in it when another one changes. Of an installed package the spec has the version too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from spa_bench.cards import plugins
from spa_bench.cards.registry import TABLES
from spa_bench.errors import UsageError
from spa_bench.support import provenance


def hashes(names: Iterable[str]) -> dict[str, str]:
    """`package.module:NAME`, or the name of a metric of an installed package -> the hash of the module's file."""
    return {name: source_hash(name, "metric") for name in names}


def source_hash(name: str, table: str = "") -> str:
    """The hash of the file of the module in `package.module:NAME`, or behind the entry point `name` of `table`.

    Raises UsageError when there is no such module.
    """
    if ":" in name or not table:
        module = plugins.imported(name.partition(":")[0], repr(name))
    else:
        module = plugins.named(table, name).module
    file = getattr(module, "__file__", None)
    if file is None:
        raise UsageError(f"{name!r} leads to a module without a file; its source cannot be put into the spec")
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()


def code_of(sampler: Mapping[str, object], task: Mapping[str, object], metrics: Iterable[str] = ()) -> dict[str, object]:
    """What made a run of these parts of a spec: our own code, and what else there was.

    `sampler`, `task` and `problems` are the hashes of the modules of kinds and of a function that are not ours;
    `packages` has the distributions, with their versions, of those and of `metrics` that are entry points.
    """
    used = {"sampler": ("sampler", sampler.get("kind")), "task": ("task", task.get("kind"))}
    if task.get("kind") == "code":
        used["problems"] = ("problems", task.get("problems"))
    found: dict[str, object] = {}
    packages = {}
    for key, (table, kind) in used.items():
        if not isinstance(kind, str) or not kind or kind in TABLES[table] or kind == "samples":
            continue  # samples: somebody else drew them
        found[key] = source_hash(kind, table if table in plugins.GROUPS else "")
        if ":" not in kind:
            packages[key] = plugins.named(table, kind).source
    packages |= {f"metric {name}": plugins.named("metric", name).source for name in metrics if ":" not in name}
    return provenance.code() | found | ({"packages": packages} if packages else {})


def check_packages(spec: Mapping[str, object], where: str, part: str) -> None:
    """Raises UsageError when the package that brought a `part` of the run (sampler, task, metric) is not installed here."""
    for key, source in _part(_part(spec, "code"), "packages").items():
        table, _, name = key.partition(" ")
        name = name or str(_part(spec, table)["kind"])
        if table == part and plugins.find(table, name) is None:
            raise UsageError(f"{where} was made with the {table} {name!r} of {source}, which is not installed; install it")


def changed(spec: Mapping[str, object]) -> list[str]:
    """What in the spec's own `code`, `metrics` and `versions` is otherwise here, by name."""
    found = []
    try:
        if spec.get("code") != code_of(_part(spec, "sampler"), _part(spec, "task"), _part(spec, "metrics")):
            found.append("code")
    except UsageError:  # the user's module is not on the import path here, or the package not installed
        found.append("code")
    try:
        if _part(spec, "metrics") != hashes(_part(spec, "metrics")):
            found.append("metrics")
    except UsageError:
        found.append("metrics")
    return found + ["versions"] * (spec.get("versions") != provenance.versions())


def _part(content: Mapping[str, object], key: str) -> dict[str, object]:
    """The table of that name in a spec; empty where it has none."""
    part = content.get(key, {})
    assert isinstance(part, dict)  # a spec is read by spa_bench.runs.folder
    return part
