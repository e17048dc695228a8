"""Runs, kills, resumes, grading and viewing for a long time: what must not grow, and files that must not change.

    MINUTES=60 make soak

A cycle runs a sampler on the embedded model in a process that is killed at a random moment, once or twice; resumes it in
this process, grades, verifies, reports; asks a `view` server for its pages; and removes the run. After each cycle it reads the
memory, the open descriptors and the processes of this process and of the server, and the temporary files. The files of a run
must be the same bytes in every cycle, whenever it was killed.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from processes import descendants
from spa_bench.cli import main as cli

RUN = ["run", "--sampler", "spa-lexical", "--task", "mini-code", "--limit", "2", "--n", "4", "--threads", "1", "--workers", "2"]
RUN += ["--set", "lora.steps=2", "--set", "data.share=0.05"]
CHANGING = {"timings.json", ".lock", "overlap.json"}  # files of a run that hold times, or paths
WARM_UP = 3  # cycles in which libraries and caches still fill
MEMORY = 0.05, 16.0  # by which the memory may grow: a share, and MB


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a cycle left."""

    memory: float  # MB of this process
    descriptors: int
    processes: int  # below this one, the server not counted
    server_memory: float
    server_descriptors: int
    temporary: int  # files and folders


def cycle(folder: Path, chance: random.Random, url: str) -> dict[str, str]:
    """One cycle in `folder`; the hash of each file of the run."""
    out = folder / "runs"
    for _ in range(chance.choice((1, 2))):
        with subprocess.Popen(
            [sys.executable, "-m", "spa_bench", *RUN, "--out", str(out)], stderr=subprocess.DEVNULL
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(1.0, 12.0))
            process.kill()
    said(*RUN, "--out", str(out))
    [run] = out.iterdir()
    for command in (["grade", str(run)], ["verify", str(run)], ["show", str(run)], ["leaderboard", str(out)]):
        said(*command)
    said("report", str(out), "--out", str(folder / "report"))
    for page in ("", f"run/{run.name}"):
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url + page, timeout=60) as reply:
            reply.read()
    found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(run.iterdir()) if f.name not in CHANGING}
    shutil.rmtree(out)
    shutil.rmtree(folder / "report")
    shutil.rmtree(folder / "cache")
    return found


def said(*arguments: str) -> None:
    """Run a command in this process. Raises AssertionError, with what it said, where it does not end with 0."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = cli.main(arguments)
    assert code == 0, f"{' '.join(arguments)} ended with {code}: {text.getvalue()[-500:]}"


def reading(server: int, temporary: Path) -> Reading:
    gc.collect()
    ours = [pid for pid in descendants() if pid != server and pid not in descendants(server)]
    return Reading(
        memory=_memory("self"),
        descriptors=len(os.listdir("/proc/self/fd")),
        processes=len(ours),
        server_memory=_memory(server),
        server_descriptors=len(os.listdir(f"/proc/{server}/fd")),
        temporary=sum(1 for _ in temporary.rglob("*")),
    )


def grown(readings: Sequence[Reading]) -> list[str]:
    """What grew from the first cycles after the warm-up to the last ones, a line each; all is flat where it is empty."""
    after = readings[WARM_UP:]
    size = max(1, len(after) // 4)
    first, last = _middle(after[:size]), _middle(after[-size:])
    share, more = MEMORY
    limits = {name: value * (1 + share) + more if "memory" in name else value for name, value in first.items()}
    return [f"{name}: {first[name]:g} at first, {last[name]:g} at last" for name in first if last[name] > limits[name]]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[int, str]]:
    """(process number, address) of a `view` server on a folder."""
    command = [sys.executable, "-u", "-m", "spa_bench", "view", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            address = None
            while address is None:
                line = process.stdout.readline()
                assert line, "the server ended"
                address = re.search(r"http://\S+", line)
            yield process.pid, address.group().rstrip("/.,") + "/"
        finally:
            process.kill()


def soak(folder: Path, *, minutes: float, least: int, tell: bool = True) -> list[str]:
    """Cycles for so long, `least` at the least; what grew or changed, a line each."""
    temporary = folder / "temporary"
    temporary.mkdir()
    os.environ |= {"TMPDIR": str(temporary), "SPA_BENCH_CACHE": str(folder / "cache")}
    tempfile.tempdir = str(temporary)
    chance, readings, first = random.Random(0), list[Reading](), dict[str, str]()
    end = time.monotonic() + 60 * minutes
    (folder / "runs").mkdir()
    with serving(folder) as (server, url):
        while len(readings) < least or time.monotonic() < end:
            found = cycle(folder, chance, url)
            first = first or found
            if changed := sorted(name for name in first.keys() | found.keys() if first.get(name) != found.get(name)):
                return [f"cycle {len(readings)}: other bytes than in the first one in {', '.join(changed)}"]
            readings.append(reading(server, temporary))
            if tell:
                print(f"cycle {len(readings)}:", *(f"{k} {v:g}" for k, v in asdict(readings[-1]).items()), sep="  ", flush=True)
    return grown(readings)


def _memory(pid: int | str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _middle(readings: Sequence[Reading]) -> Mapping[str, float]:
    return {name: median(vars(one)[name] for one in readings) for name in vars(readings[0])}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="spa-bench-soak-") as place:
        faults = soak(Path(place), minutes=float(os.environ.get("MINUTES", "60")), least=WARM_UP + 4)
        print(*(faults or ["flat"]), sep="\n")
        sys.exit(1 if faults else 0)
