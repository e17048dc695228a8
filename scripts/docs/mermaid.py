"""Mermaid, which draws the diagrams in the pages: one pinned version from npm, checked and kept in .cache/docs.

    python scripts/docs/mermaid.py    # fetch it if it is not here, and print its place

Pages load it from the site itself. Where npm or the network is absent, this says so in one line, and diagrams stay text.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "11.17.2"
INTEGRITY = "sha512-V6K3C8EBdEsPFZXSKMJe6ppQOENxuHARr9GvHX4hh47lAbhMRD9qf4oEK7LoaRQxULMa80/qt5gHO73aCleBBg=="
KEPT = Path(__file__).resolve().parents[2] / ".cache" / "docs" / f"mermaid-{VERSION}.min.js"
_MEMBER = "package/dist/mermaid.min.js"


def packed() -> Path | None:
    """The script, if an earlier call of `fetch` has kept it."""
    return KEPT if KEPT.exists() else None


def fetch() -> Path:
    """The script, from npm where it is not kept yet. Raises SystemExit with one line where that cannot be."""
    if KEPT.exists():
        return KEPT
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = ["npm", "pack", f"mermaid@{VERSION}", "--silent", "--pack-destination", folder]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        except FileNotFoundError:
            raise SystemExit(
                "docs: npm is not installed, so there is no Mermaid; apt-get install npm, or build without"
            ) from None
        except subprocess.SubprocessError as error:
            last = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            raise SystemExit(f"docs: npm pack mermaid@{VERSION} failed: {''.join(last)}") from None
        [archive] = Path(folder).glob("*.tgz")
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != INTEGRITY:
            raise SystemExit(f"docs: mermaid@{VERSION} has the hash {found}, and {INTEGRITY} is expected: not used")
        with tarfile.open(archive) as content:
            script = content.extractfile(_MEMBER)
            if script is None:
                raise SystemExit(f"docs: mermaid@{VERSION} has no {_MEMBER}")
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            new = KEPT.with_suffix(".new")
            new.write_bytes(script.read())
            new.replace(KEPT)
    return KEPT


if __name__ == "__main__":
    print(fetch(), file=sys.stdout)
