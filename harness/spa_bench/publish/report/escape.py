"""Text of models and users made fit for a page: what is invisible or misleading is shown as its code, markup is escaped."""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

# control characters but tab and newline, what turns or hides text, line separators, half characters
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_FOLD = re.compile(r"(?<=[\[=,;:/_])(?=[^\[=,;:/_])")  # between a sign and what follows it


def visible(text: str) -> str:
    """`text` in which such characters are written as `\\u202e`."""
    return _ODD.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def shown(value: Any) -> Any:
    """What templates do to every value before it is escaped; markup of our own stays."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def foldable(text: str) -> Markup:
    """A name that a narrow column breaks behind a sign before it breaks inside a word."""
    return Markup("<wbr>").join(_FOLD.split(visible(text)))


def data_block(value: Any) -> Markup:
    """JSON that may stand between script tags: it holds no `<`, no `&` and nothing but ASCII."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
