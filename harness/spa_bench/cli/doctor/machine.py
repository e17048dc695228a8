"""Checks of Python, packages and devices.

Facts about a GPU come from nvidia-smi and from the installed torch's version file, because importing torch takes longer
than all other checks together. So a driver that is too old for this torch is not detected.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from spa_bench.cli.doctor.finding import PIP, Finding, Unanswered, ask
from spa_bench.support.version import __version__

_HOME = Path(__file__).resolve().parents[2]  # of the package
_OPTIONAL = {  # package -> its purpose
    "sentence-transformers": "for its encoders, in attribution and partition",
    "evalplus": "to download HumanEval+ and MBPP+",
    "lm-eval": "for its tasks",
    "datasets": "for tasks of lm-eval",
    "altair": "for the charts of reports",
    "vl-convert-python": "for the charts of reports",
    "vendi-score": "for tests that compare with it",
}


def python() -> Iterator[Finding]:
    """The interpreter, the system and spa-bench itself."""
    details = f"{platform.python_version()} at {sys.executable}; {platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("python", "ok", details)  # the package neither installs nor starts with a Python that is too old
    yield Finding("spa-bench", "ok", f"{__version__} at {_HOME}")


def packages() -> Iterator[Finding]:
    """Packages that spa-bench requires, then packages for single features, compared with the bounds of its metadata."""
    try:
        lines = metadata.requires("spa-bench") or []
    except metadata.PackageNotFoundError:  # spa-bench runs from a checkout that is not installed
        lines = _of_checkout()
    bounds: dict[str, str] = {}
    required = []
    for line in lines:
        if parts := re.match(r"([\w.-]+)(?:\[.*?\])?(?:>=([\w.]+))?", line):
            bounds[parts[1]] = parts[2] or ""
            if "extra ==" not in line:
                required.append(parts[1])
    tested = _tested()
    for name in [*required, *(n for n in _OPTIONAL if n not in required)]:
        yield _package(name, bounds.get(name, ""), tested.get(name), required=name in required)


def _package(name: str, least: str, tested: str | None, *, required: bool) -> Finding:
    purpose = "" if required else f" ({_OPTIONAL[name]})"
    mend = f"{PIP} {shlex.quote(f'{name}>={least}' if least else name)}"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(f"package {name}", "missing" if required else "not needed", f"not installed{purpose}", mend)
    if _numbers(version) < _numbers(least):
        reason = f"{version}, but {least} is needed{purpose}"
        return Finding(f"package {name}", "missing" if required else "not needed", reason, mend)
    other = tested not in (None, version.split("+")[0])
    return Finding(f"package {name}", "ok", f"{version} (tested with {tested})" if other else version)


def _of_checkout() -> list[str]:
    """What the project of this checkout requires, by its pyproject.toml; nothing where the package lies elsewhere."""
    file = _HOME.parents[1] / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.is_file() else {}
    return list(project["dependencies"]) if project.get("name") == "spa-bench" else []


def _tested() -> Mapping[str, str]:
    """Versions of the tested packages, known where spa-bench runs from its checkout."""
    file = _HOME.parents[1] / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {n.lower().replace("_", "-"): version for n, equal, version in (line.partition("==") for line in lines) if equal}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0]))


def cuda() -> Iterator[Finding]:
    """GPUs by name and memory, and whether the installed torch can use them."""
    if shutil.which("nvidia-smi") is None:
        yield Finding("cuda", "not needed", "no GPU: nvidia-smi is not installed")
        return
    try:
        said = ask("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    except Unanswered as error:
        yield Finding("cuda", "not needed", f"no GPU answers ({error})")
        return
    gpus = "; ".join(line.strip() for line in said.splitlines() if line.strip())
    visible, build = os.environ.get("CUDA_VISIBLE_DEVICES"), _torch_cuda()
    if not gpus:
        yield Finding("cuda", "not needed", "no GPU: nvidia-smi lists none")
    elif visible is not None and visible.strip() in ("", "-1"):
        yield Finding("cuda", "not needed", f"{gpus}; hidden by CUDA_VISIBLE_DEVICES={visible}", "unset CUDA_VISIBLE_DEVICES")
    elif not build:
        yield Finding("cuda", "missing", f"{gpus}; but this torch is built without CUDA", f"{PIP} --force-reinstall torch")
    else:
        yield Finding("cuda", "ok", f"{gpus}; torch is built for CUDA {build}")


def _torch_cuda() -> str:
    """The CUDA version that the installed torch is built for; "" where there is none."""
    try:
        text = Path(str(metadata.distribution("torch").locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except (OSError, metadata.PackageNotFoundError):
        return ""
    match = re.search(r"^cuda\b.*=\s*['\"]([\d.]+)", text, re.MULTILINE)
    return match[1] if match else ""


def cpu() -> Iterator[Finding]:
    """Cores, threads and memory."""
    cores, threads = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    limited = f", OMP_NUM_THREADS={threads}" if threads else ""
    details = f"{cores} of {os.cpu_count()} cores for this process{limited}, {memory:.1f} GiB of memory"
    yield Finding("cpu", "ok", f"{details}; --threads and --workers default to {cores}")
