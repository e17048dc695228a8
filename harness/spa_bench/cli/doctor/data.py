"""Checks of files on disk: the embedded model, benchmark data, the hub's cache and our own."""

from __future__ import annotations

import gzip
import os
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from spa_bench.cli.doctor.finding import PIP, Finding
from spa_bench.support.cache import own_cache, user_cache
from spa_bench.support.home import can_write, expanded

_MODEL = Path(__file__).resolve().parents[2] / "mini" / "model"
# data set, variable, file under SPA_BENCH_DATA, its name in evalplus, whether it must have plus inputs
_BENCHMARKS = (
    ("HumanEval", "HUMANEVAL_OVERRIDE_PATH", "humaneval/HumanEval.jsonl", "HumanEvalPlus", False),
    ("HumanEval+", "HUMANEVAL_OVERRIDE_PATH", "humanevalplus/HumanEvalPlus.jsonl", "HumanEvalPlus", True),
    ("MBPP(+)", "MBPP_OVERRIDE_PATH", "mbppplus/MbppPlus.jsonl", "MbppPlus", True),
)
_LOADERS = {"HumanEvalPlus": "get_human_eval_plus", "MbppPlus": "get_mbpp_plus"}  # functions of evalplus.data: they download


def embedded_model() -> Iterator[Finding]:
    """The model inside the package."""
    absent = [n for n in ("config.json", "tokenizer.json", "model.safetensors") if not (_MODEL / n).is_file()]
    weights = _MODEL / "model.safetensors"
    if absent or weights.stat().st_size < 1 << 20:
        reason = f"{_MODEL} lacks {', '.join(absent)}" if absent else f"{weights} holds no weights"
        root = _MODEL.parents[3]  # the checkout's root, where spa-bench runs from its checkout
        yield Finding(
            "embedded model", "missing", reason, f"git -C {root} restore {_MODEL}" if (root / ".git").exists() else ""
        )
    else:
        yield Finding("embedded model", "ok", f"{weights.stat().st_size / 1e6:.1f} MB in {_MODEL}")


def benchmarks() -> Iterator[Finding]:
    """The place of each benchmark's problems, searched in the order in which tasks search."""
    for name, variable, file, release, plus in _BENCHMARKS:
        yield _benchmark(f"data {name}", variable, file, release, plus=plus)


def _benchmark(check: str, variable: str, file: str, release: str, *, plus: bool) -> Finding:
    override, folder = os.environ.get(variable), os.environ.get("SPA_BENCH_DATA")
    if override:
        if not Path(override).is_file():
            return Finding(check, "missing", f"{variable} is {override}, which is no file", f"unset {variable}")
        if plus and not _has_plus_inputs(Path(override)):
            return Finding(check, "missing", f"{variable} is {override}, without plus inputs", f"unset {variable}")
        return Finding(check, "ok", f"{override} (by {variable})")
    if folder and not Path(folder).is_dir():
        return Finding(check, "missing", f"SPA_BENCH_DATA is {folder}, which is no folder", "unset SPA_BENCH_DATA")
    for place in (Path(folder) / f"{file}.gz", Path(folder) / file) if folder else ():
        if place.is_file():
            return Finding(check, "ok", f"{place} (by SPA_BENCH_DATA)")
    looked = f"SPA_BENCH_DATA ({folder}) holds no {file}.gz" if folder else "SPA_BENCH_DATA is not set"
    cached = sorted((user_cache() / "evalplus").glob(f"{release}-v*.jsonl"))
    download = f'{shlex.quote(sys.executable)} -c "from evalplus.data import {_LOADERS[release]} as get; get()"'
    try:
        metadata.version("evalplus")
    except metadata.PackageNotFoundError:
        looked, download = f"{looked}, evalplus is not installed", f"{PIP} evalplus && {download}"
    else:
        if cached:
            return Finding(check, "ok", f"{cached[-1]} (by evalplus)")
        looked += ", evalplus has not downloaded it"
    return Finding(check, "missing", looked, f"{download}  # or export SPA_BENCH_DATA=FOLDER, with {file}.gz in it")


def _has_plus_inputs(path: Path) -> bool:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        return b'"plus_input"' in lines.readline()


def hub() -> Iterator[Finding]:
    """Whether downloads of models are allowed; the network is not tested."""
    off = [n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(n, "").upper() in ("1", "ON", "YES", "TRUE")]
    if off:
        yield Finding("hub", "not needed", f"offline ({off[0]} is set): only models in its cache", f"unset {' '.join(off)}")
    else:
        yield Finding("hub", "ok", "online: --model HUB-ID is downloaded (HF_HUB_OFFLINE is not set)")


def caches() -> Iterator[Finding]:
    """The cache folders, which grow, and whether they can be written."""
    home = expanded(os.environ.get("HF_HOME") or user_cache() / "huggingface")
    models = expanded(os.environ.get("HF_HUB_CACHE") or home / "hub")
    count = len(list(models.glob("models--*")))
    yield _cache("cache of the hub", models, f", {count} model{'s' * (count != 1)}", "HF_HOME")
    yield _cache("cache of spa-bench", own_cache(), "", "SPA_BENCH_CACHE")


def _cache(check: str, folder: Path, content: str, variable: str) -> Finding:
    if can_write(folder):
        return Finding(check, "ok", f"{folder}{content}{'' if folder.exists() else ' (not made yet)'}")
    return Finding(check, "missing", f"{folder} cannot be written", f"export {variable}=FOLDER")
