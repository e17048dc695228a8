"""The two scripts of the site that come from npm, pinned and checked, kept in .cache/docs.

    python scripts/docs/npm.py    # fetch what is not here; a line for each that cannot be had

Mermaid draws the diagrams, and iframe-worker lets the search work in a page that is opened as a file. Pages load both from the
site itself. Where npm or the network is absent, the site is built without: diagrams stay text, and the search needs a server.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT = Path(__file__).resolve().parents[2] / ".cache" / "docs"


@dataclass(frozen=True, kw_only=True)
class Script:
    """One file of a package on npm."""

    package: str
    version: str
    integrity: str  # of the archive, as npm names it
    member: str  # its place in the archive

    @property
    def place(self) -> Path:
        """Where it is kept."""
        return KEPT / f"{self.package}-{self.version}.js"


MERMAID = Script(
    package="mermaid",
    version="11.17.2",
    integrity="sha512-V6K3C8EBdEsPFZXSKMJe6ppQOENxuHARr9GvHX4hh47lAbhMRD9qf4oEK7LoaRQxULMa80/qt5gHO73aCleBBg==",
    member="package/dist/mermaid.min.js",
)
WORKER = Script(
    package="iframe-worker",
    version="1.0.4",
    integrity="sha512-roeaaI+Lg1LJNfgpCjoRe/+WzEjy9+Z08LoEvu85MCPbBjwm+qXz8Ag5U05lHa6V1CysZyGzE0SOkAtSUA5q7Q==",
    member="package/shim/index.js",
)
SCRIPTS = {"assets/mermaid.min.js": MERMAID, "assets/iframe-worker.js": WORKER}  # the places in the site


def fetch(script: Script) -> Path:
    """The script, from npm where it is not kept yet. Raises OSError with one line where that cannot be."""
    if script.place.exists():
        return script.place
    named = f"{script.package}@{script.version}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = ["npm", "pack", named, "--silent", "--pack-destination", folder]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        except FileNotFoundError:
            raise OSError(f"npm is not installed, so there is no {named}; apt-get install npm, or build without") from None
        except subprocess.SubprocessError as error:
            last = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            raise OSError(f"npm pack {named} failed: {''.join(last)}") from None
        [archive] = Path(folder).glob("*.tgz")
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != script.integrity:
            raise OSError(f"{named} has the hash {found}, and {script.integrity} is expected: not used")
        with tarfile.open(archive) as content:
            member = content.extractfile(script.member)
            if member is None:
                raise OSError(f"{named} has no {script.member}")
            script.place.parent.mkdir(parents=True, exist_ok=True)
            new = script.place.with_suffix(".new")
            new.write_bytes(member.read())
            new.replace(script.place)
    return script.place


def lacking() -> Iterator[str]:
    """Fetches what is not here, and yields a line for each script that cannot be had."""
    for script in SCRIPTS.values():
        try:
            fetch(script)
        except OSError as error:
            yield str(error)


if __name__ == "__main__":
    for line in lacking():
        print(f"docs: {line}", file=sys.stderr)
