"""The rule of tests/quick.txt, whoever runs its files: a test of them that starts a process or loads a model fails."""

from __future__ import annotations

import functools
import multiprocessing.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILES = tuple(Path(__file__).with_name("quick.txt").read_text(encoding="utf-8").split())
PROCESSES = (
    (subprocess.Popen, "__init__"),
    (os, "fork"),
    (os, "posix_spawn"),
    (os, "system"),
    (multiprocessing.util, "spawnv_passfds"),
)
_TRANSFORMERS = "transformers.modeling_utils"
_guarded = False


@contextmanager
def guard(nodeid: str) -> Iterator[None]:
    """Meanwhile, where the test is of a file of quick.txt, what starts a process or loads weights by transformers fails it.

    A run of such a test has no commit, because git is a process.
    """
    if nodeid.partition("::")[0] not in FILES:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "_guarded", True)
        for owner, name in PROCESSES:
            patch.setattr(owner, name, lambda *_, **__: _refuse("starts no process"))
        patch.setattr("spa_bench.support.provenance._git", lambda *_: None)
        yield


def needs_model() -> None:
    """Fails a test that is guarded."""
    if _guarded:
        _refuse("loads no model")


def watch_models() -> None:
    """Has what loads weights looked at where it is imported, which takes seconds and not every test does."""
    sys.meta_path.insert(0, _Watch())


def _refuse(what: str) -> Any:
    # pytest's own exception is none that a command takes for an error of the user
    pytest.fail(f"a test of a file in tests/quick.txt {what}: take the file out of there, or move the test to another file")


class _Watch:
    """A finder of modules that changes one of them."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _TRANSFORMERS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            module.PreTrainedModel.from_pretrained = classmethod(_watched(module.PreTrainedModel.from_pretrained.__func__))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _watched(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def loaded(*arguments: Any, **options: Any) -> Any:
        needs_model()
        return load(*arguments, **options)

    return loaded
