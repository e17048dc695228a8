"""The files of a module of the user's own, and of those that it imports: what a function that reads the module depends on."""

from __future__ import annotations

import ast
import dis
import functools
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path

_OURS = __name__.partition(".")[0]


def is_users(module: str | None) -> bool:
    """Whether a module is the user's own: of a notebook, a script or a folder, and of no installed package."""
    if module == "__main__":
        return True
    if not module or module.partition(".")[0] in {_OURS, "builtins", *sys.stdlib_module_names}:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not _is_installed(Path(file))


def imported_in(code: types.CodeType, package: str) -> set[str]:
    """The modules that a function imports while it runs; `package` is its own, from which relative imports start."""
    found = {str(i.argval) for i in dis.get_instructions(code) if i.opname == "IMPORT_NAME"}
    inner = (imported_in(part, package) for part in code.co_consts if isinstance(part, types.CodeType))
    return (found | {package} if found else found).union(*inner) - {""}


def files_behind(module: str) -> dict[str, Path]:
    """Name -> file of the user's own modules behind `module`: it, all of its package, and what these import, whole.

    The files alone decide, not what happens to be imported already. Empty for a module of an installed package, and for one
    that has no file.
    """
    found: dict[str, Path] = {}
    waiting, seen = [module.partition(".")[0]], set[str]()
    while waiting:
        top = waiting.pop()
        if top in seen or top == "__main__" or not is_users(top):
            continue
        seen.add(top)
        for name, file in _files_of(top):
            found[name] = file
            waiting += _imports(file)
    return dict(sorted(found.items()))


def _files_of(top: str) -> Iterator[tuple[str, Path]]:
    """(a name that is the same on every machine, file) of the modules of one name."""
    origin, folders = _place(top)
    for folder in folders:
        yield from ((f"{top}/{file.relative_to(folder).as_posix()}", file) for file in sorted(folder.rglob("*.py")))
    if not folders and origin and not _is_installed(origin) and origin.is_file():
        yield top, origin


def _place(top: str) -> tuple[Path | None, list[Path]]:
    """(the file of a module, the folders of a package)."""
    loaded = sys.modules.get(top)
    if loaded is not None:
        origin, folders = getattr(loaded, "__file__", None), list(getattr(loaded, "__path__", ()))
    else:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return None, []
        origin, folders = (spec.origin, list(spec.submodule_search_locations or ())) if spec else (None, [])
    return Path(origin) if origin else None, [Path(one) for one in folders if not _is_installed(Path(one))]


def _imports(file: Path) -> set[str]:
    """The first names of the modules that a file imports; none where it is no Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _is_installed(place: Path) -> bool:
    return any(place.resolve().is_relative_to(folder) for folder in _installed())


@functools.cache
def _installed() -> tuple[Path, ...]:
    return tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))
