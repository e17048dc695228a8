"""Writes a page and its pictures, or a small site, from runs or results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spa_bench.errors import UsageError
from spa_bench.publish.report import charts, questions
from spa_bench.publish.report.data import ReportData, read
from spa_bench.publish.report.page import axes_of, plane_picture, render
from spa_bench.publish.report.site import file_names, site
from spa_bench.publish.report.table import table_of
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.values import check_out
from spa_bench.support.files import put
from spa_bench.support.text import did_you_mean

PICTURE = "quality-diversity"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a page shows, and the folder to which it is written."""

    out: Path = Path("report")
    quality: str = charts.QUALITY[0]  # the metric on the vertical axis of the picture
    diversity: str = charts.DIVERSITY[0]  # the metric on its horizontal axis
    title: str = "spa-bench report"
    problems: Literal["auto", "load", "none"] = "auto"  # prompts: if quickly available, from any task, or left out
    site: bool = False  # an index and a page for each task, instead of one page
    also: Sequence[Path] = ()  # with site: Markdown files, or folders of them, that become pages of the site


def write_report(runs: Sequence[Path], options: ReportOptions, note: Callable[[str], None]) -> list[Path]:
    """Write the page or the site of `runs`; returns its files. `note` is called with sentences about missing parts.

    Raises UsageError for metrics that cannot be drawn and for a folder that cannot be written.
    """
    check_out(options.out)
    ask = {"auto": questions.at_hand, "load": _loaded, "none": questions.none}[options.problems]
    data = read(runs, ask=ask)
    _check_axes(data, options.quality, options.diversity)
    for line in data.said:
        note(line)
    if options.site:
        files = site(data, also=options.also, out=options.out, quality=options.quality, diversity=options.diversity)
    else:
        if options.also:
            raise UsageError("--also goes with --site: a page by itself has no other pages")
        page = render(data, quality=options.quality, diversity=options.diversity, title=options.title)
        files = {"index.html": page.encode(), **pictures(data, options.quality, options.diversity)}
        _remove_old(files, options.out)
    _write(files, options.out)
    return [options.out / name for name in files]


def pictures(data: ReportData, quality: str, diversity: str) -> dict[str, bytes]:
    """File name -> SVG or PNG of the main picture of each table, on white; the same data give the same bytes."""
    files: dict[str, bytes] = {}
    tables = [(name, rows) for s, name in file_names(data).items() for rows in data.sections[s].tables]
    for number, (name, rows) in enumerate(tables):
        content = charts.plane_data(table_of(rows))
        spec = plane_picture(content, *axes_of(content, quality, diversity))
        if spec is None:
            continue
        twin = f"-{number}" if [n for n, _ in tables].count(name) > 1 else ""
        stem = PICTURE if len(tables) == 1 else f"{PICTURE}--{name}{twin}"
        files |= {f"{stem}.svg": charts.as_svg(spec).encode(), f"{stem}.png": charts.as_png(spec)}
    return files


def _check_axes(data: ReportData, quality: str, diversity: str) -> None:
    """Raises UsageError for a metric that cannot be drawn."""
    for option, name, known in (("--quality", quality, charts.QUALITY), ("--diversity", diversity, charts.DIVERSITY)):
        if name not in known:
            raise UsageError(f"{option} is {name!r}, which the picture cannot have{did_you_mean(name, known)}")


def _loaded(folder: RunFolder) -> Mapping[str, str]:
    """Prompts of any task. Loading the task may need a download, lm-eval and torch."""
    from spa_bench.runs.reopen import task_of

    return {p.id: p.prompt for p in task_of(folder).problems}


def _remove_old(files: Mapping[str, bytes], out: Path) -> None:
    """Remove the pictures of an earlier report in `out`, which do not belong to these runs."""
    for old in (path for kind in ("svg", "png") for path in out.glob(f"{PICTURE}*.{kind}") if path.name not in files):
        old.unlink(missing_ok=True)


def _write(files: Mapping[str, bytes], out: Path) -> None:
    try:
        for name, content in files.items():
            place = out / name
            place.parent.mkdir(parents=True, exist_ok=True)
            put(place, content)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or out}: {error.strerror}; use another -o") from error
