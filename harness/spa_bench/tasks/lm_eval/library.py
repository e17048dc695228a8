"""lm-eval's own loading of tasks and groups: found by name, narrowed to some subjects, with local files for the hub's."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.errors import DataError, SpaBenchError, UsageError
from spa_bench.registry import did_you_mean
from spa_bench.tasks.lm_eval.local import Found, Place, dataset_of, find, remembered
from spa_bench.tasks.lm_eval.options import LmEvalOptions

_SEED, _OTHER_SEED = 0, 1234  # lm-eval's own: of Python's generator, of numpy's and of the few-shot examples
_FILES = {"json", "csv", "parquet", "text", "arrow"}  # "datasets" that are files already
_MINI = Path(__file__).resolve().parents[2] / "mini" / "nlu"


@dataclass(frozen=True)
class Loaded:
    """Tasks and groups of lm-eval, ready to be asked."""

    tasks: Mapping[str, Any]  # lm_eval.api.task.Task by name, in lm-eval's order
    groups: Mapping[str, Any]  # lm_eval.api.group.Group by name
    version: str  # of the task or group, and of lm-eval
    found: str  # where the documents came from


def harness() -> str:
    """`lm-eval 0.4.13`, of the one that is installed. Raises UsageError where there is none."""
    try:
        return f"lm-eval {metadata.version('lm-eval')}"
    except metadata.PackageNotFoundError as error:
        raise UsageError(
            "tasks of lm-eval need lm-eval, which is not installed: pip install 'spa-bench[lm-eval]'"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block in which lm-eval prints, logs and warns of nothing."""
    logger, heard = logging.getLogger("lm_eval"), io.StringIO()
    level = logger.level
    try:
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger.setLevel(logging.CRITICAL)
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """A block in which the global generators are as lm-eval seeds them; some of its tasks shuffle choices by them."""
    before, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.seed(_SEED)
        np.random.seed(_OTHER_SEED)  # noqa: NPY002
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numbers)  # noqa: NPY002


def load(options: LmEvalOptions, places: tuple[Place, ...]) -> Loaded:
    """The tasks behind `options.task` with lm-eval's overrides and seeds.

    Raises UsageError for a name, subject or setting that cannot be, DataError for documents that cannot be had.
    """
    own = harness()
    with quiet():
        manager = _manager(options)
        index = manager.task_index
        if options.task not in index:
            raise UsageError(f"lm-eval has no task {options.task!r}{_close(options.task, index)}")
        rewriting = _Rewriting(index, options, places)
        if options.subjects or places:
            rewriting.rewrite()
        try:
            loaded = manager.load(options.task)
        except SpaBenchError:
            raise
        except Exception as error:  # datasets, huggingface_hub and the tasks' own code raise a dozen kinds
            raise _cannot_load(options.task, error) from error
        tasks, groups = dict(loaded["tasks"]), dict(loaded.get("groups", {}))
        for name, task in tasks.items():
            _usable(name, task)
            _overridden(task, options)
    root = groups.get(options.task) or tasks.get(options.task)
    versions = {str(t.VERSION) for t in tasks.values()} if root is None else {str(getattr(root, "version", "N/A"))}
    if root is not None and options.task in tasks:
        versions = {str(root.VERSION)}
    return Loaded(tasks, groups, f"{', '.join(sorted(versions))}; {own}", rewriting.found())


def _manager(options: LmEvalOptions) -> Any:
    """lm-eval's TaskManager over the definitions that `options` asks for."""
    from lm_eval.tasks import TaskManager

    include = _MINI if options.include == "mini" else Path(options.include).expanduser() if options.include else None
    if include is not None and not include.is_dir():
        raise UsageError(f"options.include is {options.include!r}, which is no folder")
    manager = TaskManager(include_defaults=False, include_path=include)
    own = dict(manager.task_index)
    if options.include and options.task in own and not options.folder and not _needs_others(own, options.task):
        return manager
    manager.task_index.clear()
    manager.task_index.update({**_shipped(options.folder), **own})
    return manager


