"""Changes to lm-eval's definitions before they are loaded: fewer subjects of a group, files in the place of the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from spa_bench.errors import DataError, UsageError
from spa_bench.support.text import did_you_mean
from spa_bench.tasks.lm_eval.local import DataPlace, Found, dataset_of, find, remembered, rows
from spa_bench.tasks.lm_eval.options import LmEvalOptions

_FILES = {"json", "csv", "parquet", "text", "arrow"}  # "datasets" that are files already

Item = str | dict[str, Any]
"""A member of a group: a name, or a table with a name and what it overrides."""


class Rewriting:
    """Changes an index of definitions in place: other subjects are removed, and files replace the hub."""

    def __init__(self, index: dict[str, Any], options: LmEvalOptions, places: tuple[DataPlace, ...]):
        self._index, self._options, self._places = index, options, places
        self._done: dict[str, bool] = {}
        self._kept: set[str] | None = None
        self._from: set[str] = set()
        self._files: list[Path] = []  # files that replace the hub
        self._notes: list[str] = []

    def rewrite(self) -> None:
        """Rewrite the definitions behind `options.task`. Raises UsageError for an unknown subject."""
        if self._options.subjects:
            self._kept = {self._named(subject) for subject in self._options.subjects}
        self._entry(self._options.task, {})

    def found(self) -> str:
        """The source of the documents, for a reader."""
        where = ", ".join(sorted(self._from)) or ("the package" if self._options.include == "mini" else "lm-eval")
        return "; ".join(dict.fromkeys([where, *self._notes]))

    def without(self, column: str) -> tuple[Path, list[str]] | None:
        """(a file in the place of the hub that has no such column, the columns that it has); None where all have it."""
        for file in dict.fromkeys(self._files):
            columns = list(rows(file)[0])
            if column not in columns:
                return file, columns
        return None

    def _named(self, subject: str) -> str:
        """The one task whose name is `subject` or ends with it."""
        known = sorted(set(self._leaves(self._options.task)))
        matches = [subject] if subject in known else [n for n in known if n.endswith(f"_{subject}")]
        if len(matches) > 1:
            raise UsageError(f"{self._options.task!r} has several subjects {subject!r}: {', '.join(matches)}")
        if not matches:
            raise UsageError(f"{self._options.task!r} has no subject {subject!r}{did_you_mean(subject, _ends(known))}")
        return matches[0]

    def _leaves(self, name: str) -> Iterator[str]:
        entry = self._index.get(name)
        if entry is None or entry.kind.name in {"TASK", "PY_TASK"}:
            yield name
        elif entry.kind.name == "TAG":
            yield from (leaf for tagged in sorted(entry.tags) for leaf in self._leaves(tagged))
        else:
            yield from self._leaves_of(entry.cfg)

    def _leaves_of(self, cfg: Mapping[str, Any]) -> Iterator[str]:
        for item in items(cfg):
            if isinstance(item, dict) and "group" in item and item["group"] not in self._index:
                yield from self._leaves_of(item)
            else:
                yield from self._leaves(item if isinstance(item, str) else item.get("group") or item["task"])

    def _entry(self, name: str, above: Mapping[str, Any]) -> bool:
        """Rewrite one definition, to which groups above it give other keys; the result says whether any task of it is left."""
        if name not in self._done:
            entry = self._index[name]
            if entry.kind.name == "TAG":
                tagged = {t for t in entry.tags if t in self._index and self._entry(t, above)}
                self._index[name], left = replace(entry, tags=tagged), bool(tagged)
            elif entry.kind.name == "GROUP":
                cfg = self._group(_definition(entry), above)
                self._index[name], left = replace(entry, yaml_path=None, cfg=cfg), bool(cfg["task"])
            else:
                left = self._kept is None or name in self._kept
                if left and (changes := self._changes(entry, above)):
                    self._index[name] = replace(entry, yaml_path=None, cfg=_definition(entry) | changes)
            self._done[name] = left
        return self._done[name]

    def _group(self, cfg: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
        """The definition of a group with rewritten members. Keys from `above`, and then its own, replace those of its tasks."""
        from lm_eval.config.group import GroupConfig

        own = {f.name for f in fields(GroupConfig)}
        given = {k: v for k, v in cfg.items() if k not in own} | dict(above)
        return {**cfg, "task": [member for item in items(cfg) for member in self._members(item, given)]}

    def _members(self, item: Item, above: Mapping[str, Any]) -> Iterator[Item]:
        """A member of a group, rewritten: none where nothing of it is left, and the tasks of a tag one by one."""
        own = {k: v for k, v in item.items() if k not in {"task", "group"}} if isinstance(item, dict) else {}
        name = item if isinstance(item, str) else item.get("group") or item["task"]
        entry = self._index.get(name)
        if entry is None and isinstance(item, dict) and "group" in item:
            inner = self._group(item, above)
            yield from [inner] if inner["task"] else []
        elif entry is not None and (entry.kind.name == "GROUP" or (entry.kind.name == "TAG" and own)):
            yield from [item] if self._entry(name, {**above, **own}) else []
        elif entry is not None and entry.kind.name == "TAG":
            for tagged in sorted(entry.tags):
                yield from self._members(tagged, above) if tagged in self._index else ()
        elif self._kept is None or name in self._kept:
            changes = self._changes(entry, {**above, **own, "task": name})
            yield {"task": name, **own, **changes} if changes else item

    def _changes(self, entry: Any, above: Mapping[str, Any]) -> dict[str, Any]:
        """The keys by which a task reads files in the place of its dataset, where there are some.

        `above` are the keys that groups give it. `entry` is None for a task that a group defines within itself.
        """
        if entry is not None and entry.kind.name != "TASK":
            return {}
        cfg = {**(_definition(entry) if entry is not None else {}), **above}
        path = cfg.get("dataset_path")
        if not self._places or not path or path in _FILES or cfg.get("custom_dataset"):
            return {}
        evaluated = str(cfg.get("test_split") or cfg.get("validation_split"))
        few = _split_of(cfg)
        splits = [s for s in {cfg.get("training_split"), cfg.get("validation_split"), cfg.get("test_split"), few} if s]
        files = find(self._places, path, cfg.get("dataset_name") or "", sorted(splits), evaluated)
        if files is None:
            return {}
        self._from.add(f"{files.place.path} (by {'options.local' if files.place.asked else 'SPA_BENCH_DATA'})")
        self._files += files.splits.values()
        changes: dict[str, Any] = dict.fromkeys(self._missing(cfg, files, few))
        changes |= {"custom_dataset": dataset_of(files), "dataset_kwargs": None}
        if callable(process := cfg.get("process_docs")):
            changes["process_docs"] = remembered(process)
        if "fewshot_split" in changes and cfg.get("fewshot_config"):
            changes["fewshot_config"] = {**cfg["fewshot_config"], "split": None}
        return changes

    def _missing(self, cfg: Mapping[str, Any], found: Found, few: str | None) -> set[str]:
        """The keys of a definition whose splits have no file. Raises DataError where examples have to come from one."""
        missing = {k for k in ("training_split", "validation_split") if cfg.get(k) and cfg[k] not in found.splits}
        shots = shots_of(cfg.get("num_fewshot"), self._options)
        if few and few not in found.splits:
            if shots:
                raise DataError(
                    f"{found.place.path} has no file of the split {few!r}, where the {shots} examples of {cfg['task']} come "
                    f"from; put it there, or set options.fewshot = 0"
                )
            missing.add("fewshot_split")
        elif shots and not few and "training_split" in missing and not (cfg.get("fewshot_config") or {}).get("samples"):
            self._notes.append(
                f"{cfg['task']} has its examples from the split it is asked of: {cfg['training_split']!r} is not there"
            )
        return missing


def _definition(entry: Any) -> dict[str, Any]:
    """The whole definition of a task or group, its functions loaded."""
    from lm_eval.tasks._yaml_loader import load_yaml

    cfg: dict[str, Any] = load_yaml(entry.yaml_path) if entry.yaml_path else dict(entry.cfg)
    return cfg


def _split_of(cfg: Mapping[str, Any]) -> str | None:
    """The split from which few-shot examples come, if the definition names one."""
    split: str | None = (cfg.get("fewshot_config") or {}).get("split") or cfg.get("fewshot_split")
    return split


def shots_of(own: int | None, options: LmEvalOptions) -> int:
    """The number of examples in a prompt; lm-eval never overrides a task's own 0."""
    return own or 0 if options.fewshot < 0 or own == 0 else options.fewshot


def items(cfg: Mapping[str, Any]) -> list[Item]:
    """The members of a group's definition: names, and tables with a name and overrides."""
    return list(cfg["task"]) if isinstance(cfg.get("task"), list) else []


def _ends(names: list[str]) -> list[str]:
    """`names` without the words that all of them begin with."""
    words = [name.split("_") for name in names]
    common = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))))
    return ["_".join(of[common:]) or name for of, name in zip(words, names, strict=True)]
