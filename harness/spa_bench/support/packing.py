"""Compressed bytes (gzip, xz, bzip2, Zstandard) and the encodings of texts, told by their first bytes."""

from __future__ import annotations

import bz2
import codecs
import io
import lzma
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import GzipFile
from typing import Any, BinaryIO, cast

Open = Callable[[BinaryIO], BinaryIO]
"""From a packed stream to what is in it."""


def gunzip(stream: BinaryIO) -> BinaryIO:
    """What is in a stream of gzip."""
    return cast(BinaryIO, GzipFile(fileobj=stream))


def _xz(stream: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, lzma.LZMAFile(stream))


def _bzip2(stream: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, bz2.BZ2File(stream))


def _zstandard(stream: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, _zstd().ZstdFile(stream))


def _zstd() -> Any:
    """The module that reads Zstandard. Raises OSError where this Python has none."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        try:
            from backports import zstd
        except ImportError as error:
            raise OSError(
                "it is compressed by Zstandard, which Python reads from 3.14 on: pip install 'spa-bench[inspect]', or unpack it"
            ) from error
    return zstd


_KINDS: dict[bytes, Open] = {b"\x1f\x8b": gunzip, b"\xfd7zXZ\x00": _xz, b"BZh": _bzip2, b"\x28\xb5\x2f\xfd": _zstandard}
ENDINGS = (".gz", ".xz", ".bz2", ".zst")
MOST_MAGIC = max(map(len, _KINDS))  # bytes that tell one from the others


def packing_of(begin: bytes) -> Open | None:
    """What unpacks a stream that begins so; None for one that is not packed."""
    return next((kind for magic, kind in _KINDS.items() if begin.startswith(magic)), None)


@contextmanager
def readable() -> Iterator[None]:
    """Faults in packed bytes are raised as OSError, EOFError or zlib.error."""
    try:
        yield
    except lzma.LZMAError as error:
        raise OSError(str(error)) from error
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # of a module that may be missing
            raise OSError(str(error)) from error
        raise


def decompressed(data: bytes, *, gzip: bool = False) -> bytes:
    """`data`, unpacked where it begins as packed data do, or is known to be of gzip. Raises as `readable`."""
    kind = gunzip if gzip else packing_of(data)
    if kind is None:
        return data
    with readable(), kind(io.BytesIO(data)) as inside:
        return inside.read()


def encoding_of(begin: bytes) -> str:
    """The encoding of a text that begins so: UTF-16 by its mark, else UTF-8, with a mark or without."""
    return "utf-16" if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def decoded(data: bytes) -> str:
    """The text of `data`, by `encoding_of`. Raises UnicodeDecodeError."""
    return data.decode(encoding_of(data[:2]))
