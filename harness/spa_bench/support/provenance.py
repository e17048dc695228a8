"""The origin of a number: versions of packages, the revision of our own code and its hash."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGES = ("spa-bench", "numpy", "torch", "transformers", "tokenizers", "peft", "sacrebleu", "evalplus")
_HASHED = frozenset({".safetensors", ".json", ".model", ".txt", ".jinja", ".tiktoken", ".bpe", ".codes"})
_PACKAGE = Path(__file__).resolve().parents[1]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number; packages that are not installed are left out."""
    return dict(_installed())


@lru_cache(maxsize=1)  # looking them up reads a file a package
def _installed() -> dict[str, str]:
    return {"python": platform.python_version(), **installed(*PACKAGES)}


def installed(*names: str) -> dict[str, str]:
    """Versions of the packages `names`; those that are not installed are left out."""
    found = {}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def code() -> dict[str, object]:
    """Our own code: `git` is the last commit that touched it, `dirty` whether it differs from that, `source` its hash.

    `git` and `dirty` are None where the package is not in a checkout of its own.
    """
    commit = _git("log", "-1", "--format=%H", "--", ".")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".") if commit else None
    return {"git": commit or None, "dirty": bool(changes) if changes is not None else None, "source": source_hash()}


@lru_cache(maxsize=8)
def source_hash(*parts: str) -> str:
    """A hash over our own .py files, or over those in the sub-packages `parts`."""
    digest = hashlib.blake2b(digest_size=8)
    for folder in [_PACKAGE / part for part in parts] or [_PACKAGE]:
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(_PACKAGE)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def hash_bytes(data: bytes) -> str:
    """The hash that identifies files that we keep: blake2b, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def hash_file(path: Path) -> str:
    """`hash_bytes` of the content of a file, which is read in parts."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def hash_if_there(path: Path) -> str:
    """`hash_file`; "" where there is no such file."""
    return hash_file(path) if path.exists() else ""


def split_hash(said: str, digits: int) -> tuple[str, str] | None:
    """(NAME, HASH) of NAME@HASH, as specs name what lies on a disk; None where no hash of `digits` hex digits ends the text."""
    found = re.fullmatch(rf"(.+)@([0-9a-f]{{{digits}}})", said)
    return None if found is None else (found[1], found[2])


def revision_line(code: Mapping[str, Any]) -> str:
    """The commit of `code` (what `code()` gave), 10 hex digits, and whether there were changes; a dash where it is unknown."""
    return (code.get("git") or "-")[:10] + (" and changes" if code.get("dirty") else "")


def versions_line(installed: Mapping[str, str]) -> str:
    """The versions of packages in words."""
    return ", ".join(f"{name} {version}" for name, version in installed.items())


def numerics_line(numerics: Mapping[str, object]) -> str:
    """The numerics of a run in words: those of training first, then those of each other engine, by its name."""
    own = [f"{key} {value}" for key, value in numerics.items() if not isinstance(value, Mapping)]
    others = [
        f"{name}: {', '.join(f'{key} {said}' for key, said in value.items())}"
        for name, value in numerics.items()
        if isinstance(value, Mapping)
    ]
    return "; ".join([", ".join(own), *others] if own else others)


def hash_folder(folder: Path, more: Collection[str] = ()) -> str:
    """Hash over names and contents of the weight, config and tokenizer files in `folder`, `more` suffixes among them."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.iterdir()):
        if file.suffix in _HASHED.union(more) and file.name != "training.json":
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=8)  # the running code is the code at the time of loading, so one answer is enough
def _git(*arguments: str) -> str | None:
    """The output of git for the package's folder; None without git, or outside a checkout."""
    if not (_PACKAGE.parents[1] / ".git").exists():
        return None
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        command = ["git", "-C", str(_PACKAGE), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20, check=True, env=environment)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
