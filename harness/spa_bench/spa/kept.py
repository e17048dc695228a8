"""Stages of work kept on disk under the hash of everything they depend on.

A stage folder appears complete or not at all: it is made beside its final place and renamed. The partial work of a stopped
process (score rows, a checkpoint of the training) stays there, and the next process resumes from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from spa_bench.errors import StoreError
from spa_bench.models.base import AdapterMaker
from spa_bench.support import lock, provenance
from spa_bench.support.cache import ELSEWHERE
from spa_bench.support.files import replace_file

FORMAT = 3  # raise when the meaning of a stage's files changes


class Console(Protocol):
    """Where stages report: see spa_bench.support.console."""

    def stage(self, name: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A named piece of work; the value is called with (done, total)."""
        ...

    def note(self, text: str) -> None:
        """One line for the user."""
        ...


def recall(stage: str, recipe: Mapping[str, object], make: Callable[[Path], None], *, cache: Path, console: Console) -> Path:
    """The folder of a stage in `cache`: that of an earlier process with this `recipe`, else what `make` writes into a folder.

    Raises StoreError where the cache cannot be written, or a damaged stage not removed.
    """
    name = f"{stage}-{digest(recipe)}"
    final, work = cache / name, cache / f".{name}"
    if final.is_dir() and damaged(final):
        console.note(f"{stage}: the stage cache is damaged ({name}); made again")
        shutil.rmtree(final, ignore_errors=True)
        if final.is_dir():
            raise StoreError(f"{final} is damaged and cannot be removed; remove it, or set SPA_BENCH_CACHE to another folder")
    if final.is_dir():
        console.note(f"{stage}: from the stage cache ({name})")
    while not final.is_dir():
        try:
            work.mkdir(parents=True, exist_ok=True)
            with lock.hold(work, wait=partial(_waiting, console, stage), instead=ELSEWHERE):
                if not final.is_dir():  # the process that held the lock may have finished it
                    make(work)
                    content = json.dumps({**recipe, "files": _hashes(work)}, indent=1, sort_keys=True, default=list) + "\n"
                    replace_file(work / "key.json", content.encode())
                    os.rename(work, final)
        except (OSError, SafetensorError) as error:
            raise _failure(stage, cache, error) from error
        except StoreError:
            if not final.is_dir():  # another process may have finished and moved it before this one held the lock
                raise
    return final


def _waiting(console: Console, stage: str, owner: str) -> None:
    console.note(f"{stage}: {owner} is making it; waiting")


def made_adapters(maker: AdapterMaker, seeds: Sequence[int], cache: Path) -> list[Path]:
    """The folders of adapters that a model makes by itself, one for each seed, kept in `cache`."""
    final = cache / f"adapters-{digest(['made', list(seeds)])}"
    work = cache / f".{final.name}"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with lock.hold(work, instead=ELSEWHERE):
            if not final.is_dir():
                maker.make_adapters(work / "made", seeds)
                os.rename(work / "made", final)
    except (OSError, SafetensorError) as error:
        raise _failure("adapters", cache, error) from error
    return [final / f"member-{k}" for k in range(len(seeds))]


def _failure(stage: str, cache: Path, error: OSError | SafetensorError) -> StoreError:
    """The error for a stage that could not be written, or that could not read something else."""
    file, why = getattr(error, "filename", None), getattr(error, "strerror", None)
    elsewhere = isinstance(file, str) and not Path(file).absolute().is_relative_to(cache.absolute())
    if elsewhere or (isinstance(error, OSError) and not why):  # libraries also raise OSError when they cannot fetch something
        return StoreError(f"{stage}: {f'{file}: {why}' if elsewhere else error}")
    return StoreError(
        f"cannot write the stage cache {cache}: {why or error}; make room or set SPA_BENCH_CACHE "
        "to another folder, and run the same command again"
    )


def _hashes(folder: Path) -> dict[str, str]:
    """A hash for each file of a stage but its key and its lock."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in {"key.json", ".lock", ".lock-owner"})
    return {str(p.relative_to(folder)): provenance.hash_file(p) for p in files}


def damaged(folder: Path) -> str:
    """The first file of a finished stage that is changed, missing or additional; "" when the stage is undamaged."""
    try:
        written, present = json.loads((folder / "key.json").read_bytes())["files"], _hashes(folder)
        return min((name for name in {*written, *present} if written.get(name) != present.get(name)), default="")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "key.json"


def digest(content: object) -> str:
    """16 hex digits of `content` as JSON."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True, default=list).encode(), digest_size=8).hexdigest()
