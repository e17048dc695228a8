"""Leaderboards as a small site: an index, a page for each task, and pages made from Markdown files.

Links are relative, so that the site works from a folder and from any web server. On the page of a task the reader can
choose the axes of its picture.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.errors import UsageError
from spa_bench.publish.report import charts
from spa_bench.publish.report.data import ReportData
from spa_bench.publish.report.page import asset, axes_of, environment, plane_picture, policy, render
from spa_bench.publish.report.table import table_of
from spa_bench.support.version import __version__

_ODD = re.compile(r"[^A-Za-z0-9._+-]+")
_SMALL = re.compile(r"&lt;sub&gt;([^&<>]*)&lt;/sub&gt;")


def file_names(data: ReportData) -> dict[int, str]:
    """Index of a section -> the name of its files, without a suffix."""
    names = [_ODD.sub("-", s.key.rpartition("@")[0]).strip("-.") or "task" for s in data.sections]
    keys = [s.key.rpartition("@")[2] for s in data.sections]
    return {i: name if names.count(name) == 1 else f"{name}-{keys[i]}" for i, name in enumerate(names)}


def site(data: ReportData, *, also: Sequence[Path] = (), out: Path, quality: str, diversity: str) -> dict[str, bytes]:
    """File name in `out` -> content: index.html, a page and a picture for each task, and a page for each file of `also`.

    `also` names Markdown files or folders of them. The same data give the same bytes. Raises UsageError for a file of
    `also` that cannot be read.
    """
    if "index" in file_names(data).values():
        raise UsageError("a task is called index; it would take the place of the site's first page")
    documents = _documents(also)
    files: dict[str, bytes] = {}
    tasks = []
    for place, name in file_names(data).items():
        section = data.sections[place]
        alone = ReportData((section,), data.runs, tuple(p for p in data.problems if p.task == section.key), ())
        page = render(
            alone,
            quality=quality,
            diversity=diversity,
            title=section.title,
            home="index.html",
        )
        files[f"{name}.html"] = page.encode()
        first = max(section.tables, key=lambda rows: (len(rows[0].result["problems"]), len(rows)), default=())
        picture = _picture(first, quality, diversity)
        if picture:
            files |= {f"{name}.svg": charts.as_svg(picture).encode(), f"{name}.png": charts.as_png(picture)}
        table, others = table_of(first) if first else None, len(section.rows) - len(first)
        tasks.append({"name": name, "section": section, "picture": bool(picture), "table": table, "others": others})
    for stem, path in documents.items():
        files[f"pages/{stem}.html"] = _page("document.html", title=_title(path), body=_html(path, out / "pages"))
    listed = [(f"pages/{stem}.html", _title(path)) for stem, path in documents.items()]
    index = _page("index.html", title="spa-bench leaderboards", tasks=tasks, documents=listed, said=data.said)
    return {"index.html": index, **files}


def _picture(rows: Sequence[LeaderboardRow], quality: str, diversity: str) -> charts.Spec | None:
    if not rows:
        return None
    content = charts.plane_data(table_of(rows))
    return plane_picture(content, *axes_of(content, quality, diversity))


def _page(template: str, **content: Any) -> bytes:
    scripts = {name: asset(name) for name in ("theme.js", "csv.js", "table.js")}
    page: str = environment().get_template(template).render(
        version=__version__,
        style=Markup(asset("page.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=policy(list(scripts.values()), images="data: 'self' file:"),
        **content,
    )  # fmt: skip
    return page.encode()


# Markdown ------------------------------------------------------------------------------------------------------------


def _documents(also: Sequence[Path]) -> dict[str, Path]:
    """Name -> Markdown file. Raises UsageError where no file is found, or two files have one name."""
    documents: dict[str, Path] = {}
    for path in also:
        inside = (f for f in path.glob("*.md") if f.name != "README.md")  # a README is of the folder, not of the site
        files = sorted(inside) if path.is_dir() else [path]
        if not files or not all(f.is_file() and f.suffix == ".md" for f in files):
            raise UsageError(f"--also names {path}, which is no Markdown file and no folder with some")
        for file in files:
            if documents.setdefault(file.stem, file) != file:
                raise UsageError(f"--also names two files called {file.name}: {documents[file.stem]} and {file}")
    return documents


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _title(path: Path) -> str:
    """The first heading, with the part that the file's name adds to it."""
    heading = re.search(r"^# +(.+)$", _text(path), re.M)
    return f"{heading[1]}: {path.stem}" if heading else path.stem


def _html(path: Path, folder: Path) -> Markup:
    """The file as HTML for a page in `folder`: markup except <sub> is escaped, links and pictures are relative."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(_text(path))
    for token in tokens:
        for inner in token.children or ():
            for name in ("href", "src"):
                target = inner.attrGet(name)
                if isinstance(target, str) and not re.match(r"[a-z][a-z0-9+.-]*:|#|/", target, re.I):
                    inner.attrSet(name, os.path.relpath(path.parent / target, folder))
    html: str = reader.renderer.render(tokens, reader.options, {})
    html = _SMALL.sub(r"<small>\1</small>", html)
    wrapped = html.replace("<table>", '<div class="scroll" role="region" tabindex="0" aria-label="Table"><table>')
    return Markup(wrapped.replace("</table>", "</table></div>"))
