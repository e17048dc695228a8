"""Seconds and peak memory of `spa-bench run` on mini-code, each in a new process, from an empty stage cache.

`python benchmarks/main_job.py [--samplers spa-influence,...] [--threads T] [--json]`. With one thread the CPU seconds say more
than the seconds where other work shares the machine. Samplers run in the given order and share the
cache, as in `make demo`: the first has it empty. Needs no peer: docs/reference/benchmarks.md promises 60 s and 2 GB for
spa-influence on two cores, and says where that holds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEMO = "spa-influence,spa-lexical,spa-random,single,temperature,nucleus"


def measure(sampler: str, folder: Path, threads: int | None) -> dict[str, object]:
    """Wall and CPU seconds, peak resident MB of the process or its largest child, and seconds a stage."""
    command = [
        sys.executable,
        "-m",
        "spa_bench.cli.main",
        "run",
        "--sampler",
        sampler,
        "--task",
        "mini-code",
        "--out",
        str(folder),
        *(["--threads", str(threads)] if threads else []),
    ]
    environment = {**os.environ, "SPA_BENCH_CACHE": str(folder / ".cache")}
    began = time.monotonic()
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - began
        if status:
            said.seek(0)
            last = said.read().strip().rpartition("\n")[2]
            raise SystemExit(f"spa-bench run --sampler {sampler} failed with code {os.waitstatus_to_exitcode(status)}: {last}")
    run = next(folder.glob(f"mini-code-{sampler}-s0-*"))
    stages = json.loads((run / "timings.json").read_text())["stages"]
    cpu = round(usage.ru_utime + usage.ru_stime, 1)
    return {
        "sampler": sampler,
        "seconds": round(took, 1),
        "cpu_seconds": cpu,
        "peak_mb": usage.ru_maxrss // 1024,
        "stages": stages,
    }


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samplers", default=DEMO, help="names with commas")
    parser.add_argument("--threads", type=int, help="CPU threads of each run (default: all cores)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, Path(folder), arguments.threads) for name in arguments.samplers.split(",")]
    if arguments.json:
        print(json.dumps({"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0], "runs": rows}, indent=1))
        return
    for row in rows:
        stages = ", ".join(f"{k} {v:.1f}" for k, v in row["stages"].items())  # type: ignore[attr-defined]
        print(f"{row['sampler']:14} {row['seconds']:6} s  {row['cpu_seconds']:6} CPU s  {row['peak_mb']:5} MB  ({stages})")
    total = sum(float(str(r["seconds"])) for r in rows)
    print(f"all: {total:.0f} s on {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
