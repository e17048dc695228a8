"""The options of `compare` and `check`."""

from __future__ import annotations

import argparse

from spa_bench.cli.values import path


def compare_options(parser: argparse.ArgumentParser) -> None:
    """Of `compare`."""
    what = "a run folder, a result file, or a folder of either; with several samplers in it PLACE:SAMPLER"
    parser.add_argument("a", metavar="A", help=what)
    parser.add_argument("b", metavar="B", help="likewise; differences are B minus A")
    _output(parser)


def check_options(parser: argparse.ArgumentParser) -> None:
    """Of `check`."""
    parser.add_argument("runs", nargs="+", type=path, metavar="RUNS", help="run folders, result files, or folders of them")
    parser.add_argument(
        "--against",
        required=True,
        type=path,
        metavar="BASELINE",
        help="a result file such as leaderboards/results/mini-code.json, or a folder of results or runs",
    )
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="X|X%|METRIC=X,...",
        help="the drop that is let pass, of all metrics or those named: 0.02, 5%%, pass@1=0.03,vendi=5%% (docs/gate.md)",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.05,
        help="chance that the whole check is red when nothing changed but the seeds (default 0.05)",
    )
    parser.add_argument("--metrics", metavar="A,B", help="judge these alone (default: all of docs/gate.md)")
    _output(parser)


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--write", "--markdown", type=path, metavar="FILE.md", dest="write", help="write it there as Markdown too"
    )
    parser.add_argument("--json", action="store_true", help="print rows as JSON on stdout and nothing else there")
