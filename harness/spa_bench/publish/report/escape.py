"""Text of models and users, made safe for a page: invisible or misleading characters become codes, markup is escaped."""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

# control characters except tab and newline, characters that turn or hide text, line separators, lone surrogates
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_FOLD = re.compile(r"(?<=[\[=,;:/_])(?=[^\[=,;:/_])")  # the place between a sign and the next character


def visible(text: str) -> str:
    """`text` with each of these characters as its code, such as `\\u202e`."""
    return _ODD.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def shown(value: Any) -> Any:
    """The value as templates show it, before it is escaped; our own markup is unchanged."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def foldable(text: str) -> Markup:
    """A name that a narrow column breaks after a sign rather than inside a word."""
    return Markup("<wbr>").join(_FOLD.split(visible(text)))


def data_block(value: Any) -> Markup:
    """JSON that may stand between script tags: it is ASCII and holds no `<` and no `&`."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
