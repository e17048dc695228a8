"""JSON that a user wrote: text that cannot be read becomes a one-line error that names the place."""

from __future__ import annotations

import json
from typing import Any

from spa_bench.errors import DataError


def read_json(text: str, place: str) -> Any:
    """The value in `text`. Raises DataError that begins with `place` (a file, or `FILE, line N`)."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{place} is not valid JSON: nested too deep") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not valid JSON: {error}") from error
    except ValueError as error:  # the only other cause: an integer with too many digits for Python
        raise DataError(f"{place} is not JSON that can be read: an integer has too many digits") from error
