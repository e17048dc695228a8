"""The answers of the server: the list, its rows as JSON, and reports. They depend on the runs alone; server.py speaks HTTP."""

from __future__ import annotations

import hashlib
import html
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from spa_bench.errors import SpaBenchError
from spa_bench.publish.view.folder import Listed, Runs
from spa_bench.publish.view.one import SHOWN
from spa_bench.support.text import visible
from spa_bench.support.version import __version__

# the assets that a browser may request by name, and their places; the style is the report's
_FILES = {
    "/page.css": ("report", "page.css", "text/css"),
    "/theme.js": ("report", "theme.js", "text/javascript"),
    "/view.css": ("view", "view.css", "text/css"),
    "/view.js": ("view", "view.js", "text/javascript"),
}
# the list may run only its own scripts, and send requests only to this server
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# a report has its own policy, with the hashes of its scripts; a page cannot forbid framing by a policy inside itself
_REPORT_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_KEPT = 4  # how many reports are kept, and not made again while nothing has changed


@dataclass(frozen=True)
class Response:
    """One answer."""

    status: int
    kind: str  # media type
    body: bytes
    policy: str = _POLICY

    @property
    def tag(self) -> str:
        """Its ETag."""
        return f'"{hashlib.blake2b(self.body, digest_size=12).hexdigest()}"'


class Responses:
    """The answers of a server for the runs in one folder. Several threads may call it."""

    def __init__(self, runs: Runs):
        self._runs = runs
        self._reports: dict[tuple[tuple[str, str], ...], bytes] = {}
        self._one_report_at_a_time = threading.Lock()

    def answer(self, path: str, query: Mapping[str, Sequence[str]]) -> Response:
        """The answer to a GET of `path`."""
        if path == "/":
            return self._list()
        if path in _FILES:
            package, name, kind = _FILES[path]
            return Response(200, kind, _asset(package, name).encode())
        if path == "/api/runs":
            return self._rows(query.get("run"))
        if path == "/report":
            return self._report(query.get("run", []))
        return problem(404, "There is no such page here.")

    def _list(self) -> Response:
        page = _asset("view", "index.html").replace("{folder}", html.escape(visible(str(self._runs.root))))
        return Response(200, "text/html", page.replace("{version}", html.escape(__version__)).encode("utf-8", "replace"))

    def _rows(self, ids: Sequence[str] | None) -> Response:
        listed = self._runs.look() if ids is None else self._runs.chosen(ids)
        content = {"schema_version": 1, "metrics": list(SHOWN), "runs": [_row(one) for one in listed]}
        return Response(200, "application/json", json.dumps(content).encode())

    def _report(self, ids: Sequence[str]) -> Response:
        """The report of the chosen runs, made once for their current content."""
        chosen = self._runs.chosen(ids)
        if not chosen:
            return problem(404, "None of these runs is there (any more).")
        key = tuple((one.id, one.glance.stamp) for one in chosen)
        outside = [one.name for one in chosen if "leads out of" in one.glance.said]
        if outside:
            return problem(403, f"{outside[0]}: a file of it is a link that leads out of the folder.")
        with self._one_report_at_a_time:
            if key not in self._reports:
                try:
                    self._reports[key] = _made([one.path for one in chosen], dict(key))
                except SpaBenchError as error:
                    return problem(500, str(error))
                while len(self._reports) > _KEPT:
                    del self._reports[next(iter(self._reports))]
            return Response(200, "text/html", self._reports[key], _REPORT_POLICY)


def _made(paths: Sequence[Path], stamps: Mapping[str, str]) -> bytes:
    """The report's page, with the script that follows changes of these runs."""
    from spa_bench.publish.report.data import read
    from spa_bench.publish.report.page import render

    follow = f"const SEEN = {json.dumps(stamps)};\n{_asset('view', 'follow.js')}"
    return render(read(paths), script=follow, connect="'self'").encode("utf-8", "replace")


def _row(one: Listed) -> dict[str, Any]:
    row = {"id": one.id, "name": one.name, **asdict(one.glance)}
    facts = {key: visible(value) if isinstance(value, str) else value for key, value in row.pop("facts").items()}
    metrics = {name: {key: e[key] for key in ("value", "low", "high", "n", "reason")} for name, e in row["metrics"].items()}
    return {**row, **facts, "said": visible(row["said"]), "host": visible(row["host"]), "metrics": metrics}


def problem(status: int, text: str) -> Response:
    """A page that says what is wrong."""
    said = html.escape(visible(text))
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>spa-bench view</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/page.css"></head>'
        f'<body><main><h1>spa-bench view</h1><p>{said}</p><p><a href="/">All runs</a></p></main></body></html>\n'
    )
    return Response(status, "text/html", page.encode("utf-8", "replace"))


def _asset(package: str, name: str) -> str:
    return (files(f"spa_bench.publish.{package}") / "assets" / name).read_text(encoding="utf-8")
