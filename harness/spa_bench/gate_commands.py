"""The commands `spa-bench compare` and `spa-bench check`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spa_bench.errors import UsageError


def _compare(a: argparse.Namespace) -> None:
    from spa_bench.gate import compare

    found = compare(a.a, a.b)
    _write(a.write, found.markdown if a.write else "")
    _print(a, found.to_json(), found.report)


def _check(a: argparse.Namespace) -> int:
    """0: green, 1: red."""
    from spa_bench.gate import check_places
    from spa_bench.gate.rules import words_of

    metrics = None if a.metrics is None else words_of(a.metrics)
    verdict = check_places(a.runs, a.against, tolerance=a.tolerance, alpha=a.alpha, metrics=metrics)
    _write(a.write, verdict.markdown if a.write else "")
    _print(a, verdict.to_json(), verdict.report)
    return 0 if verdict.ok else 1


def _print(a: argparse.Namespace, rows: list[dict[str, Any]], report: str) -> None:
    print(json.dumps(rows, indent=1, allow_nan=False) if a.json else report)


def _write(file: Path | None, text: str) -> None:
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {"compare": _compare, "check": _check}
