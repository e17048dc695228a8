"""The page: one HTML file that contains everything. It does not use the network, and its policy forbids it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from spa_bench.compare.leaderboard import LeaderboardRow
from spa_bench.errors import UsageError
from spa_bench.publish.report import charts
from spa_bench.publish.report.data import ReportData, Section
from spa_bench.publish.report.detail import Detail, details_of
from spa_bench.publish.report.escape import data_block, foldable, shown
from spa_bench.publish.report.samples import packed
from spa_bench.publish.report.table import Table, table_of
from spa_bench.support.version import __version__

TITLE = "spa-bench report"


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The chart of one table: the data that the page draws, and a picture to show before that or instead of it."""

    id: str
    table: Table
    data: dict[str, Any]
    quality: str
    diversity: str
    picture: str  # the `data:` URL of the SVG; empty where there is nothing to draw


@dataclass(frozen=True)
class Shown:
    """A section with its drawings."""

    section: Section
    planes: tuple[Plane, ...]
    details: tuple[Detail, ...]


def render(
    data: ReportData,
    *,
    quality: str = charts.QUALITY[0],
    diversity: str = charts.DIVERSITY[0],
    title: str = TITLE,
    interactive: bool = True,
    home: str = "",
    script: str = "",
    connect: str = "'none'",
) -> str:
    """The whole page. The same data give the same bytes.

    `quality` and `diversity` are the first axes. Without `interactive` the charts are pictures, and the page is small.
    `home` is the target of a link back. `script` is an additional script, from a server that follows runs. `connect` is a
    source list of Content-Security-Policy for the requests of scripts. Raises UsageError when drawing packages are missing.
    """
    sections = [_shown(data, section, place, quality, diversity) for place, section in enumerate(data.sections)]
    scripts = {name: asset(name) for name in ("theme.js", "csv.js", "table.js")} | {"own.js": script}
    if data.problems:
        scripts |= {name: asset(name) for name in ("unpack.js", "diff.min.js", "samples.js")}
    if interactive:
        scripts |= {name: asset(name) for name in ("unpack.js", "charts.js")}
    library = charts.script() if interactive else ""
    page: str = environment().get_template("page.html").render(
        title=title,
        version=__version__,
        data=data,
        sections=sections,
        style=Markup(asset("page.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=policy([*scripts.values(), library], connect=connect),
        library=Markup(packed(library)) if library else None,
        index=data_block(_index(data, sections, interactive=interactive)),
        chunks=[Markup(p.chunk()) for p in data.problems],
        home=home,
    )  # fmt: skip
    return page


def policy(scripts: Sequence[str], *, connect: str = "'none'", images: str = "data:") -> str:
    """A Content-Security-Policy that allows these scripts, by their hashes, and no others."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts if s)
    # styles: the chart library sets styles on its drawings. A style cannot run and, with nothing else allowed, cannot send
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src {images}; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'"
    )


def plane_picture(data: Mapping[str, Any], quality: str, diversity: str) -> charts.Spec | None:
    """The static picture of a table with these axes; None where fewer than one row has both."""
    heads = dict([*data["quality"], *data["diversity"]])
    if quality not in heads or diversity not in heads:
        return None
    sets = charts.plane_sets(data, quality, diversity)
    if not sets["points"]:
        return None
    spec = charts.plane(
        data["labels"],
        x=heads[diversity],
        y=heads[quality],
        sweep=bool(data["sweep"]),
        named=all(point["wide"]["name"] for point in sets["points"]),
        labels_x=data["within"][diversity],
        labels_y=data["within"][quality],
    )
    return charts.filled(spec, sets)


def axes_of(data: Mapping[str, Any], quality: str, diversity: str) -> tuple[str, str]:
    """These axes; where the table lacks one, its first axis instead."""
    known = [[name for name, _ in data[side]] for side in ("quality", "diversity")]
    return (
        quality if quality in known[0] else next(iter(known[0]), ""),
        diversity if diversity in known[1] else next(iter(known[1]), ""),
    )


def _shown(data: ReportData, section: Section, place: int, quality: str, diversity: str) -> Shown:
    planes = []
    for number, rows in enumerate(section.tables):
        table = table_of(rows)
        content = charts.plane_data(table)
        first, second = axes_of(content, quality, diversity)
        spec = plane_picture(content, first, second)
        picture = "" if spec is None else "data:image/svg+xml;base64," + base64.b64encode(charts.as_svg(spec).encode()).decode()
        planes.append(
            Plane(id=f"t{place}-{number}", table=table, data=content, quality=first, diversity=second, picture=picture)
        )
    return Shown(section, tuple(planes), details_of(data, section))


def _index(data: ReportData, sections: Sequence[Shown], *, interactive: bool) -> dict[str, Any]:
    """The facts about the page that scripts need."""
    planes = {
        plane.id: {
            **plane.data,
            "spec": charts.plane(
                plane.data["labels"],
                x="@x",
                y="@y",
                sweep=bool(plane.data["sweep"]),
                labels_x="@labels-x",
                labels_y="@labels-y",
                width="container",
            ),
            "sets": _all_sets(plane.data),
            "open": [row_id(row) for row in plane.table.rows],
        }
        for shown_ in sections
        for plane in shown_.planes
        if interactive
    }
    sizes = {len(t) for run in data.runs if run.matrices for t in run.matrices.means.values() if interactive}
    return {
        "tasks": [{"key": s.section.key, "title": s.section.title} for s in sections],
        "runs": [
            {
                "label": run.label, "sampler": run.sampler, "seed": run.seed, "task": run.task, "group": run.group,
                "hash": run.hash, "words": run.partition.most_telling(),
            }
            for run in data.runs
        ],
        "problems": [
            {"task": p.task, "id": p.id, "passed": p.passed(), "runs": sorted(p.answers)} for p in data.problems
        ],
        "planes": planes,
        "heat": {str(size): charts.heat(size, "@kind", "@unit") for size in sorted(sizes)},
    }  # fmt: skip


def _all_sets(data: Mapping[str, Any]) -> dict[str, Any]:
    """quality -> diversity -> the data sets of the plane."""
    return {
        quality: {diversity: charts.plane_sets(data, quality, diversity) for diversity, _ in data["diversity"]}
        for quality, _ in data["quality"]
    }


def row_id(row: LeaderboardRow) -> str:
    """The id of a row's detail in the page."""
    return f"sampler-{row.result['group_hash']}"


@lru_cache(maxsize=1)
def environment() -> Any:
    """The environment of templates that escape all their values. Raises UsageError where jinja2 is missing."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise UsageError("a report needs jinja2: pip install 'spa-bench[report]'") from error
    # jinja2 calls finalize with every value before it escapes the value
    made = Environment(
        loader=PackageLoader("spa_bench.publish.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["row_id"] = row_id
    made.filters["foldable"] = foldable
    made.filters["json"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False)
    return made


def asset(name: str) -> str:
    """The text of one of our scripts or styles."""
    return (files("spa_bench.publish.report") / "assets" / name).read_text(encoding="utf-8")
