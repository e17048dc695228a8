"""The folder of an export: files are written one by one, each atomically, and never over files of anything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spa_bench.errors import UsageError
from spa_bench.support.files import put

SCHEMA_VERSION = 1
MANIFEST = "export.json"


def owner_of(hashes: Sequence[str]) -> str:
    """What names the owner of a folder: the hash of a run, or a hash over those of several."""
    return hashes[0] if len(hashes) == 1 else hashlib.blake2b("\n".join(hashes).encode(), digest_size=8).hexdigest()


def write_export(out: Path, files: Mapping[str, bytes], *, run: str, to: str) -> tuple[str, ...]:
    """Write `files` into `out`, each atomically; returns one line for each result in `out` that is now out of date.

    Files that only an earlier export wrote are removed; other files, such as a tool's results, are kept. `run` and `to`
    name the owner of the folder. MANIFEST holds them and is written first, so that an interrupted export can be repeated.
    Raises UsageError for a folder of another export or of something else.
    """
    earlier = _check(out, run, to)
    owner = {"schema_version": SCHEMA_VERSION, "run": run, "to": to, "files": sorted(files)}
    stale = _stale(out, files)
    try:
        out.mkdir(parents=True, exist_ok=True)
        put(out / MANIFEST, (json.dumps(owner, indent=1) + "\n").encode())
        for name, content in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            put(out / name, content)
        for name in earlier - files.keys():
            if (out / name).resolve().is_relative_to(out.resolve()):  # anyone can edit the file that holds the list
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write the export to {out}: {error.strerror}; use another --out") from error
    return stale


def _check(out: Path, run: str, to: str) -> set[str]:
    """The files of an earlier export of the same run and format. Raises UsageError where `out` holds something else."""
    if not out.exists():
        return set()
    if not out.is_dir():
        raise UsageError(f"--out is {out}, which is no folder; name a new or empty one")
    if not any(out.iterdir()):
        return set()
    try:
        manifest: Any = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or "run" not in manifest:
        raise UsageError(f"{out} is not empty and is no export of spa-bench; nothing was written, use another --out")
    if (manifest["run"], manifest.get("to")) != (run, to):
        raise UsageError(
            f"{out} holds run {manifest['run']} for {manifest.get('to')}, this is run {run} for {to}; "
            f"nothing was written, use another --out"
        )
    return {str(name) for name in manifest.get("files", ())}


def _stale(out: Path, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Lines for old results: evalplus prints an existing X_eval_results.json again and ignores new samples in X.jsonl."""
    lines = []
    for name, content in files.items():
        results = out / name.replace(".jsonl", "_eval_results.json")
        if name.endswith(".jsonl") and results.exists() and (not (out / name).exists() or (out / name).read_bytes() != content):
            lines.append(f"{results} is of the earlier samples and evalplus would print it again: remove it")
    return tuple(lines)
