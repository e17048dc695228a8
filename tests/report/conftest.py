"""A page in headless Chromium: what it asks for and says is kept, and everything but the file itself is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Addresses are followed and answers unpacked after the call that asks for it. Here that takes a while, so that a test which
# does not wait fails on every machine, and not once in a while on a busy one.
LATER = """{
  const listen = window.addEventListener, read = Response.prototype.text, wait = (act) => setTimeout(act, 100);
  window.addEventListener = (name, act, ...more) =>
    listen.call(window, name, name === "hashchange" ? (event) => wait(() => act(event)) : act, ...more);
  Response.prototype.text = async function () { await new Promise(wait); return read.call(this); };
}"""


@dataclass
class Opened:
    """A page with what it asked for and said."""

    tab: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        """What a reader sees there."""
        return str(self.tab.inner_text(selector))

    def column(self, place: int) -> list[str]:
        """A column of the first table of metrics, the rows that are shown, in order."""
        script = (
            "p => [...document.querySelectorAll('.metrics tbody tr:not([hidden])')].map(r => r.children[p].innerText.trim())"
        )
        return list(self.tab.evaluate(script, place))


Open = Callable[..., Opened]


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens a file by file://; at the end nothing may have been asked for or complained of."""
    contexts, pages = [], []

    def opened(
        path: Path,
        *,
        width: int = 1200,
        scheme: str = "light",
        script: bool = True,
        place: str = "",
    ) -> Opened:
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script, offline=True
        )
        contexts.append(context)
        context.add_init_script(LATER)
        found = Opened(context.new_page())
        pages.append(found)

        def route(request: Any) -> None:
            if request.request.url.startswith("file://"):
                request.continue_()
            else:
                request.abort()

        context.route("**/*", route)
        found.tab.on("request", lambda request: found.asked.append(request.url))
        found.tab.on("console", lambda message: found.said.append(message.text))
        found.tab.on("pageerror", lambda error: found.said.append(str(error)))
        found.tab.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
        found.tab.goto(path.resolve().as_uri() + place)
        text = path.read_text(encoding="utf-8")
        if script and 'id="browser"' in text:
            found.tab.wait_for_selector("#browser[data-problem]", timeout=60_000)
        if script and 'id="vega"' in text:
            found.tab.wait_for_selector("html[data-charts=done]", timeout=60_000)
        return found

    yield opened
    for context in contexts:
        context.close()
    for found in pages:
        assert found.said == []
        assert [url for url in found.asked if not url.startswith("file://")] == []
