"""Paths as users give them."""

from __future__ import annotations

import argparse
import gzip
import re
from pathlib import Path

_GZIP = b"\x1f\x8b"
_ODD = re.compile(r'[<>:"/\\|?*]')


def path(text: str) -> Path:
    """A path of the command line. Raises ArgumentTypeError for an empty one: it would be the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; is a variable not set?")
    return Path(text)


def unpacked(path: Path) -> bytes:
    """The content of a file, unpacked where its name or first bytes say gzip. Raises OSError, EOFError or zlib.error."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" or data.startswith(_GZIP) else data


def file_safe(name: str) -> str:
    """`name` as a part of a file's name that every system, archive and CI artifact takes."""
    return _ODD.sub("_", name)