@lru_cache(maxsize=8)
def _shipped(folder: str) -> dict[str, Any]:
    """lm-eval's own definitions under `folder`; reading all of them takes ten seconds."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    place = Path(lm_eval.tasks.__file__).parent / folder
    if not place.is_dir():
        raise UsageError(f"options.folder is {folder!r}; there is no such folder under {place.parent} in {harness()}")
    return dict(TaskManager(include_defaults=False, include_path=place).task_index)


def _needs_others(index: Mapping[str, Any], name: str) -> bool:
    """Whether a group asks for something that is not in `index`."""
    cfg = index[name].cfg or {}
    named = [i if isinstance(i, str) else i.get("group") or i.get("task") for i in _items(cfg)]
    return any(n not in index or _needs_others(index, n) for n in named)


def _items(cfg: Mapping[str, Any]) -> list[Any]:
    """What a group's definition holds: names, and tables with a name and overrides."""
    return list(cfg["task"]) if isinstance(cfg.get("task"), list) else []


def _close(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else "; `lm-eval ls tasks` lists them"


class _Rewriting:
    """Changes an index of definitions in place: subjects that nobody asked for go, files take the place of the hub."""

    def __init__(self, index: dict[str, Any], options: LmEvalOptions, places: tuple[Place, ...]):
        self._index, self._options, self._places = index, options, places
        self._done: dict[str, bool] = {}
        self._kept: set[str] | None = None
        self._from: set[str] = set()
        self._notes: list[str] = []

    def rewrite(self) -> None:
        """Change what `options.task` leads to. Raises UsageError for a subject that is not there."""
        if self._options.subjects:
            self._kept = {self._named(subject) for subject in self._options.subjects}
        self._entry(self._options.task)

    def found(self) -> str:
        """Where the documents are, for a reader."""
        where = ", ".join(sorted(self._from)) or ("the package" if self._options.include == "mini" else "lm-eval")
        return "; ".join([where, *self._notes])

    def _named(self, subject: str) -> str:
        """The one task that `subject` is the name or the end of."""
        known = sorted(set(self._leaves(self._options.task)))
        found = [subject] if subject in known else [n for n in known if n.endswith(f"_{subject}")]
        if len(found) > 1:
            raise UsageError(f"{self._options.task!r} has several subjects {subject!r}: {', '.join(found)}")
        if not found:
            common = commonprefix(known).rpartition("_")[0] if len(known) > 1 else ""
            ends = [n.removeprefix(f"{common}_") for n in known]
            raise UsageError(f"{self._options.task!r} has no subject {subject!r}{did_you_mean(subject, ends)}")
        return found[0]

    def _leaves(self, name: str) -> Iterator[str]:
        entry = self._index.get(name)
        if entry is None or entry.kind.name in {"TASK", "PY_TASK"}:
            yield name
        elif entry.kind.name == "TAG":
            yield from (leaf for tagged in sorted(entry.tags) for leaf in self._leaves(tagged))
        else:
            yield from self._leaves_of(entry.cfg)

    def _leaves_of(self, cfg: Mapping[str, Any]) -> Iterator[str]:
        for item in _items(cfg):
            if isinstance(item, dict) and "group" in item and item["group"] not in self._index:
                yield from self._leaves_of(item)
            else:
                yield from self._leaves(item if isinstance(item, str) else item.get("group") or item["task"])

    def _entry(self, name: str) -> bool:
        """Rewrite one definition; whether anything of it is left."""
        if name not in self._done:
            entry = self._index[name]
            if entry.kind.name == "TAG":
                tagged = {t for t in entry.tags if t in self._index and self._entry(t)}
                self._index[name], left = replace(entry, tags=tagged), bool(tagged)
            elif entry.kind.name == "GROUP":
                cfg = self._group(_definition(entry))
                self._index[name], left = replace(entry, yaml_path=None, cfg=cfg), bool(cfg["task"])
            else:
                left = self._kept is None or name in self._kept
                if left and entry.kind.name == "TASK":
                    self._index[name] = self._local(entry)
            self._done[name] = left
        return self._done[name]

    def _group(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        kept = []
        for item in _items(cfg):
            name = item if isinstance(item, str) else item.get("group") or item["task"]
            if name in self._index:
                kept += [item] if self._entry(name) else []
            elif isinstance(item, dict) and "group" in item:
                inner = self._group(item)
                kept += [inner] if inner["task"] else []
            elif self._kept is None or name in self._kept:
                kept.append(item)
        return {**cfg, "task": kept}

    def _local(self, entry: Any) -> Any:
        """The definition of a task with files in the place of its dataset, where there are some."""
        cfg = _definition(entry)
        path = cfg.get("dataset_path")
        if not self._places or not path or path in _FILES or cfg.get("custom_dataset"):
            return entry
        evaluated = cfg.get("test_split") or cfg.get("validation_split")
        few = _split_of(cfg)
        splits = [s for s in {cfg.get("training_split"), cfg.get("validation_split"), cfg.get("test_split"), few} if s]
        found = find(self._places, path, cfg.get("dataset_name") or "", sorted(splits), evaluated)
        if found is None:
            return entry
        self._from.add(f"{found.place.path} (by {'options.local' if found.place.asked else 'SPA_BENCH_DATA'})")
        cfg = self._without_missing(cfg, found, few)
        cfg |= {"custom_dataset": dataset_of(found), "dataset_kwargs": None}
        if callable(cfg.get("process_docs")):
            cfg["process_docs"] = remembered(cfg["process_docs"])
        return replace(entry, yaml_path=None, cfg=cfg)

    def _without_missing(self, cfg: dict[str, Any], found: Found, few: str | None) -> dict[str, Any]:
        """The definition without splits that have no file. Raises DataError where examples are to come from one."""
        missing = {k for k in ("training_split", "validation_split") if cfg.get(k) and cfg[k] not in found.splits}
        shots = _shots(cfg.get("num_fewshot"), self._options)
        if few and few not in found.splits:
            if shots:
                raise DataError(
                    f"{found.place.path} has no file of the split {few!r}, where the {shots} examples of {cfg['task']} come "
                    f"from; put it there, or set options.fewshot = 0"
                )
            missing.add("fewshot_split")
        elif shots and not few and "training_split" in missing and not (cfg.get("fewshot_config") or {}).get("samples"):
            note = f"{cfg['task']} takes its examples from the split it is asked of, since that of {cfg['training_split']!r} is not there"
            self._notes.append(note)
        return {k: None if k in missing else v for k, v in cfg.items()}


def _definition(entry: Any) -> dict[str, Any]:
    """The whole definition of a task or group, its functions loaded."""
    from lm_eval.tasks._yaml_loader import load_yaml

    cfg: dict[str, Any] = load_yaml(entry.yaml_path) if entry.yaml_path else dict(entry.cfg)
    return cfg


def _split_of(cfg: Mapping[str, Any]) -> str | None:
    """The split that few-shot examples are named to come from."""
    split: str | None = (cfg.get("fewshot_config") or {}).get("split") or cfg.get("fewshot_split")
    return split


def _shots(own: int | None, options: LmEvalOptions) -> int:
    """Examples in a prompt: lm-eval never overrides a task that says 0."""
    return own or 0 if options.fewshot < 0 or own == 0 else options.fewshot


def _usable(name: str, task: Any) -> None:
    """Raises UsageError for a task that asks for something else than a choice or an answer, or that runs code."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        raise UsageError(f"{name} measures the perplexity of whole texts (loglikelihood_rolling): there is no answer to draw")
    if getattr(task, "MULTIMODAL", False):
        raise UsageError(f"{name} asks of images or sounds; only text is asked here")
    if getattr(task, "UNSAFE_CODE", False):
        raise UsageError(f"{name} runs the model's code without a sandbox in lm-eval; use a task of kind code, such as humaneval")


def _overridden(task: Any, options: LmEvalOptions) -> None:
    """Set what lm-eval's simple_evaluate sets: examples, their seed, the length of an answer."""
    task.set_config("num_fewshot", _shots(task.get_config("num_fewshot"), options))
    task.set_fewshot_seed(_OTHER_SEED)
    if options.max_gen_toks and task.OUTPUT_TYPE == "generate_until":
        own = dict(task.get_config("generation_kwargs") or {})
        for alias in ("max_new_tokens", "max_tokens", "max_completion_tokens"):
            own.pop(alias, None)
        task.set_config("generation_kwargs", {**own, "max_gen_toks": options.max_gen_toks})


def _cannot_load(task: str, error: Exception) -> SpaBenchError:
    """What the user is told of a failure inside lm-eval's loading."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if "gated" in said.lower():
        return DataError(
            f"the data of {task} is gated ({said}): accept its terms on its page on the hub, log in with `hf auth login` (or set "
            f"HF_TOKEN), or set options.local to files of your own"
        )
    if isinstance(error, OSError) or "offline" in said.lower() or "connect" in said.lower():
        return DataError(
            f"the data of {task} cannot be reached ({said}): go online, or let files stand in for the hub with "
            f"options.local = [FOLDER] or SPA_BENCH_DATA"
        )
    return DataError(f"lm-eval cannot load {task}: {type(error).__name__}: {said}")
