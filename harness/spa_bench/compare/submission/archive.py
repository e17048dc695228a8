"""The samples of a result file: an archive beside it with the logs of its runs, and nothing that only names a machine.

A run is the folder GROUP/SEED in it, GROUP being the group hash of the result: spec.json, the logs, and the JSON files that say
how the samples were made and judged. metrics.json is left out, because it is recomputed.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spa_bench.errors import StoreError, UsageError
from spa_bench.runs.embeddings import ABOUT, ARRAY
from spa_bench.runs.folder import JUDGE, LOGS, SANITISERS, RunFolder, group_hash
from spa_bench.support.files import replace_file

SUFFIX = ".samples.tar.gz"
KEPT = ("spec.json", *LOGS, "adapters.json", JUDGE, "judged.json", SANITISERS, ABOUT, ARRAY)
"""The files of a run that an archive has, as far as they are there."""
MOST_BYTES = 2 << 30
"""The most bytes that an archive may unpack to: a small file can unpack to what fills a disk."""
MOST_FILES = 10_000
_NAME = re.compile(r"([0-9a-f]{16})/(0|[1-9][0-9]{0,18})/([a-z_]+\.[a-z]+)", re.ASCII)
_CHUNK = 1 << 20


def archive_of(path: Path) -> Path:
    """The place of the samples of the result file at `path`."""
    return path.with_name(path.name.removesuffix(".json") + SUFFIX)


def check_runs(results: Sequence[Mapping[str, Any]], runs: Sequence[RunFolder]) -> None:
    """Raises UsageError where a result has no run folders among `runs`."""
    there = {group_hash(run.spec) for run in runs}
    for result in results:
        if result["group_hash"] not in there:
            raise UsageError(
                f"--samples: there is no run folder of {result['sampler']} on {result['task']}; samples are in run folders, "
                "not in result files: give those"
            )


def save_samples(file: Path, results: Sequence[Mapping[str, Any]], runs: Sequence[RunFolder]) -> Path:
    """Write the archive beside the result `file` of `results`, from their run folders among `runs`; its place.

    Raises UsageError as check_runs, and StoreError when writing fails.
    """
    check_runs(results, runs)
    groups = {result["group_hash"] for result in results}
    replace_file(place := archive_of(file), _packed([run for run in runs if group_hash(run.spec) in groups]))
    return place


def _packed(runs: Sequence[RunFolder]) -> bytes:
    stream = io.BytesIO()
    # no time and no name in the frame, so that the same runs give the same bytes
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for run in sorted(runs, key=lambda r: (group_hash(r.spec), int(r.spec["seed"]))):
            for path in (run.path / name for name in KEPT):
                if path.is_file():
                    data = path.read_bytes()
                    entry = tarfile.TarInfo(f"{group_hash(run.spec)}/{run.spec['seed']}/{path.name}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a stranger's `archive` into `folder`: only files with the names of ours, each once, of a limited size.

    Raises StoreError for anything else in it, or where it is none or is damaged.
    """
    seen: set[str] = set()
    left = MOST_BYTES
    try:
        with tarfile.open(archive, mode="r|gz") as tar:
            for entry in tar:
                found = _NAME.fullmatch(entry.name)
                if not entry.isreg() or found is None or found[3] not in KEPT:
                    raise StoreError(f"{archive} holds {entry.name[:80]!r}, which is no file of a run's samples")
                if entry.name in seen or len(seen) >= MOST_FILES:
                    raise StoreError(f"{archive} holds {entry.name!r} twice, or more than {MOST_FILES} files")
                if entry.size > left:
                    raise StoreError(f"{archive} unpacks to more than {MOST_BYTES >> 20} MiB, the most that is read")
                left -= entry.size
                seen.add(entry.name)
                target = folder / found[1] / found[2] / found[3]
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    file.writelines(_content(tar, entry))
    except (OSError, tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise StoreError(f"cannot read the samples {archive}: {error}") from error


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[bytes]:
    stream = tar.extractfile(entry)
    assert stream is not None, "a regular file has content"
    while data := stream.read(_CHUNK):
        yield data
