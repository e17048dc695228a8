"""The options of every command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spa_bench import __version__
from spa_bench.cli.gate_options import check_options, compare_options
from spa_bench.cli.values import path
from spa_bench.cli.watch_options import log_options, report_options, tracker_options, view_options
from spa_bench.mini.embedded import EMBEDDED


class Parser(argparse.ArgumentParser):
    """One whose errors are one line."""

    def error(self, message: str) -> Any:
        """One line and exit code 2."""
        from spa_bench.support.console import error_line

        error_line(f"{message}; see {self.prog} --help")
        sys.exit(2)


def build(actions: Mapping[str, Callable[[argparse.Namespace], int | None]]) -> argparse.ArgumentParser:
    """The parser of all commands; `act` of what it parses is the action of that name."""
    parser = Parser(prog="spa-bench", description="Which way of sampling gives answers that are both good and different?")
    parser.add_argument("--version", action="version", version=f"spa-bench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    for name, (what, fill) in _COMMANDS.items():
        command = commands.add_parser(name, help=what)
        command.set_defaults(act=actions[name])
        fill(command)
    _spa(
        commands.add_parser("spa", help="SPA's stages by themselves: attribute, partition, adapt; describe looks at one"),
        actions,
    )
    return parser


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sampler", required=True, metavar="NAME|CARD.toml", help="see `spa-bench list samplers`")
    parser.add_argument("--task", required=True, metavar="NAME|CARD.toml", help="see `spa-bench list tasks`")
    _model(parser)
    parser.add_argument("--n", type=int, help="answers a problem, a multiple of the sampler's members (default: the card's)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, help="seed of training and sampling (default 0)")
    which.add_argument("--seeds", metavar="A,B,C", help="several seeds, one run each")
    parser.add_argument("--limit", type=int, metavar="L", help="only the first L problems")
    _data(parser)
    _settings(parser, "override a card's key, e.g. lora.steps=100 or task.seconds=5")
    _device(parser)
    parser.add_argument(
        "--noise-floor",
        choices=("auto", "yes", "no"),
        default="auto",
        help="draw one member n times in other batches, to see what numerics alone change (auto: unless float32 on a CPU)",
    )
    _loading(parser)
    _revision(parser)
    parser.add_argument("--out", type=path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)")
    parser.add_argument(
        "--until", choices=("generate", "grade"), default="grade", help="generate: stop before grading; see `spa-bench grade`"
    )
    _rules(parser)
    _grading(parser)
    _price(parser)
    _metrics(parser)
    tracker_options(parser)
    _output(parser)


def _grade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN")
    _task_file(parser)
    _grading(parser)
    _price(parser)
    _metrics(parser)
    tracker_options(parser)
    _output(parser)


def _score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", required=True, metavar="NAME|CARD.toml")
    parser.add_argument(
        "--samples", required=True, type=path, metavar="FILE.jsonl", help="rows of task_id with completion or solution"
    )
    parser.add_argument("--name", help="what to call them in tables (default: the file's name)")
    parser.add_argument("--cut", action="store_true", help="cut completions at the task's stop strings first")
    _settings(parser, "override a key of the task card, e.g. task.seconds=10")
    parser.add_argument("--out", type=path, default=Path("runs"), metavar="DIR")
    _rules(parser)
    _grading(parser)
    _metrics(parser)
    tracker_options(parser)
    _output(parser)


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN")
    parser.add_argument("--problem", metavar="ID", help="one problem's samples side by side")
    _task_file(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("samplers", "tasks", "metrics", "models"))


def _leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=path, metavar="RUNS", help="run folders, result files, or folders of them")
    parser.add_argument("--format", choices=("md", "csv", "json", "latex"), default="md")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument("--reference", metavar="SAMPLER", help="print paired differences of this sampler against the others")
    parser.add_argument("--write", type=path, metavar="FILE", help="write it there too")
    parser.add_argument(
        "--save", type=path, metavar="DIR|FILE.json", help="write a result file for each row, or one file that has all of them"
    )
    parser.add_argument("--submit", action="store_true", help="only check that RUNS are complete and consistent result files")


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN")
    _task_file(parser)
    _output(parser)


def _rerun(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=path, metavar="RUN")
    parser.add_argument(
        "--out", type=path, metavar="DIR", help="where the repetition goes (default: reruns, beside the folder of runs)"
    )
    parser.add_argument("--use-cache", action="store_true", help="take adapters from the stage cache instead of training anew")
    _task_file(parser)
    parser.add_argument("--data", type=path, metavar="FILE", help="where the run's training pairs are on this machine")
    parser.add_argument("--queries", type=path, metavar="FILE", help="where the run's attribution queries are on this machine")
    _loading(parser)
    _grading(parser)
    _embedding(parser)
    _output(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=path, metavar="RUN")
    parser.add_argument("--to", required=True, choices=("evalplus", "lm-eval"), help="whose files")
    parser.add_argument("--out", required=True, type=path, metavar="DIR", help="a new or empty folder, or an earlier export")
    _task_file(parser)


def _power(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=path, metavar="RUN", help="two of them are a pilot, as with --pilot")
    count = parser.add_mutually_exclusive_group()
    count.add_argument("--problems", type=int, nargs="+", metavar="N", help="how many problems, one row each")
    count.add_argument("--task", metavar="NAME|CARD.toml", help="as many as this task has (default: as the pilot has)")
    parser.add_argument("--rate", type=float, metavar="P", help="share of right answers that you expect (default 0.5)")
    parser.add_argument("--draws", type=int, metavar="N", help="answers a problem (default 1)")
    parser.add_argument(
        "--correlation", type=float, metavar="C", help="of answers of the two samplers on one problem, 0 to 1 (default 0)"
    )
    parser.add_argument(
        "--agreement", type=float, metavar="A", help="of two answers of one sampler on one problem (default: --correlation)"
    )
    parser.add_argument(
        "--pilot",
        nargs=2,
        type=path,
        metavar=("RUN_A", "RUN_B"),
        help="runs of two samplers on the same problems, or folders with the seeds of each, instead of the four above",
    )
    parser.add_argument("--metric", help="of the pilot (default pass@1)")
    parser.add_argument("--seeds", type=int, metavar="S", help="training seeds of each sampler (default: the pilot's, or 1)")
    parser.add_argument(
        "--seed-spread", type=float, metavar="X", help="standard deviation over seeds of the mean difference (or the pilot's)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of the interval (default 0.95)")
    parser.add_argument("--power", type=float, default=0.8, help="chance to show a difference (default 0.8)")
    parser.add_argument("--difference", type=float, metavar="D", help="say how likely this one is shown, and what it takes")
    _output(parser)


def _spa(parser: argparse.ArgumentParser, actions: Mapping[str, Callable[[argparse.Namespace], int | None]]) -> None:
    commands = parser.add_subparsers(required=True, metavar="STAGE", parser_class=Parser)
    helps = {
        "attribute": "score every training example against every query; prints the folder of the scores",
        "partition": "make K parts of the data, and report on them; prints the folder of the parts",
        "adapt": "train the adapters; prints their folder",
    }
    for name, what in helps.items():
        stage = commands.add_parser(name, help=what)
        stage.set_defaults(act=actions[f"spa {name}"], seeds=None)
        stage.add_argument("--sampler", required=True, metavar="NAME|CARD.toml", help="see `spa-bench list samplers`")
        _model(stage)
        _data(stage)
        _settings(stage, "override a card's key, e.g. partition.method=kmeans or attribution.method=bm25")
        stage.add_argument("--seed", type=int, default=0, help="seed of attribution, partition and training (default 0)")
        if name == "partition":
            _against(stage)
        _device(stage)
        _loading(stage)
        _revision(stage)
        _output(stage)
    look = commands.add_parser("describe", help="tables and a picture of a folder that one of the stages printed")
    look.set_defaults(act=actions["spa describe"])
    look.add_argument("folder", type=path, metavar="DIR")
    _against(look)
    look.add_argument(
        "--out", type=path, metavar="FILE.png|svg|pdf", help="draw sizes, scores and the mean scores of each part"
    )
    _output(look)


def _against(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        type=path,
        metavar="DIR|FILE",
        help="say how alike (NMI) another partition is: a folder of parts, or a file with a label for each example",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=EMBEDDED, metavar="PATH|HUB-ID", help="a causal LM of transformers (default: the embedded model)"
    )


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="training pairs instead of the card's: a .jsonl, .json or .parquet file, or hub:NAME or hub:NAME:SPLIT; queries "
        "become 48 of them unless --queries is given (docs/data.md)",
    )
    parser.add_argument(
        "--queries",
        metavar="SOURCE",
        help="attribution queries instead of the card's: code or text (ours), a source as --data, sample or sample:M",
    )


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, help="CPU threads (default: the cores this process may use)")


def _revision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", help="branch, tag or commit of a model on the hub")


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", choices=("main", "temperature", "members", "data-fraction"), help="see docs/studies.md")
    parser.add_argument("--task", default="mini-code", metavar="NAME|CARD.toml", help="(default mini-code)")
    parser.add_argument("--model", default=EMBEDDED, metavar="PATH|HUB-ID", help="(default: the embedded model)")
    parser.add_argument("--seeds", default="0,1,2,3,4", metavar="A,B,C", help="training and sampling seeds (default 0,1,2,3,4)")
    parser.add_argument("--n", type=int, help="answers a problem (default: as many as SPA has adapters)")
    parser.add_argument("--limit", type=int, metavar="L", help="only the first L problems")
    parser.add_argument(
        "--members", metavar="K", help="adapters of SPA (default: the cards'); in the study members several: 2,4,8"
    )
    parser.add_argument("--grid", metavar="A,B,C", help="the values of what the study varies, instead of its own")
    parser.add_argument(
        "--samplers",
        metavar="ROLE[=CARD],...",
        help="who takes part, of single, random, lexical, influence, seeds and single-long, and the card that plays it",
    )
    parser.add_argument(
        "--recipe", default="embedded", metavar="NAME", help="cards of all roles: embedded (default), paper-code or paper-nlu"
    )
    _data(parser)
    _settings(parser, "override a key of all cards, e.g. lora.steps=100 or task.seconds=5")
    _device(parser)
    parser.add_argument("--noise-floor", choices=("auto", "yes", "no"), default="auto", help="as run")
    _loading(parser)
    _revision(parser)
    parser.add_argument("--out", type=path, metavar="DIR", help="where run folders go (default: runs/study-NAME)")
    parser.add_argument(
        "--write",
        type=path,
        default=Path("leaderboards/studies"),
        metavar="DIR",
        help="where page, picture and rows go (default: leaderboards/studies)",
    )
    parser.add_argument("--table-only", action="store_true", help="make no runs: page and picture from those that are there")
    _rules(parser)
    _grading(parser)
    _price(parser)
    _output(parser)


def _task_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task-file", type=path, metavar="FILE", help="where a jsonl task's problems are on this machine")


def _settings(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help=what)


def _loading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", default="auto", metavar="auto|B", help="rows decoded together")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")


def _rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grading",
        choices=("default", "evalplus"),
        default="default",
        help="whose rules decide: evalplus repeats evalplus 0.3.1 to the verdict, mistakes included (docs/security.md)",
    )


def _grading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sandbox",
        metavar="NAME",
        help="bwrap, docker, landlock (default: the first that works here) or none-i-trust-this-code; see `spa-bench doctor`",
    )
    parser.add_argument("--workers", type=int, default=None, help="programs run at once (default: the cores)")


def _price(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--price-per-hour", type=float, metavar="X", help="what an hour of this machine costs: the price goes to timings.json"
    )


def _metrics(parser: argparse.ArgumentParser) -> None:
    _embedding(parser)
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME|MODULE:NAME",
        dest="metrics",
        help="a metric of your own, of an installed package or on the import path; may be given several times "
        "(docs/add-a-metric.md); on grade: beside those of the run, in added.json",
    )


def _embedding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--embedding",
        metavar="PATH|HUB-ID",
        help="a model of transformers for the metrics vendi[embedding,...]; on grade and rerun: where the run's one is here",
    )


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print rows as JSON on stdout and nothing else there")


_COMMANDS: Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": ("draw samples with a sampler on a task, grade and measure them", _run),
    "grade": ("grade runs that were generated elsewhere", _grade),
    "score": ("score completions in evalplus' sample format", _score),
    "show": ("the samples of a run with their verdicts", _show),
    "list": ("what there is: samplers, tasks, metrics, models", _list),
    "leaderboard": ("a table of runs, seeds pooled, with paired differences", _leaderboard),
    "compare": ("two samplers or two versions of one, paired by problem, and what differs in their specs", compare_options),
    "check": ("runs against a baseline: exit code 1 when a metric fell", check_options),
    "log": ("give finished or stopped runs to wandb, mlflow or trackio", log_options),
    "view": ("runs in the browser, on this machine alone, while they grow", view_options),
    "doctor": ("what this machine has, and the command for what it lacks", _output),
    "verify": ("check every byte of a run: checksums, seeds, texts, metrics", _verify),
    "rerun": ("do a run again from its spec and say what came out otherwise", _rerun),
    "export": ("the samples of a run as files that evalplus or lm-eval read", _export),
    "study": ("the SPA paper's Table 1 and Figures 2, 4 and 6, with intervals and a verdict", _study),
    "power": ("what difference between two samplers so many problems can show", _power),
    "report": ("a page of runs or results that works offline, with pictures; or a site of leaderboards", report_options),
}
