"""Seconds until the command line answers: `spa-bench --help`, help of a command, a list, and an error.

`python benchmarks/startup.py [--times 9] [--json]`. Each command runs in a new process, several times; the median of CPU
seconds (user and system) counts, which other work on the machine moves least. The peer is a bare interpreter that imports
argparse and prints: what no command line of Python can undercut.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

COMMANDS = {
    "argparse alone": [sys.executable, "-c", "import argparse; argparse.ArgumentParser().print_help()"],
    "spa-bench --help": [sys.executable, "-m", "spa_bench", "--help"],
    "spa-bench run --help": [sys.executable, "-m", "spa_bench", "run", "--help"],
    "spa-bench list samplers": [sys.executable, "-m", "spa_bench", "list", "samplers"],
    "an unknown command": [sys.executable, "-m", "spa_bench", "frobnicate"],
}


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    medians = {
        name: round(statistics.median(cpu_seconds(command) for _ in range(arguments.times)), 3)
        for name, command in COMMANDS.items()
    }
    if arguments.json:
        print(json.dumps(medians, indent=1))
        return
    for name, seconds in medians.items():
        print(f"{name:24} {seconds:.3f} s")


if __name__ == "__main__":
    main()
