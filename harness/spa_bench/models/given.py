"""Adapters that a user has already: a folder in PEFT's format, or a run, whose adapters are in the stage cache.

A spec names them NAME@HASH and has no path. They are copied when a run uses them, so that it can be
repeated from its spec.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spa_bench.errors import StoreError, UsageError
from spa_bench.support.cache import own_cache, stage_cache
from spa_bench.support.provenance import hash_folder, split_hash

_DIGITS = 16  # hex digits of the hash in a spec


@dataclass(frozen=True, kw_only=True)
class Given:
    """The adapters at one place."""

    name: str  # the last part of the place's path
    hash: str  # of their hashes
    folders: tuple[Path, ...]

    @property
    def said(self) -> str:
        """What stands in a spec."""
        return f"{self.name}@{self.hash}"

    def kept(self) -> Given:
        """The same adapters in our own cache, copied there unless they are there. Raises StoreError where that fails."""
        final = _kept_at(self.hash)
        if not final.is_dir():
            work = final.with_name(f".{final.name}-{os.getpid()}")
            try:
                for k, folder in enumerate(self.folders):
                    shutil.copytree(folder, work / f"member-{k}", dirs_exist_ok=True)
                if not final.is_dir():
                    os.rename(work, final)
            except OSError as error:
                if not final.is_dir():  # another process may have been quicker
                    raise StoreError(f"cannot copy the adapters {self.said} to {final}: {error.strerror or error}") from error
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return Given(name=self.name, hash=self.hash, folders=_members(final))


def given_adapters(place: str) -> Given:
    """The adapters at `place`: a folder of one adapter, a run folder, or NAME@HASH of a spec.

    Raises UsageError for a place without adapters, and StoreError for a run whose adapters are no longer in the stage cache.
    """
    folder, said = Path(place), split_hash(place, _DIGITS)
    if said and not folder.exists():
        name, digest = said
        kept = _kept_at(digest)
        if not kept.is_dir():
            raise UsageError(f"the adapters {place} of this run are not in {kept.parent}; name their folder again instead")
        return Given(name=name, hash=digest, folders=_members(kept))
    if (folder / "adapter_config.json").is_file():
        return _given(folder, (folder,), [hash_folder(folder)])
    if (folder / "spec.json").is_file():
        return _of_run(folder)
    raise UsageError(f"no adapter in {place}: name a folder in PEFT's format, with adapter_config.json, or a run with adapters")


def said(place: str) -> str:
    """What stands in a spec for the adapters at `place`. Raises as given_adapters."""
    return place if split_hash(place, _DIGITS) and not Path(place).exists() else given_adapters(place).said


def _of_run(folder: Path) -> Given:
    try:
        known = json.loads((folder / "adapters.json").read_bytes())
        stage, hashes = stage_cache() / str(known["stage"]), [str(one) for one in known["hashes"]]
        if not hashes:
            raise ValueError("no hashes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the run {folder} has no adapters (adapters.json); name one of a sampler that trains some") from error
    folders = tuple(stage / f"member-{k}" for k in range(len(hashes)))
    if any(not one.is_dir() or hash_folder(one) != wanted for one, wanted in zip(folders, hashes, strict=True)):
        raise StoreError(f"the adapters of the run {folder} are no longer in {stage}; repeat the run with its command")
    return _given(folder, folders, hashes)


def _given(folder: Path, folders: Sequence[Path], hashes: Sequence[str]) -> Given:
    digest = hashlib.blake2b(json.dumps(list(hashes)).encode(), digest_size=_DIGITS // 2).hexdigest()
    return Given(name=folder.resolve().name, hash=digest, folders=tuple(folders))


def _kept_at(digest: str) -> Path:
    return own_cache() / "given" / digest


def _members(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / f"member-{k}" for k in range(sum(1 for one in folder.iterdir() if one.name.startswith("member-"))))
