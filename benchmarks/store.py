"""What a run costs a record, from ten thousand to a million records: seconds of processor time, by the clock, and memory.

    python benchmarks/store.py [--records 10000,100000,1000000] [--draws D] [--stages NAMES] [--keep DIR] [--json]

The model is the mock engine and the task one of texts with D answers a problem, both seeded, so that nothing but this harness
takes time. Stages, each a process of its own, so that its memory is its own: `write` draws all records; `resume` draws the last
half again, after a torn line; `grade` gives verdicts, behaviours and metrics; `summary` prints the table that every command
ends with; `compare` makes a leaderboard beside a run of other draws; `verify` reads and computes everything again; `report`
writes the page. CPU seconds are those of the process and of the workers it waited for; the peak is that of the process and all
of its workers together, looked at four times a second.
Targets: a record costs the same at every size (at most 1.5 times the least of the sizes); the largest size takes at most ten
minutes in all stages but `grade` and `verify`, whose seconds are printed beside it, and 2 GB in each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SIZES = (10_000, 100_000, 1_000_000)
DRAWS = 20
FLAT, SECONDS, MEGABYTES = 1.5, 600.0, 2048.0
ASIDE = ("grade", "verify")  # not among the stages that have to be done in SECONDS
WORDS = [
    "the",
    "a",
    "one",
    "some",
    "river",
    "stone",
    "letter",
    "winter",
    "garden",
    "number",
    "answer",
    "light",
    "seven",
    "under",
    "over",
    "after",
    "and",
    "or",
    "not",
    "with",
]
TASK = """name = "many-texts"
description = "sums, with a sentence about them"
kind = "store:build"
version = "1"
max_new_tokens = 64
stop = ["\\n\\n"]
"""
SAMPLER = """name = "{name}"
description = "the mock engine"
kind = "mixture"
members = 1

[decoding]
temperature = {temperature}
"""


def build(card: object) -> object:
    """The task: as many sums as the environment says. See docs/how-to/add-a-task.md."""
    from spa_bench.tasks.text import TextTask
    from spa_bench.types import Problem

    class Sums(TextTask):
        """The answer is the last word."""

        def answer(self, problem: Problem, text: str) -> str:
            return (text.split() or [""])[-1]

        def is_right(self, problem: Problem, answer: str) -> bool:
            return answer == problem.reference

    count = int(os.environ["STORE_PROBLEMS"])
    problems = [Problem(id=f"sums/{i}", prompt=f"{i} + {i % 7} = ", reference=str(i % 10)) for i in range(count)]
    return Sums(card, problems, found="made up by benchmarks/store.py")  # type: ignore[arg-type]


def replies(file: Path) -> None:
    """40 sentences that end in a digit, for the mock engine, which compares each request with each reply."""
    rng = random.Random(18)
    lines = (f"{' '.join(rng.choices(WORDS, k=rng.randint(4, 30)))} {rng.randint(0, 9)}" for _ in range(40))
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in lines))


def run_folder(place: Path, name: str) -> Path:
    """The run of the sampler `name`."""
    [found] = (place / name).iterdir()
    return found


def draw(place: Path, name: str, draws: int) -> None:
    """Draw what is missing."""
    from spa_bench.runs.options import RunOptions
    from spa_bench.runs.perform import run

    options = RunOptions(
        model="mock", engine="mock", n=draws, until="generate", noise_floor=False, out=place / name,
        settings=(f"engine.replies={place / 'replies.jsonl'}",),
    )  # fmt: skip
    run(str(place / f"{name}.toml"), str(place / "task.toml"), options)


def judge(place: Path, name: str) -> None:
    """Verdicts, behaviours and metrics."""
    from spa_bench.runs.options import GradeOptions
    from spa_bench.runs.perform import grade_runs

    grade_runs([run_folder(place, name)], GradeOptions())


def cut(place: Path) -> None:
    """Take the last half of the records away, and tear the last line that stays."""
    file = run_folder(place, "main") / "records.jsonl"
    with file.open("rb+") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.readline()
        stream.truncate(stream.tell() - 20)


def summary(place: Path) -> None:
    from spa_bench.cli.summary import print_summary
    from spa_bench.runs.folder import open_run

    with contextlib.redirect_stdout(io.StringIO()):
        print_summary([open_run(run_folder(place, "main"))], as_json=False)


def compare(place: Path) -> None:
    from spa_bench.compare import leaderboard as board

    results = board.find_results([run_folder(place, "main"), run_folder(place, "other")])
    board.markdown(board.build_rows(results), reference="main", command="")
    board.save_all(results, place / "results")


def verify(place: Path) -> None:
    from spa_bench.runs.folder import open_run
    from spa_bench.runs.reopen import task_of
    from spa_bench.runs.verify import verify as faults

    folder = open_run(run_folder(place, "main"))
    if found := list(faults(folder, task_of(folder))):
        raise SystemExit(found[0])


def report(place: Path) -> None:
    from spa_bench.publish.report.write import ReportOptions, write_report

    write_report([run_folder(place, "main")], ReportOptions(out=place / "report"), note=lambda line: None)


STAGES: dict[str, Callable[[Path, int], None]] = {
    "write": lambda place, draws: draw(place, "main", draws),
    "resume": lambda place, draws: draw(place, "main", draws),
    "grade": lambda place, draws: judge(place, "main"),
    "summary": lambda place, draws: summary(place),
    "compare": lambda place, draws: compare(place),
    "verify": lambda place, draws: verify(place),
    "report": lambda place, draws: report(place),
}
OTHER: dict[str, Callable[[Path, int], None]] = {  # the run to compare with: two answers a problem
    "other": lambda place, draws: draw(place, "other", 2),
    "other graded": lambda place, draws: judge(place, "other"),
}


def child(place: Path, stage: str, draws: int) -> None:
    """Do one stage in this process and print what it took."""
    began, seen, done = time.monotonic(), [0.0], threading.Event()
    watch = threading.Thread(target=watch_memory, args=(seen, done), daemon=True)
    watch.start()
    (STAGES | OTHER)[stage](place, draws)
    took = time.monotonic() - began
    done.set()
    watch.join()
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime
    print(json.dumps({"cpu": cpu, "wall": took, "peak_mb": max(*seen, own.ru_maxrss / 1024)}))


def watch_memory(seen: list[float], done: threading.Event) -> None:
    """Keep in `seen` the most megabytes that this process and the processes below it had in memory at one moment.

    The peaks that the kernel keeps of workers begin with that of the process that started them.
    """
    while not done.wait(0.25):
        seen[0] = max(seen[0], sum(map(resident, below(os.getpid()))))


def below(pid: int) -> Iterator[int]:
    """The process and all processes below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            for child_ in task.read_text().split():
                yield from below(int(child_))


