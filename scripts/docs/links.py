"""Checks the links of the built site without a network.

    python scripts/docs/links.py site    # a line for each fault; exit code 1 when there is one

Each link of a page into the site leads to a file that is there, and to an anchor that is there. Nothing that a browser loads by
itself (scripts, style sheets, fonts, pictures, frames) comes from elsewhere; plain links may lead out, and are not followed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("image", "href"),
          ("audio", "src"), ("embed", "src"), ("object", "data"), ("use", "href"), ("input", "src")}  # fmt: skip
FOLLOWED = {"alternate", "author", "canonical", "license", "next", "prev", "help", "search"}  # of <link>: not loaded
IN_STYLE = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


class _Page(HTMLParser):
    """What one page loads, where its links lead, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.styled = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.styled = tag == "style"
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "link" and "href" in given:
            (self.links if given.get("rel", "") in FOLLOWED else self.loaded).append(given["href"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loaded += [value for name, value in given.items() if (tag, name.removeprefix("xlink:")) in LOADED]
        self.loaded += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.loaded += in_style(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.styled:
            self.loaded += in_style(data)


def in_style(text: str) -> list[str]:
    """The addresses that a style sheet loads."""
    return [url or imported for url, imported in IN_STYLE.findall(text)]


@cache
def _read(place: Path) -> _Page:
    page = _Page()
    page.feed(place.read_text(encoding="utf-8"))
    return page


def faults(site: Path) -> Iterator[str]:
    """A line for each fault of the site in that folder."""
    for place in sorted(site.rglob("*.html")):
        page = _read(place)
        for url in page.loaded:
            yield from (f"{place.relative_to(site)}: {said}" for said in _loaded(url, place, site))
        for url in page.links:
            yield from (f"{place.relative_to(site)}: {said}" for said in _led(url, place, site))
    for place in sorted(site.rglob("*.css")):
        for url in in_style(place.read_text(encoding="utf-8")):
            yield from (f"{place.relative_to(site)}: {said}" for said in _loaded(url, place, site))


def _loaded(url: str, place: Path, site: Path) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme == "data" or (not parts.scheme and not parts.netloc and not parts.path):
        return
    if parts.scheme or parts.netloc:
        yield f"loads {url[:200]} from elsewhere"
    elif not _file(parts.path, place, site).is_file():
        yield f"loads {url[:200]}, which is not there"


def _led(url: str, place: Path, site: Path) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return
    target = _file(parts.path, place, site) if parts.path else place
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        yield f"a link leads to {url}, which is not there"
    elif target.suffix == ".html" and unquote(parts.fragment) not in _read(target).anchors and parts.fragment[:2] != "__":
        yield f"a link leads to {url}, and that page has no such anchor"  # "__": the theme's own, which a script makes


def _file(path: str, place: Path, site: Path) -> Path:
    return site / unquote(path).lstrip("/") if path.startswith("/") else place.parent / unquote(path)


def main(site: Path) -> int:
    """Prints the faults; 1 when there is one."""
    if not any(site.rglob("*.html")):
        print(f"docs: {site} has no pages; make docs builds them", file=sys.stderr)
        return 2
    found = list(faults(site))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "site")))
