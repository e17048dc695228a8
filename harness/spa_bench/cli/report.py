"""`spa-bench report`: makes a page and its pictures, or a small site, from runs or results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from spa_bench.cli.options import OUTPUT, WHAT, Results, a_path, name_metrics, option


def report(
    runs: Results,
    /,
    *,
    out: Annotated[Path, a_path("where the page goes", OUTPUT, metavar="DIR", name=("--out", "-o"))] = Path("report"),
    quality: Annotated[
        str, option("on the vertical axis of the picture", WHAT, metavar="METRIC", completer=name_metrics)
    ] = "pass@1",
    diversity: Annotated[
        str, option("on its horizontal axis", WHAT, metavar="METRIC", completer=name_metrics)
    ] = "effective_diversity[ast,correct]",
    title: Annotated[str, option("of the page", WHAT)] = "spa-bench report",
    problems: Annotated[
        Literal["auto", "load", "none"],
        option(
            "what was asked, beside the answers: auto if it is at hand, load any task as `show` does (it may download)", WHAT
        ),
    ] = "auto",
    site: Annotated[bool, option("a small site instead: an index, and a page and a picture a task", WHAT)] = False,
    also: Annotated[
        tuple[Path, ...],
        a_path("with --site: Markdown that becomes pages of it", WHAT, metavar="FILE.md|DIR", many=True),
    ] = (),
) -> None:
    """A page of runs or results that works offline, with pictures; or a site of leaderboards."""
    from spa_bench.publish.report.write import ReportOptions, write_report
    from spa_bench.support.console import Reporter

    options = ReportOptions(out=out, quality=quality, diversity=diversity, title=title, problems=problems, site=site, also=also)
    for path in write_report(runs, options, Reporter().note):
        print(path)
