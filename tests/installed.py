"""Packages as an installer leaves them, for tests: a folder of modules with the metadata that importlib reads."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path,
    name: str,
    points: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str] | None = None,
    version: str = "1.0",
) -> Path:
    """`folder` with modules `files` and the entry points {group: {NAME: value}} of the distribution `name`."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for file, text in (files or {}).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


def install_project(folder: Path, project: Path) -> Path:
    """`folder` with the metadata that a build of `project` (a folder with a pyproject.toml) gives; its modules stay there."""
    said = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    return install(folder, said["name"], said["entry-points"], version=said["version"])
