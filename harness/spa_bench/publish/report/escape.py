"""Text of models and users, made safe for a page: invisible or misleading characters become codes, markup is escaped."""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

from spa_bench.support.text import visible

_FOLD = re.compile(r"(?<=[\[=,;:/_])(?=[^\[=,;:/_])")  # the place between a sign and the next character


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
