"""Files of samples as a user gives them: paths, quoted globs and standard input, unpacked and parsed."""

from __future__ import annotations

import glob
import io
import json
import platform
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spa_bench.errors import DataError, UsageError
from spa_bench.support import provenance
from spa_bench.support.packing import decoded, decompressed, readable
from spa_bench.support.user_json import read_json, read_values

STDIN = "-"
_ZIP = b"PK\x03\x04"
_ZSTANDARD = 93  # how a member of a zip archive is compressed; Python reads it from 3.14 on
_MAGIC = "*?["


@dataclass(frozen=True)
class SampleFile:
    """One file of samples, as bytes."""

    name: str  # how messages call it
    data: bytes


@dataclass(frozen=True)
class Content:
    """The JSON values of a file, each with its place."""

    name: str
    form: Literal["lines", "array", "object", "archive"]  # an object is one row too
    rows: list[tuple[str, object]]  # (place for messages, value)


def find_files(given: Sequence[Path | SampleFile]) -> list[SampleFile]:
    """The files that `given` names, in its order; those of a glob by name, and "-" is standard input.

    A file whose bytes are given stays as it is.
    Raises UsageError for a folder, a glob without a match and equal files, and DataError for a file that cannot be read.
    """
    files = [file for name in given for file in ([name] if isinstance(name, SampleFile) else _read(name))]
    seen: dict[str, str] = {}
    for file in files:
        if first := seen.get(digest := provenance.hash_bytes(file.data)):
            raise UsageError(f"{first} and {file.name} hold the same bytes: every sample would count twice; give one of them")
        seen[digest] = file.name
    return files


def samples_hash(files: Sequence[SampleFile]) -> str:
    """The hash of one file's bytes, or over the hashes of several in order."""
    hashes = [provenance.hash_bytes(file.data) for file in files]
    return hashes[0] if len(hashes) == 1 else provenance.hash_bytes("\n".join(hashes).encode())


def parse(file: SampleFile) -> Content:
    """The values of `file`: JSON lines, one array, one object, or a zip archive of JSON; gzip is recognised by content.

    Raises DataError that names the file, or the line.
    """
    try:
        raw = decompressed(file.data, gzip=file.name.endswith(".gz"))
        if raw.startswith(_ZIP):
            with readable():
                return _archive(file.name, raw)
        text = decoded(raw)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"cannot read the samples in {file.name}: {error}") from error
    text = text.strip()
    found = _whole(text)
    if isinstance(found, list):
        return Content(file.name, "array", [(f"{file.name}, entry {i}", value) for i, value in enumerate(found, 1)])
    if isinstance(found, dict):
        return Content(file.name, "object", [(f"{file.name}, line 1", found)])
    return Content(file.name, "lines", list(read_values(text, file.name)))


def _read(name: Path) -> list[SampleFile]:
    return [SampleFile(str(path), _bytes(path)) for path in _matches(name)]


def _matches(path: Path) -> list[Path]:
    if path.is_dir() and not _programs(path):
        kinds = sorted({f.suffix for f in path.iterdir() if f.suffix in {".jsonl", ".json", ".eval", ".gz"}})
        example = f"'{path}/*{kinds[0] if kinds else '.jsonl'}'"
        raise UsageError(f"--samples is {path}, a folder; give its files of samples, by name or as a glob such as {example}")
    if str(path) == STDIN or path.exists() or not any(c in str(path) for c in _MAGIC):
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    if not (files := [one for one in found if one.is_file()]):
        raise UsageError(f"--samples {path}: no file matches")
    return files


def _programs(folder: Path) -> list[Path]:
    """The programs in a folder as evalplus writes it: N.py in a folder for each problem, in the order of N."""
    found = [one for one in folder.glob("*/*.py") if one.stem.isdecimal()]
    return sorted(found, key=lambda one: (one.parent.name, int(one.stem)))


def _bytes(path: Path) -> bytes:
    if str(path) == STDIN:
        return sys.stdin.buffer.read()
    try:
        if path.is_dir():  # "_" stands for "/", as in evalplus
            texts = [(one.parent.name.replace("_", "/"), decoded(one.read_bytes())) for one in _programs(path)]
            return "".join(json.dumps({"task_id": name, "solution": text}) + "\n" for name, text in texts).encode()
        return path.read_bytes()
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read the samples in {path}: a program is no UTF-8 ({error})") from error
    except OSError as error:
        raise DataError(f"cannot read the samples in {path}: {error.strerror}") from error


def _whole(text: str) -> object:
    """The one value that the whole text is; None where it is none, and lines are to be read."""
    if not text.startswith(("[", "{")):
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if end == len(text) else None


def _archive(name: str, raw: bytes) -> Content:
    with zipfile.ZipFile(io.BytesIO(raw)) as packed:
        wanted = [m for m in packed.infolist() if m.filename.startswith("samples/") and m.filename.endswith(".json")]
        if any(m.compress_type == _ZSTANDARD for m in wanted):
            texts = _zstandard(name, raw, [m.filename for m in wanted])
        else:
            texts = [packed.read(m) for m in wanted]
    placed = [(f"{name}, {m.filename}", text) for m, text in zip(wanted, texts, strict=True)]
    return Content(name, "archive", [(place, read_json(text.decode(), place)) for place, text in placed])


def _zstandard(name: str, raw: bytes, members: Sequence[str]) -> list[bytes]:
    """The content of `members` of an archive that Zstandard compressed. Raises DataError where this Python cannot."""
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdError

        reader = zipfile
    else:
        try:
            from backports.zstd import ZstdError
            from backports.zstd import zipfile as reader
        except ImportError as error:
            raise DataError(
                f"{name} is compressed by Zstandard, which Python reads from 3.14 on, and this is "
                f"{platform.python_version()}: pip install 'spa-bench[inspect]', or write it as JSON: inspect log convert "
                "--to json"
            ) from error
    try:
        with reader.ZipFile(io.BytesIO(raw)) as packed:
            return [packed.read(member) for member in members]
    except (ZstdError, reader.BadZipFile) as error:
        raise DataError(f"cannot read the samples in {name}: {error}") from error
