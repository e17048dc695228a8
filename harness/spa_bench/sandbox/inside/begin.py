"""What the zygote does once, before it forks: its channels, warm modules, packages, and giving up rights."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import os
import site
import sys
import types
from typing import Any

from spa_bench.sandbox.inside import guard

WARM = "bisect collections copy dataclasses datetime decimal enum fractions functools hashlib heapq itertools json math"
WARM += " operator random re statistics string typing"


def channels() -> tuple[int, int]:
    """(commands, answers): stdin and stdout moved away, so that a program finds only the null device there."""
    commands, answers = os.dup(0), os.dup(1)
    null_as_standard()
    return commands, answers


def null_as_standard() -> None:
    """Connect descriptors 0 to 2 with the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


class Packages:
    """Finds the packages that programs may import, without searching the folders that hold them."""

    def __init__(self, paths: list[str]):
        self.paths = {os.path.basename(path).partition(".")[0]: path for path in paths if not path.endswith(".libs")}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """As importlib.abc.MetaPathFinder says."""
        place = self.paths.get(name) if path is None else None
        if place is None:
            return None
        if os.path.isdir(place):
            place, inner = f"{place}/__init__.py", [place]
            return importlib.util.spec_from_file_location(name, place, submodule_search_locations=inner)
        return importlib.util.spec_from_file_location(name, place)


def warm() -> None:
    """Import the modules that programs use most, and set what the site module would have set."""
    for name in WARM.split():
        importlib.import_module(name)
    site.setquit()  # programs may call exit(); the interpreter runs without the site module
    site.sethelper()
    sys.argv[:] = [""]


def own_builtins(*modules: types.ModuleType) -> None:
    """Give these modules a copy of the builtins, so that a program that sets builtins.map to None breaks itself alone.

    This protects against mistakes only; a program that intends to can reach into these modules too.
    """
    for module in modules:
        names = {name: value for name, value in vars(builtins).items() if not name.startswith("_")}
        vars(module).update({name: value for name, value in names.items() if name not in vars(module)})


def restrict(settings: dict[str, Any]) -> dict[str, Any]:
    """Take from this process and its children the rights that no program needs. The result says which layers hold."""
    layers: dict[str, Any] = {"seccomp": False, "landlock": 0}
    guard.hide()
    guard.set_up_heaps()
    if settings["die_with_parent"]:
        guard.die_with_parent()
    if settings["drop_capabilities"]:
        guard.drop_capabilities()
    if settings["landlock"] is not None:
        layers["landlock"] = guard.landlock(settings["landlock"], [os.devnull])
    if settings["seccomp"]:
        guard.install(guard.base_filter(writes=bool(settings["scratch"])))
        layers["seccomp"] = True
    return layers
