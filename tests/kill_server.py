"""Runs one small job that is killed at many points, and resumes after each.

`python kill_server.py CONFIG.json` prints one JSON object a line: a point and what came of it. Points are calls of the
functions through which anything becomes lasting (fsync, rename, replace, truncate), counted over a whole run; there the
job is killed before the call, after it, or after the end of the file in hand was torn off, as a power cut would.

What comes before a point is computed once for all of them: at each point the job forks, the child is killed there, and what
it left on the disk is copied for another process to resume. The job itself then continues to the next point.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import stat
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from doubles import InProcessJudge, Lines
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.runs import grade as grading
from spa_bench.runs import log as logs
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.spa import adapt
from spa_bench.spa.attribution import gradients
from spa_bench.types import Completion, Member, Request

FREE = {"timings.json", ".lock"}
MODES = ("before", "after", "torn")
WORKERS = 3  # a job waits for the disk as long as it computes


class Death(NamedTuple):
    """The `number`-th kill: at the lasting call `point`, in which of MODES, and the status with which the process ended."""

    number: int
    point: int
    mode: str
    status: int


class Watched(HFModel):
    """The model, which notes every answer it gives before it gives it."""

    work: Path

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        for completion in super().generate(requests, members):
            note(self.work, f"{len(members)} members: {'/'.join(map(str, completion.key))}")
            yield completion


def note(path: Path, line: str) -> None:
    with path.open("a") as stream:
        stream.write(line + "\n")


def job(config: dict[str, Any], model: Watched, folder: Path) -> None:
    model.work = folder / "work.txt"
    task_card = load_task_card(config["task"])
    settings: dict[str, object] = {
        "members": 2, "lora.steps": 5, "lora.batch": 2, "lora.rank": 2, "data.examples": config["data"],
        "data.queries": "sample:4", "decoding.temperature": 0.7,
    }  # fmt: skip
    card = load_sampler_card("spa-influence", settings)
    task = load_task(task_card)
    todo = Job(sampler=card, task=task_card, n=4, seed=0, limit=None, sandbox="bwrap", grading="default", noise_floor=True)
    made = generate(todo, task, model, out=folder / "runs", cache=folder / "cache", console=Lines())  # type: ignore[arg-type]
    grade(made, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]


def warm(config: dict[str, Any], model: Watched, folder: Path) -> None:
    """Do the job once in this process, that not every child imports what it needs."""
    folder.mkdir(parents=True)
    job(config, model, folder)
    shutil.rmtree(folder)


def armed(deaths: Mapping[int, str], die: Callable[[int, str, int], None], counted: Path) -> None:
    """From now on count lasting calls; at those of `deaths`, call `die` with point, mode and descriptor."""
    seen = 0

    def watched(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            note(counted, name)
            point, mode = seen, deaths.get(seen, "")
            descriptor = arguments[0] if name == "fsync" and stat.S_ISREG(os.fstat(arguments[0]).st_mode) else -1
            if mode in ("before", "torn"):
                die(point, mode, descriptor)
            result = real(*arguments, **named)
            if mode == "after":
                die(point, mode, descriptor)
            return result

        return call

    for name in ("fsync", "rename", "replace", "ftruncate"):
        setattr(os, name, watched(getattr(os, name), name))
    Path.replace = watched(Path.replace, "replace")  # type: ignore[method-assign]


def die(point: int, mode: str, descriptor: int) -> None:
    """Kill this process, which writes to the file of `descriptor` (-1: to none)."""
    if mode == "torn" and descriptor >= 0:
        os.truncate(f"/proc/self/fd/{descriptor}", os.fstat(descriptor).st_size - len(torn_off(point, descriptor)))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def torn_off(point: int, descriptor: int) -> bytes:
    """The bytes that a power cut at `point` takes from the end of the file of `descriptor`."""
    return Path(f"/proc/self/fd/{descriptor}").read_bytes()[-random.Random(point).randint(1, 150) :]


def attempt(config: dict[str, Any], model: Watched, folder: Path, deaths: Mapping[int, str]) -> int:
    """The status of a child that does the job, and dies at the first of `deaths` that it comes to."""

    def act() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        armed(deaths, die, folder / "calls.txt")
        job(config, model, folder)

    return status_of(forked(act))


def leavings(config: dict[str, Any], model: Watched, folder: Path, deaths: Mapping[int, str]) -> dict[int, int]:
    """The statuses of copies of one job, each killed at another of `deaths`; `killed-POINT` has what each left on the disk.

    The job itself comes to its end, with nothing of what the copies did in its files.
    """
    statuses = folder / "statuses.txt"

    def copied(point: int, mode: str, descriptor: int) -> None:
        torn = torn_off(point, descriptor) if mode == "torn" and descriptor >= 0 else b""
        status = status_of(forked(lambda: die(point, mode, descriptor)))
        shutil.copytree(folder, folder.parent / f"killed-{point}")
        if torn:
            with open(f"/proc/self/fd/{descriptor}", "ab") as stream:
                stream.write(torn)
        note(statuses, f"{point} {status}")

    def act() -> None:
        folder.mkdir(parents=True)
        armed(deaths, copied, folder / "calls.txt")
        job(config, model, folder)

    assert status_of(forked(act)) == 0
    lines = [line.split() for line in statuses.read_text().splitlines()]
    return {int(point): int(status) for point, status in lines}


def forked(act: Callable[[], None]) -> int:
    """The process number of a child that does `act`, and ends with 0 unless that fails."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def status_of(child: int) -> int:
    """The exit status of a child, once it has ended; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, str]:
    """A hash of every lasting file, but for times and locks."""
    found = {}
    for file in sorted(p for part in ("runs", "cache") for p in (folder / part).rglob("*") if p.is_file()):
        if file.name not in FREE:
            found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def repeated(folder: Path) -> int:
    """Answers that were drawn more than once."""
    counts = Counter((folder / "work.txt").read_text().splitlines())
    return sum(counts.values()) - len(counts)


def worker(config: dict[str, Any], model: Watched, found: Sequence[Death], wanted: dict[str, str], file: Path) -> int:
    """The process that resumes after each of the deaths `found`, and writes what came of each to `file`."""

    def act() -> None:
        file.touch()
        for death in found:
            note(file, json.dumps(gone_on(config, model, death, wanted)))

    return forked(act)


def gone_on(config: dict[str, Any], model: Watched, death: Death, wanted: dict[str, str]) -> dict[str, Any]:
    """What comes of a job that was killed and is resumed."""
    folder = Path(config["folder"]) / f"killed-{death.point}"
    ends = [death.status]
    if death.number % 5 == 4:  # and once more while it resumes
        ends.append(attempt(config, model, folder, {7: MODES[(death.number + 1) % 3]}))
    ends.append(attempt(config, model, folder, {}))
    found = contents(folder)
    other = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
    result = {"point": death.point, "mode": death.mode, "ends": ends, "differ": other, "repeated": repeated(folder)}
    shutil.rmtree(folder)
    return result


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    base = Path(config["folder"])
    logs._BATCH, logs._QUICK_SECONDS, logs._SYNC_SECONDS = 4, 0.0, float("inf")  # as many calls on any machine
    adapt._CHECKPOINT_SECONDS = 0.0
    gradients.TOKENS = {"cpu": 256}
    grading.make_judge = lambda *_: InProcessJudge()  # type: ignore[assignment]
    model = Watched(config["model"], HFOptions(device="cpu", threads=1, batch_size=8), name="tiny")
    warm(config, model, base / "warm")
    assert attempt(config, model, base / "whole", {}) == 0
    wanted = contents(base / "whole")
    calls = len((base / "whole" / "calls.txt").read_text().splitlines())
    print(json.dumps({"calls": calls, "files": len(wanted), "repeated": repeated(base / "whole")}), flush=True)
    rng = random.Random(0)
    points = sorted(rng.sample(range(1, calls + 1), config["points"]))
    deaths = {point: MODES[number % 3] for number, point in enumerate(points)}
    statuses = leavings(config, model, base / "copied", deaths)
    assert contents(base / "copied") == wanted
    found = [Death(number, point, mode, statuses[point]) for number, (point, mode) in enumerate(deaths.items())]
    files = [base / f"results-{w}.jsonl" for w in range(WORKERS)]
    workers = [worker(config, model, found[w::WORKERS], wanted, file) for w, file in enumerate(files)]
    assert [status_of(each) for each in workers] == [0] * WORKERS
    results = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    for result in sorted(results, key=lambda r: r["point"]):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
