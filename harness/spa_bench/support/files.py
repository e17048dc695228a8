"""Reading and writing files: unpacking, safe names, atomic replacement, and making names last."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from spa_bench.errors import StoreError, UsageError
from spa_bench.support.packing import MOST_MAGIC, decompressed, gunzip, packing_of, readable
from spa_bench.support.text import utf8

_ODD = re.compile(r'[<>:"/\\|?*]')


def unpacked(path: Path) -> bytes:
    """The content of a file, unpacked where its name is gzip's or its first bytes are those of gzip, xz, bzip2 or Zstandard.

    Raises OSError, EOFError or zlib.error.
    """
    return decompressed(path.read_bytes(), gzip=path.suffix == ".gz")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to be read, unpacked as `unpacked` does it, a part at a time. Reading raises as that."""
    with path.open("rb") as stream:
        open_as = gunzip if path.suffix == ".gz" else packing_of(stream.read(MOST_MAGIC))
        stream.seek(0)
        if open_as is None:
            yield stream
            return
        with readable(), open_as(stream) as inside:
            yield inside


def file_safe(name: str) -> str:
    """`name` as a part of a file's name that every system, archive and CI artifact accepts."""
    return _ODD.sub("_", name)


def put(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader sees the whole old or the whole new file, even if this process is killed."""
    put_parts(path, (content,))


def put_parts(path: Path, parts: Iterable[bytes]) -> None:
    """`put` for content that comes in parts, such as lines; they may be read from the old file."""
    # process ids alone do not tell threads apart, nor containers that share a folder
    new = path.with_name(f".{path.name}.{uuid4().hex}.{os.getpid()}.new")
    try:
        with new.open("wb") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(file: Path, text: str) -> None:
    """Write a file for which a user asked, and make the folders above it. Raises UsageError.

    What UTF-8 cannot hold, such as a byte in the name of a folder that is no character, becomes U+FFFD.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(utf8(text), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> None:
    """`put` for a file of a run: raises StoreError when the file cannot be written."""
    replace_parts(path, (content,))


def replace_parts(path: Path, parts: Iterable[bytes]) -> None:
    """`put_parts` for a file of a run: raises StoreError when the file cannot be written."""
    try:
        put_parts(path, parts)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; make room, or make its folder writable, and run the same command again"
        ) from error


def has_ended(pid: str) -> bool:
    """Whether a process of this machine, of which a file's name tells the number, is no more; False for what is no number."""
    return pid.isdigit() and not Path(f"/proc/{pid}").exists()


def sweep(folder: Path) -> None:
    """Remove half-written files of killed processes from `folder`; call it while this process holds the folder."""
    for file in folder.glob(".*.new"):
        if has_ended(file.name.split(".")[-2]):
            file.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync `folder`, so that the names in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
