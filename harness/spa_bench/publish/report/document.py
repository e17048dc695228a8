"""One Markdown text as a page that works offline, in the style of reports."""

from __future__ import annotations

import re

from markupsafe import Markup

from spa_bench.publish.report.page import asset, environment, policy
from spa_bench.support.version import __version__

_SMALL = re.compile(r"&lt;sub&gt;([^&<>]*)&lt;/sub&gt;")


def document(markdown: str, *, title: str) -> bytes:
    """The page; markup in the text except <sub> is escaped, and its pictures may be `data:` URLs.

    Raises UsageError where the packages of reports are missing.
    """
    pages = environment()
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    usual = reader.validateLink
    reader.validateLink = lambda url: url.startswith("data:image/svg+xml;base64,") or usual(url)  # type: ignore[method-assign]
    html = _SMALL.sub(r"<small>\1</small>", reader.render(markdown))
    html = html.replace("<table>", '<div class="scroll" role="region" tabindex="0" aria-label="Table"><table>')
    scripts = {name: asset(name) for name in ("theme.js", "csv.js", "table.js")}
    page: str = pages.get_template("single.html").render(
        version=__version__,
        title=title,
        style=Markup(asset("page.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=policy(list(scripts.values())),
        body=Markup(html.replace("</table>", "</table></div>")),
    )
    return page.encode()
