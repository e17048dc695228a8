"""lm-eval's own loading of tasks and groups: found by name, narrowed to some subjects, with files in place of the hub's."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import re
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from spa_bench.cards.reading import card_names
from spa_bench.errors import DataError, SpaBenchError, UsageError
from spa_bench.support.home import expanded
from spa_bench.support.text import one_line
from spa_bench.tasks.lm_eval.local import DataPlace
from spa_bench.tasks.lm_eval.options import LmEvalOptions
from spa_bench.tasks.lm_eval.rewriting import Rewriting, items, shots_of

_SEED, _OTHER_SEED = 0, 1234  # lm-eval's own: of Python's generator, of numpy's and of the few-shot examples
_TOLD = 200  # letters of an error
_MINI = Path(__file__).resolve().parents[2] / "mini" / "nlu"


Generators = tuple[Any, Any]
"""The states of Python's and of numpy's global generator."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Tasks and groups of lm-eval, loaded."""

    tasks: Mapping[str, Any]  # lm_eval.api.task.Task by name, in lm-eval's order
    groups: Mapping[str, Any]  # lm_eval.api.group.Group by name
    version: str  # of the task or group, and of lm-eval
    found: str  # the source of the documents
    generators: Generators  # the global ones after loading, from which lm-eval goes on when it builds requests


def harness() -> str:
    """`lm-eval 0.4.13`, with the installed version. Raises UsageError where none is installed."""
    try:
        return f"lm-eval {metadata.version('lm-eval')}"
    except metadata.PackageNotFoundError as error:
        raise UsageError("tasks of lm-eval need lm-eval, which is not installed: pip install 'spa-bench[lm-eval]'") from error


_alone = threading.RLock()  # held by whoever calls lm-eval, whose tasks hold what they work at, or changes what is global


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, lm-eval prints, logs and warns nothing, and no other thread is in such a block."""
    with _alone:
        logger, heard = logging.getLogger("lm_eval"), io.StringIO()
        level = logger.level
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger.setLevel(logging.CRITICAL)
            try:
                yield
            finally:
                logger.setLevel(level)


@contextlib.contextmanager
def seeded(begin: Generators | None = None) -> Iterator[None]:
    """Within the block, which is within `quiet`, the global generators have lm-eval's seeds, or the states `begin`.

    Some of lm-eval's tasks use them.
    """
    before = _generators()
    try:
        if begin is None:
            random.seed(_SEED)
            np.random.seed(_OTHER_SEED)  # noqa: NPY002
        else:
            _set_generators(begin)
        yield
    finally:
        _set_generators(before)


def _generators() -> Generators:
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _set_generators(states: Generators) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """Within the block, lm-eval compiles a template once, and not again for every document and example."""
    from lm_eval import utils

    environment = getattr(utils, "env", None)
    if environment is None:  # another lm-eval, which keeps its templates elsewhere: right, and slower
        yield
        return
    environment.from_string = lru_cache(maxsize=1000)(environment.from_string)
    try:
        yield
    finally:
        del environment.from_string


def load(options: LmEvalOptions, places: tuple[DataPlace, ...]) -> Loaded:
    """The tasks behind `options.task` with lm-eval's overrides and seeds.

    Raises UsageError for an unknown name or subject or an impossible setting, DataError for unavailable documents.
    """
    own = harness()
    with quiet(), seeded():
        manager = _manager(options)
        index = manager.task_index
        if options.task not in index:
            raise UsageError(f"lm-eval has no task {options.task!r}{_unread(options) or _close(options.task, index)}")
        _refuse_code(index, options.task)
        rewriting = Rewriting(index, options, places)
        try:
            if options.subjects or places:
                rewriting.rewrite()
            loaded = manager.load(options.task)
        except SpaBenchError:
            raise
        except Exception as error:  # datasets, huggingface_hub and the tasks' own code raise a dozen kinds
            column = missing_column(error)
            if column is not None and (lacking := rewriting.without(column)):
                file, there = lacking
                said = f"{file} has no column {column!r}, which {options.task} reads; it has {', '.join(there)}"
                raise DataError(said) from error
            raise _cannot_load(options.task, error) from error
        tasks, groups = dict(loaded["tasks"]), dict(loaded.get("groups", {}))
        for name, task in tasks.items():
            _usable(name, task)
            _overridden(task, options)
        generators = _generators()
    root = groups.get(options.task) or tasks.get(options.task)
    versions = {str(t.VERSION) for t in tasks.values()} if root is None else {str(getattr(root, "version", "N/A"))}
    if root is not None and options.task in tasks:
        versions = {str(root.VERSION)}
    return Loaded(
        tasks=tasks,
        groups=groups,
        version=f"{', '.join(sorted(versions))}; {own}",
        found=rewriting.found(),
        generators=generators,
    )


def told(error: BaseException) -> str:
    """An error in one line that is the same in every process."""
    text = one_line(re.sub(r"0x[0-9a-f]+", "0x...", str(error)), _TOLD)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def missing_column(error: BaseException) -> str | None:
    """The column that a task's own code or templates did not find in a row; None for another error.

    A name that lm-eval itself looks up, of a filter or a metric, is no column, and neither is that of a split.
    """
    from jinja2 import UndefinedError

    if isinstance(error, KeyError):
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        place = Path(frame.f_code.co_filename)
        of_library = "lm_eval" in place.parts and "tasks" not in place.parts
        return None if of_library or place.name == "dataset_dict.py" else str(error.args[0])
    undefined = re.search(r"'(\w+)' is undefined", str(error)) if isinstance(error, UndefinedError) else None
    return undefined[1] if undefined else None


def _unread(options: LmEvalOptions) -> str:
    """Which of the user's own definitions lm-eval passed over, and why; empty where it read all of them."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if not options.include or options.include == "mini":
        return ""
    folder = expanded(options.include)
    files = sorted(folder.rglob("*.yaml"))
    for file in files:
        try:
            load_yaml(file, resolve_func=False)
        except Exception as error:  # of the YAML parser, of the system, or of lm-eval
            return f": {file} cannot be read: {one_line(error, 300)}"
    return "" if files else f": there is no .yaml file in {folder}"


