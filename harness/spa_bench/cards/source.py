"""The user's own code: the hashes by which a spec distinguishes its versions.

The hash covers the module's own file and nothing that this file imports. So keep an extension in one file, or raise a
number in it when another of its files changes. For an installed package the spec also holds the version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from spa_bench.cards import plugins
from spa_bench.cards.objects import given_object, is_object
from spa_bench.cards.registry import TABLES
from spa_bench.errors import UsageError
from spa_bench.support import provenance

ELSEWHERE = "samples"  # in a spec, the kind of the sampler whose samples came from a file


def hashes(names: Iterable[str]) -> dict[str, str]:
    """Name of a metric (`package.module:NAME`, or one of an installed package) -> the hash of the module's file."""
    return {name: source_hash(name, "metric") for name in names}


def source_hash(name: str, table: str = "") -> str:
    """The hash of the module's file: of the module in `package.module:NAME`, or behind the entry point `name` of `table`.

    For an object that this program has given, the hash of the object, or a text that says why it has none (objects.unhashed).
    Raises UsageError when the module or the object is not found.
    """
    if is_object(name):
        return given_object(table, name).source.text
    if ":" in name or not table:
        module = plugins.imported(name.partition(":")[0], repr(name))
    else:
        module = plugins.named(table, name).module
    file = getattr(module, "__file__", None)
    if file is None:
        raise UsageError(f"{name!r} leads to a module without a file; its source cannot be put into the spec")
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()


def code_of(
    sampler: Mapping[str, object],
    task: Mapping[str, object],
    metrics: Iterable[str] = (),
    engine: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The code that makes a run with these parts of a spec: our own code, and the user's own.

    `sampler`, `task`, `engine` and `problems` are the hashes of modules of the user's own: three kinds, and the function that
    gives problems. `packages` holds the distributions and versions of these and of `metrics`, where they are entry points.
    """
    used = {"sampler": ("sampler", sampler.get("kind")), "task": ("task", task.get("kind"))}
    used["engine"] = ("engine", (engine or {}).get("name"))
    if task.get("kind") == "code":
        used["problems"] = ("problems", task.get("problems"))
    module_hashes: dict[str, object] = {}
    packages = {}
    for key, (table, kind) in used.items():
        if not isinstance(kind, str) or not kind or kind in TABLES[table] or kind == ELSEWHERE:
            continue
        module_hashes[key] = source_hash(kind, table if table in plugins.GROUPS or is_object(kind) else "")
        if ":" not in kind:
            packages[f"engine {kind}" if table == "engine" else key] = plugins.named(table, kind).source
    packages |= {f"metric {name}": plugins.named("metric", name).source for name in metrics if ":" not in name}
    return provenance.code() | module_hashes | ({"packages": packages} if packages else {})


def check_packages(spec: Mapping[str, object], where: str, part: str) -> None:
    """Raises UsageError when the package with a `part` of the run (sampler, task, metric) is not installed here."""
    for key, source in _part(_part(spec, "code"), "packages").items():
        table, _, name = key.partition(" ")
        name = name or str(_part(spec, table)["kind"])
        if table == part and plugins.find(table, name) is None:
            raise UsageError(f"{where} was made with the {table} {name!r} of {source}, which is not installed; install it")


def changed(spec: Mapping[str, object]) -> list[str]:
    """The names among `code`, `metrics` and `versions` whose value in the spec differs from the value here."""
    names = []
    try:
        if spec.get("code") != code_of(
            _part(spec, "sampler"), _part(spec, "task"), _part(spec, "metrics"), _part(spec, "engine")
        ):
            names.append("code")
    except UsageError:  # here the user's module is not on the import path, or its package is not installed
        names.append("code")
    try:
        if _part(spec, "metrics") != hashes(_part(spec, "metrics")):
            names.append("metrics")
    except UsageError:
        names.append("metrics")
    return names + ["versions"] * (spec.get("versions") != provenance.versions())


def not_here(spec: Mapping[str, object]) -> str:
    """Why the user's own code of a run cannot be compared with the code here; empty where it can."""
    try:
        code_of(_part(spec, "sampler"), _part(spec, "task"), _part(spec, "metrics"), _part(spec, "engine"))
    except UsageError as error:
        return str(error)
    return ""


def _part(content: Mapping[str, object], key: str) -> dict[str, object]:
    """The table of that name in a spec; empty where it has none."""
    part = content.get(key, {})
    assert isinstance(part, dict)  # spa_bench.runs.folder has checked the spec
    return part
