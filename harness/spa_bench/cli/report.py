"""The commands `spa-bench report`, `view` and `log`: they look at runs and change none."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping


def _report(a: argparse.Namespace) -> None:
    from spa_bench.cli.report_command import report

    report(a)


def _view(a: argparse.Namespace) -> None:
    from spa_bench.publish.view.server import view

    view(a.runs, a.port)


def _log(a: argparse.Namespace) -> int:
    from spa_bench.cli.log import log

    return log(a)


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {"report": _report, "view": _view, "log": _log}
