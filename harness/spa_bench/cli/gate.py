"""The commands `spa-bench compare` and `spa-bench check`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from spa_bench.support.files import write_text


def _compare(a: argparse.Namespace) -> None:
    from spa_bench.compare.gate import compare

    found = compare(a.a, a.b)
    if a.write:
        write_text(a.write, found.markdown)
    _print(a, found.to_json(), found.report)


def _check(a: argparse.Namespace) -> int:
    """0: green, 1: red."""
    from spa_bench.compare.gate import check_places
    from spa_bench.compare.gate.rules import words_of

    metrics = None if a.metrics is None else words_of(a.metrics)
    verdict = check_places(a.runs, a.against, tolerance=a.tolerance, alpha=a.alpha, metrics=metrics)
    if a.write:
        write_text(a.write, verdict.markdown)
    _print(a, verdict.to_json(), verdict.report)
    return 0 if verdict.ok else 1


def _print(a: argparse.Namespace, rows: list[dict[str, Any]], report: str) -> None:
    print(json.dumps(rows, indent=1, allow_nan=False) if a.json else report)


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {"compare": _compare, "check": _check}
