"""Finds run folders: the one search of every command and function that takes a folder of runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from spa_bench.runs.folder import RunFolder, is_run, open_run
from spa_bench.support import provenance

DEEP = 3  # how many levels of folders are searched: a study has its runs in runs/study-NAME
_CONTENT = ("records.jsonl", "grades.jsonl", "metrics.json")  # equal in two copies of a run


def run_paths(path: Path, *, links: bool = True) -> list[Path]:
    """The run folders at `path` or up to `DEEP` levels below it, by place. Hidden folders, and what a run holds, are left out.

    `links`: links to folders are followed, each folder once. A folder that cannot be read holds nothing.
    """
    if is_run(path):
        return [path]
    return sorted(_below(path, 1, {path.resolve()} if links else None))


def _below(folder: Path, depth: int, seen: set[Path] | None) -> Iterator[Path]:
    """The run folders below `folder`; `seen` are the folders that were searched already, None where links are not followed."""
    for path in _folders(folder, links=seen is not None):
        if seen is not None:
            place = path.resolve()
            if place in seen:
                continue
            seen.add(place)
        if (path / "spec.json").exists():
            yield path
        elif depth < DEEP:
            yield from _below(path, depth + 1, seen)


def _folders(folder: Path, *, links: bool) -> list[Path]:
    """The folders in `folder` but hidden ones, by name."""
    try:
        with os.scandir(folder) as entries:
            there = [e.path for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=links)]
    except OSError:  # the folder was removed meanwhile, or may not be read
        return []
    return sorted(map(Path, there))


def given_files(path: Path) -> list[Path]:
    """The result files at `path`: the file itself, or the .json files directly in a folder that is no run."""
    if path.is_file():
        return [path]
    return [] if is_run(path) else sorted(file for file in path.glob("*.json") if file.is_file())


def nothing_in(path: Path) -> str:
    """Why a folder cannot be used: neither runs nor results are in it."""
    return f"no runs and no results in {path}"


def opened(paths: Sequence[Path]) -> list[RunFolder]:
    """The runs at `paths`, which a search has found: of the copies of a run the first. Raises StoreError as `open_run`."""
    return without_copies([open_run(path) for path in paths])


def without_copies(folders: Sequence[RunFolder]) -> list[RunFolder]:
    """`folders` without those whose spec, samples, verdicts and metrics are those of a folder before them."""
    kept: dict[str, list[RunFolder]] = {}
    for folder in folders:
        twins = kept.setdefault(folder.hash, [])
        if not any(_same(twin, folder) for twin in twins):
            twins.append(folder)
    left = {id(folder) for twins in kept.values() for folder in twins}
    return [folder for folder in folders if id(folder) in left]


def _same(one: RunFolder, other: RunFolder) -> bool:
    if one.path.resolve() == other.path.resolve():
        return True
    return all(provenance.hash_if_there(one.path / name) == provenance.hash_if_there(other.path / name) for name in _CONTENT)
