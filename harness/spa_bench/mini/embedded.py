"""The name of the model that comes with the package."""

from __future__ import annotations

EMBEDDED = "embedded"  # the model that comes with the package