def _manager(options: LmEvalOptions) -> Any:
    """lm-eval's TaskManager over the definitions that `options` names."""
    from lm_eval.tasks import TaskManager

    include = _MINI if options.include == "mini" else expanded(options.include) if options.include else None
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
    """Whether a group contains something that is not in `index`."""
    cfg = index[name].cfg or {}
    named = [i if isinstance(i, str) else str(i.get("group") or i.get("task")) for i in items(cfg)]
    return any(n not in index or _needs_others(index, n) for n in named)


def _close(name: str, known: Iterable[str]) -> str:
    if ours := _ours(name):
        return f"; it is a task of ours: {ours}"
    close = get_close_matches(name, list(known), 3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "; `lm-eval ls tasks` lists them"


def _usable(name: str, task: Any) -> None:
    """Raise UsageError for a task that wants something other than a choice or an answer, or that runs code."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        raise UsageError(f"{name} measures the perplexity of whole texts (loglikelihood_rolling): there is no answer to draw")
    if getattr(task, "MULTIMODAL", False):
        raise UsageError(f"{name} asks of images or sounds; only text is asked here")
    if getattr(task, "UNSAFE_CODE", False):
        raise _runs_code(name)


def _refuse_code(index: Mapping[str, Any], name: str) -> None:
    """Raise UsageError for a definition that declares code to run, before its own module is imported and fetches code."""
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = index[name]
    if entry.yaml_path and load_yaml(entry.yaml_path, resolve_func=False).get("unsafe_code"):
        raise _runs_code(name)


def _runs_code(name: str) -> UsageError:
    use = _ours(name) or "a task of kind code, such as humaneval"
    return UsageError(f"{name} runs the model's code, and lm-eval has no sandbox; use {use}")


def _ours(name: str) -> str:
    """The option for the task here that lm-eval calls `name`; empty where there is none."""
    ours = name.replace("_", "-")
    return f"--task {ours}" if ours in card_names("tasks") else ""


def _overridden(task: Any, options: LmEvalOptions) -> None:
    """Set the values that lm-eval's simple_evaluate sets: examples, their seed, the length of an answer."""
    task.set_config("num_fewshot", shots_of(task.get_config("num_fewshot"), options))
    task.set_fewshot_seed(_OTHER_SEED)
    if options.max_gen_toks and task.OUTPUT_TYPE == "generate_until":
        own = dict(task.get_config("generation_kwargs") or {})
        for alias in ("max_new_tokens", "max_tokens", "max_completion_tokens"):
            own.pop(alias, None)
        task.set_config("generation_kwargs", {**own, "max_gen_toks": options.max_gen_toks})


def _cannot_load(task: str, error: Exception) -> SpaBenchError:
    """The error for the user on a failure inside lm-eval's loading."""
    said = one_line(error, 300) or type(error).__name__
    if "gated" in said.lower():
        return DataError(
            f"the data of {task} is gated ({said}): accept its terms on its page on the hub and log in with `hf auth login` "
            f"(or set HF_TOKEN), or set options.local to files of your own"
        )
    if isinstance(error, OSError) or "offline" in said.lower() or "connect" in said.lower():
        return DataError(
            f"the data of {task} cannot be reached ({said}): go online, or let files stand in for the hub with "
            f"options.local = [FOLDER] or SPA_BENCH_DATA"
        )
    return DataError(f"lm-eval cannot load {task}: {type(error).__name__}: {said}")
