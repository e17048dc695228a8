"""The options of what looks at runs: `report`, `view`, `log`, and trackers beside a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from spa_bench.cli.values import path


def report_options(parser: argparse.ArgumentParser) -> None:
    """Of `report`."""
    parser.add_argument("runs", nargs="+", type=path, metavar="RUNS", help="run folders, result files, or folders of them")
    parser.add_argument("-o", "--out", type=path, default=Path("report"), metavar="DIR", help="(default: report)")
    parser.add_argument("--quality", default="pass@1", metavar="METRIC", help="up in the picture (default pass@1)")
    parser.add_argument(
        "--diversity",
        default="diversity_score[exact]",
        metavar="METRIC",
        help="to the right in it (default the diversity score)",
    )
    parser.add_argument("--title", default="spa-bench report", help="of the page")
    parser.add_argument(
        "--problems",
        choices=("auto", "load", "none"),
        default="auto",
        help="what was asked, beside the answers: auto if it is at hand, load any task as `show` does (it may download)",
    )
    parser.add_argument("--site", action="store_true", help="a small site instead: an index, and a page and a picture a task")
    parser.add_argument(
        "--also", nargs="+", type=path, default=[], metavar="FILE.md|DIR", help="with --site: Markdown that becomes pages of it"
    )


def view_options(parser: argparse.ArgumentParser) -> None:
    """Of `view`."""
    parser.add_argument(
        "runs", nargs="?", type=path, default=Path("runs"), metavar="RUNS_DIR", help="a folder of runs (default: runs)"
    )
    parser.add_argument(
        "--port", type=int, metavar="P", help="0: any that is free (default: 7677, or a free one where that is taken)"
    )


def log_options(parser: argparse.ArgumentParser) -> None:
    """Of `log`."""
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN")
    parser.add_argument(
        "--to", action="append", required=True, metavar="NAME", dest="log", help="wandb, mlflow or trackio; as --log of run"
    )
    _log_samples(parser)


def tracker_options(parser: argparse.ArgumentParser) -> None:
    """Of the commands that trackers can follow: `run`, `grade`, `score`."""
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="NAME",
        help="tell a tracker of the run: wandb, mlflow or trackio, with commas or several times (docs/trackers.md)",
    )
    _log_samples(parser)


def _log_samples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-samples", action="store_true", help="give trackers the samples and verdicts too")