def resident(pid: int) -> float:
    """Megabytes of a process that are in memory, those that it shares with others included; 0 where it has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    return 0.0


def measured(place: Path, records: int, draws: int, stages: list[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """(stage, what it took), one after the other."""
    place.mkdir(parents=True)
    replies(place / "replies.jsonl")
    (place / "task.toml").write_text(TASK)
    for name, temperature in (("main", 0.8), ("other", 0.2)):
        (place / f"{name}.toml").write_text(SAMPLER.format(name=name, temperature=temperature))
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ, "STORE_PROBLEMS": str(records // draws), "PYTHONPATH": path, "SPA_BENCH_CACHE": str(place / "cache"),
    }  # fmt: skip
    for stage in stages:
        if stage == "resume":
            cut(place)
        for one in (*(OTHER if stage == "compare" else ()), stage):
            command = [sys.executable, __file__, "--child", str(place), one, str(draws)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{one} failed: {done.stderr[-2000:]}")
            if one == stage:
                yield stage, json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default=",".join(map(str, SIZES)))
    parser.add_argument("--draws", type=int, default=DRAWS, help="answers a problem")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--keep", type=Path, help="folder in which the runs stay")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        child(Path(a.child[0]), a.child[1], int(a.child[2]))
        return 0
    found: dict[int, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="store-benchmark-") as temporary:
        for records in map(int, a.records.split(",")):
            found[records] = {}
            for stage, took in measured((a.keep or Path(temporary)) / str(records), records, a.draws, a.stages.split(",")):
                found[records][stage] = took
                if not a.json:
                    print(
                        f"{records:>9,} {stage:8} {took['cpu'] / records * 1e6:8.1f} us a record, {took['cpu']:7.1f} s CPU, "
                        f"{took['wall']:7.1f} s, {took['peak_mb']:6.0f} MB",
                        flush=True,
                    )
    if a.json:
        print(json.dumps(found))
        return 0
    return said(found)


def said(found: dict[int, dict[str, dict[str, float]]]) -> int:
    """Print how the targets are met; the exit status."""
    largest = found[max(found)]
    wall = sum(took["wall"] for stage, took in largest.items() if stage not in ASIDE)
    others = "".join(f", {stage} {largest[stage]['wall']:.0f} s" for stage in ASIDE if stage in largest)
    peak = max(took["peak_mb"] for took in largest.values())
    targets = f"targets {SECONDS:.0f} s and {MEGABYTES:.0f} MB"
    print(f"{max(found):,} records: {wall:.0f} s, peak {peak:.0f} MB ({targets}){others}")
    steepest = 0.0
    for stage in largest:
        each = [found[records][stage]["cpu"] / records for records in sorted(found)]
        steepest = max(steepest, each[-1] / min(each))
        print(f"{stage:8} a record at the largest size costs {each[-1] / min(each):.2f} times the least (target {FLAT})")
    return 0 if wall <= SECONDS and peak <= MEGABYTES and steepest <= FLAT else 1


if __name__ == "__main__":
    sys.exit(main())
